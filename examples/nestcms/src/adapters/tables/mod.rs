//! The tables of the content, in words that SQLite and PostgreSQL share.

mod content;
pub(super) mod outbox;
mod pipelines;
mod sql;

pub(super) use self::{
    pipelines::report,
    sql::{insert, list, select, update, version},
};
use crate::domain::{
    content::{Content, Record},
    event::Timestamp,
    money::{Currency, Money},
};

/// A value of a column.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Int(i64),
}

/// What a column holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Type {
    Text,
    Int,
}

/// A column: its name and what it holds.
pub(super) type Column = (&'static str, Type);

/// A kind of content that has a table.
pub(super) trait Table: Content {
    const NAME: &'static str;
    /// The columns of the content; those of every record come on top.
    const COLUMNS: &'static [Column];
    /// Columns that a new row needs beside, with their values in SQL.
    const CONSTANTS: &'static [(&'static str, &'static str)] = &[];

    /// In the order of [`COLUMNS`](Self::COLUMNS).
    fn cells(&self) -> Vec<Cell>;

    /// # Errors
    ///
    /// What cannot be read.
    fn read(cells: &mut Cells) -> Result<Self, String>;
}

/// The values of a row, read from the first to the last.
#[derive(Debug)]
pub(super) struct Cells(std::vec::IntoIter<Cell>);

impl Cells {
    pub(super) fn new(cells: Vec<Cell>) -> Self {
        Self(cells.into_iter())
    }

    fn text(&mut self) -> Result<String, String> {
        match self.0.next() {
            Some(Cell::Text(text)) => Ok(text),
            other => Err(format!("{other:?} where a text should be")),
        }
    }

    fn int(&mut self) -> Result<i64, String> {
        match self.0.next() {
            Some(Cell::Int(int)) => Ok(int),
            other => Err(format!("{other:?} where a number should be")),
        }
    }

    /// Minor units, then the currency.
    fn money(&mut self) -> Result<Money, String> {
        let (minor, code) = (self.int()?, self.text()?);
        let currency =
            Currency::from_code(&code).ok_or_else(|| format!("unknown currency {code}"))?;
        Money::from_minor(minor, currency).ok_or_else(|| format!("amount {minor} out of range"))
    }

    fn time(&mut self) -> Result<Timestamp, String> {
        Ok(Timestamp::from_millis(
            u64::try_from(self.int()?).unwrap_or(0),
        ))
    }
}

/// All columns of a record, in the order in which rows are read.
pub(super) fn columns<T: Table>() -> impl Iterator<Item = Column> {
    let own = T::COLUMNS.iter().copied();
    [("id", Type::Text)].into_iter().chain(own).chain(TIMES)
}

/// A row of [`columns`].
pub(super) fn record<T: Table>(cells: Vec<Cell>) -> Result<Record<T>, String> {
    let mut cells = Cells::new(cells);
    let id = cells.text()?;
    let mut rest = || {
        Ok(Record {
            content: T::read(&mut cells)?,
            created_at: cells.time()?,
            updated_at: cells.time()?,
            version: cells.int()?,
            id: id.clone(),
        })
    };
    rest().map_err(|what: String| format!("{} {id}: {what}", T::KIND))
}

/// What `insert` takes: the values of [`columns`].
pub(super) fn all_cells<T: Table>(record: &Record<T>) -> Vec<Cell> {
    let mut cells = vec![Cell::Text(record.id.clone())];
    cells.extend(record.content.cells());
    cells.push(millis(record.created_at));
    cells.extend([millis(record.updated_at), Cell::Int(record.version)]);
    cells
}

/// What `update` takes: the same without the time at which the record was made.
pub(super) fn changed_cells<T: Table>(record: &Record<T>) -> Vec<Cell> {
    let mut cells = vec![Cell::Text(record.id.clone())];
    cells.extend(record.content.cells());
    cells.extend([millis(record.updated_at), Cell::Int(record.version)]);
    cells
}

fn millis(time: Timestamp) -> Cell {
    Cell::Int(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

/// What every record ends with.
const TIMES: [Column; 3] = [
    ("created_at", Type::Int),
    ("updated_at", Type::Int),
    ("version", Type::Int),
];
