//! The content on SQLite.

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Row, Sqlite, query::Query, sqlite::SqliteRow};

use super::{Database, database::Failure};
use crate::{
    adapters::tables::{
        self, Cell, Column, Table, Type, all_cells, changed_cells, columns, record, report,
    },
    domain::content::{Pipeline, Record},
    metrics::Metrics,
    ports::{Kept, Pipelines, Repository, See, StoreError},
};

/// Users, projects, contracts, earnings and articles in SQLite.
#[derive(Clone, Debug)]
pub struct SqliteContent {
    database: Database,
    metrics: Metrics,
}

impl SqliteContent {
    /// A store over `database`.
    #[must_use]
    pub fn new(database: Database, metrics: Metrics) -> Self {
        Self { database, metrics }
    }

    async fn query<F: Future>(&self, intent: &'static str, query: F) -> F::Output {
        self.metrics
            .store_query(NODE.to_owned(), intent, query)
            .await
    }
}

// One file has one state: every read sees every write.
impl<T: Table> Repository<T> for SqliteContent {
    fn find<'a>(
        &'a self,
        id: &'a str,
        _: &'a See,
    ) -> BoxFuture<'a, Result<Option<Record<T>>, StoreError>> {
        Box::pin(self.query(
            "read",
            self.database.guard(async move {
                let query = sqlx::query(AssertSqlSafe(tables::select::<T>())).bind(id);
                let row = query.fetch_optional(self.database.read()).await?;
                row.as_ref().map(read).transpose()
            }),
        ))
    }

    fn list<'a>(
        &'a self,
        fields: &'a [(&'static str, String)],
        limit: u32,
        _: &'a See,
    ) -> BoxFuture<'a, Result<Vec<Record<T>>, StoreError>> {
        Box::pin(self.query(
            "read",
            self.database.guard(async move {
                let sql = tables::list::<T>(fields)
                    .ok_or_else(|| Failure::Corrupt(format!("{fields:?} of {}", T::NAME)))?;
                let mut query = sqlx::query(AssertSqlSafe(sql));
                for (_, value) in fields {
                    query = query.bind(value);
                }
                let rows = query.bind(limit).fetch_all(self.database.read()).await?;
                rows.iter().map(read).collect()
            }),
        ))
    }

    fn insert<'a>(&'a self, record: &'a Record<T>) -> BoxFuture<'a, Result<Kept<T>, StoreError>> {
        Box::pin(self.query(
            "write",
            self.database.transaction(async move |tx| {
                let query = sqlx::query(AssertSqlSafe(tables::insert::<T>()));
                let query = bind(query, all_cells(record));
                Ok(match related(query.fetch_optional(&mut **tx).await)? {
                    None => Kept::Unrelated,
                    Some(None) => Kept::Taken,
                    Some(Some(row)) => Kept::Done(Box::new(read(&row)?), None),
                })
            }),
        ))
    }

    fn update<'a>(&'a self, record: &'a Record<T>) -> BoxFuture<'a, Result<Kept<T>, StoreError>> {
        Box::pin(self.query(
            "write",
            self.database.transaction(async move |tx| {
                let query = sqlx::query(AssertSqlSafe(tables::update::<T>()));
                let query = bind(query, changed_cells(record));
                match related(query.fetch_optional(&mut **tx).await)? {
                    None => return Ok(Kept::Unrelated),
                    Some(None) => {}
                    Some(Some(row)) => return Ok(Kept::Done(Box::new(read(&row)?), None)),
                }
                let query = sqlx::query(AssertSqlSafe(tables::version::<T>()));
                let row = query.bind(&record.id).fetch_optional(&mut **tx).await?;
                Ok(match row {
                    Some(row) => Kept::Stale(row.try_get("version").map_err(Failure::from)?),
                    None => Kept::Missing,
                })
            }),
        ))
    }
}

impl Pipelines for SqliteContent {
    fn run(
        &self,
        pipeline: Pipeline,
    ) -> BoxFuture<'_, Result<Vec<Map<String, Value>>, StoreError>> {
        Box::pin(self.query(
            "read",
            self.database.guard(async move {
                let report = report(pipeline);
                let rows = sqlx::query(report.sql).fetch_all(self.database.read());
                let lines = rows.await?;
                let line = |row: &SqliteRow| {
                    let cells = cells(row, report.columns.iter().copied())?;
                    report.line(cells).map_err(Failure::Corrupt)
                };
                lines.iter().map(line).collect()
            }),
        ))
    }
}

/// `None` when the statement names a row that is not there: an answer, not trouble.
fn related<T>(result: Result<T, sqlx::Error>) -> Result<Option<T>, sqlx::Error> {
    match result {
        Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => Ok(None),
        other => other.map(Some),
    }
}

/// The only node, in metrics.
const NODE: &str = "sqlite";

type Prepared<'q> = Query<'q, Sqlite, sqlx::sqlite::SqliteArguments>;

fn bind(mut query: Prepared<'_>, cells: Vec<Cell>) -> Prepared<'_> {
    for cell in cells {
        query = match cell {
            Cell::Text(text) => query.bind(text),
            Cell::Int(int) => query.bind(int),
        };
    }
    query
}

fn read<T: Table>(row: &SqliteRow) -> Result<Record<T>, Failure> {
    record(cells(row, columns::<T>())?).map_err(Failure::Corrupt)
}

fn cells(row: &SqliteRow, columns: impl Iterator<Item = Column>) -> Result<Vec<Cell>, Failure> {
    let cell = |(index, (_, kind)): (usize, Column)| {
        Ok(match kind {
            Type::Text => Cell::Text(row.try_get(index)?),
            Type::Int => Cell::Int(row.try_get(index)?),
        })
    };
    columns.enumerate().map(cell).collect()
}
