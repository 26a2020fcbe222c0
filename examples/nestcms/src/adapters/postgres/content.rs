//! The content on PostgreSQL.

use futures_util::future::BoxFuture;
use resilience_tower::read_write::postgres::Transaction;
use serde_json::{Map, Value};
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{ToSql, Type as SqlType},
};

use super::cluster::{Client, Committed, Failure, Postgres, commit, roll_back};
use crate::{
    adapters::tables::{
        self, Cell, Column, Table, Type, all_cells, changed_cells, columns, record, report,
    },
    domain::content::{Pipeline, Record},
    ports::{Kept, Mark, Pipelines, Repository, See, StoreError},
};

/// Users, projects, contracts, earnings and articles in PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresContent {
    postgres: Postgres,
}

impl PostgresContent {
    /// A store over `postgres`.
    #[must_use]
    pub fn new(postgres: Postgres) -> Self {
        Self { postgres }
    }
}

impl<T: Table> Repository<T> for PostgresContent {
    fn find<'a>(
        &'a self,
        id: &'a str,
        see: &'a See,
    ) -> BoxFuture<'a, Result<Option<Record<T>>, StoreError>> {
        Box::pin(self.postgres.read(see, move |client| async move {
            let row = client.query_opt(&tables::select::<T>(), &[&id]).await?;
            row.as_ref().map(read).transpose()
        }))
    }

    fn list<'a>(
        &'a self,
        fields: &'a [(&'static str, String)],
        limit: u32,
        see: &'a See,
    ) -> BoxFuture<'a, Result<Vec<Record<T>>, StoreError>> {
        Box::pin(self.postgres.read(see, move |client| async move {
            let sql = tables::list::<T>(fields)
                .ok_or_else(|| Failure::Corrupt(format!("{fields:?} of {}", T::NAME)))?;
            let limit = i64::from(limit);
            let mut values: Vec<&(dyn ToSql + Sync)> = Vec::new();
            for (_, value) in fields {
                values.push(value);
            }
            values.push(&limit);
            let rows = client.query(&sql, &values).await?;
            rows.iter().map(read).collect()
        }))
    }

    fn insert<'a>(&'a self, record: &'a Record<T>) -> BoxFuture<'a, Result<Kept<T>, StoreError>> {
        Box::pin(async move {
            let work = move |mut client: Client| async move {
                let tx = client.transaction().await?;
                let kept = insert(&tx, record).await?;
                end(tx, kept).await
            };
            self.postgres.write(work).await.map(marked)
        })
    }

    fn update<'a>(&'a self, record: &'a Record<T>) -> BoxFuture<'a, Result<Kept<T>, StoreError>> {
        Box::pin(async move {
            let work = move |mut client: Client| async move {
                let tx = client.transaction().await?;
                let kept = update(&tx, record).await?;
                end(tx, kept).await
            };
            self.postgres.write(work).await.map(marked)
        })
    }
}

/// A statement that failed has failed its transaction.
async fn end<T>(tx: Transaction<'_>, kept: Kept<T>) -> Result<Committed<Kept<T>>, Failure> {
    match kept {
        Kept::Done(..) => commit(tx, kept).await,
        _ => roll_back(tx, kept).await,
    }
}

async fn insert<T: Table>(tx: &Transaction<'_>, record: &Record<T>) -> Result<Kept<T>, Failure> {
    let cells = all_cells(record);
    let sql = tables::insert::<T>();
    let row = tx.query_opt(&sql, &parameters(&cells)).await;
    Ok(match related(row)? {
        None => Kept::Unrelated,
        Some(None) => Kept::Taken,
        Some(Some(row)) => Kept::Done(Box::new(read(&row)?), None),
    })
}

async fn update<T: Table>(tx: &Transaction<'_>, record: &Record<T>) -> Result<Kept<T>, Failure> {
    let cells = changed_cells(record);
    let sql = tables::update::<T>();
    let row = tx.query_opt(&sql, &parameters(&cells)).await;
    match related(row)? {
        None => return Ok(Kept::Unrelated),
        Some(None) => {}
        Some(Some(row)) => return Ok(Kept::Done(Box::new(read(&row)?), None)),
    }
    let row = tx.query_opt(&tables::version::<T>(), &[&record.id]).await?;
    Ok(match row {
        Some(row) => Kept::Stale(row.try_get(0)?),
        None => Kept::Missing,
    })
}

/// `None` when the statement names a row that is not there: an answer, not trouble.
fn related<T>(result: Result<T, tokio_postgres::Error>) -> Result<Option<T>, Failure> {
    match result {
        Err(error) if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => Ok(None),
        other => Ok(other.map(Some)?),
    }
}

impl Pipelines for PostgresContent {
    fn run(
        &self,
        pipeline: Pipeline,
    ) -> BoxFuture<'_, Result<Vec<Map<String, Value>>, StoreError>> {
        let work = move |client: Client| async move {
            let report = report(pipeline);
            let rows = client.query(report.sql, &[]).await?;
            let line = |row: &Row| {
                let cells = cells(row, report.columns.iter().copied())?;
                report.line(cells).map_err(Failure::Corrupt)
            };
            rows.iter().map(line).collect()
        };
        let (name, replica) = (pipeline.as_str(), pipeline.replica());
        Box::pin(self.postgres.report(name, replica, work))
    }
}

fn marked<T>((kept, mark): (Kept<T>, Mark)) -> Kept<T> {
    match kept {
        Kept::Done(record, _) => Kept::Done(record, Some(mark)),
        other => other,
    }
}

fn parameters(cells: &[Cell]) -> Vec<&(dyn ToSql + Sync)> {
    cells.iter().map(parameter).collect()
}

fn parameter(cell: &Cell) -> &(dyn ToSql + Sync) {
    match cell {
        Cell::Text(text) => text,
        Cell::Int(int) => int,
    }
}

fn read<T: Table>(row: &Row) -> Result<Record<T>, Failure> {
    record(cells(row, columns::<T>())?).map_err(Failure::Corrupt)
}

fn cells(row: &Row, columns: impl Iterator<Item = Column>) -> Result<Vec<Cell>, Failure> {
    let cell = |(index, (name, kind)): (usize, Column)| {
        let found = row
            .columns()
            .get(index)
            .map(|column| column.type_().clone());
        match (kind, found) {
            (Type::Text, Some(SqlType::TEXT)) => Ok(Cell::Text(row.try_get(index)?)),
            (Type::Int, Some(SqlType::INT8)) => Ok(Cell::Int(row.try_get(index)?)),
            (_, found) => Err(Failure::Corrupt(format!("column {name} is {found:?}"))),
        }
    };
    columns.enumerate().map(cell).collect()
}
