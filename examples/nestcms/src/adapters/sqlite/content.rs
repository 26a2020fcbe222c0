//! Projects and contracts, read only so far.

use serde::Serialize;
use sqlx::Row;

use super::Database;
use crate::ports::StoreError;

/// A project.
#[derive(Clone, Debug, Serialize)]
pub struct Project {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A contract of a project.
#[derive(Clone, Debug, Serialize)]
pub struct Contract {
    /// Its id.
    pub id: String,
    /// Its project.
    pub project_id: String,
    /// Its title.
    pub title: String,
}

/// Reads projects and contracts.
#[derive(Clone, Debug)]
pub struct ContentStore {
    database: Database,
}

impl ContentStore {
    /// A store over `database`.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// All projects.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does not answer.
    pub async fn projects(&self) -> Result<Vec<Project>, StoreError> {
        let work = async {
            let rows = sqlx::query("SELECT id, name FROM projects ORDER BY id LIMIT 100")
                .fetch_all(self.database.read())
                .await?;
            let project = |row: &sqlx::sqlite::SqliteRow| {
                Ok(Project {
                    id: row.try_get("id")?,
                    name: row.try_get("name")?,
                })
            };
            rows.iter().map(project).collect()
        };
        self.database.guard(work).await
    }

    /// All contracts.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database does not answer.
    pub async fn contracts(&self) -> Result<Vec<Contract>, StoreError> {
        let work = async {
            let rows =
                sqlx::query("SELECT id, project_id, title FROM contracts ORDER BY id LIMIT 100")
                    .fetch_all(self.database.read())
                    .await?;
            let contract = |row: &sqlx::sqlite::SqliteRow| {
                Ok(Contract {
                    id: row.try_get("id")?,
                    project_id: row.try_get("project_id")?,
                    title: row.try_get("title")?,
                })
            };
            rows.iter().map(contract).collect()
        };
        self.database.guard(work).await
    }
}
