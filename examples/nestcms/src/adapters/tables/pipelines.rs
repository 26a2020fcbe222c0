//! The aggregations.

use serde_json::{Map, Value};

use super::{Cell, Cells, Column, Type};
use crate::domain::content::Pipeline;

/// A pipeline as SQL, and the columns of its rows.
pub(in crate::adapters) struct Report {
    pub(in crate::adapters) sql: &'static str,
    pub(in crate::adapters) columns: &'static [Column],
}

/// The report behind a pipeline. Filters and sums are the store's work: what comes back is what is
/// shown. Ids lead each order, and every join is by an index.
pub(in crate::adapters) const fn report(pipeline: Pipeline) -> Report {
    match pipeline {
        Pipeline::UserLookups => Report {
            sql: "SELECT u.id, u.name, u.role, \
                    (SELECT COUNT(*) FROM projects p WHERE p.owner_id = u.id), \
                    (SELECT COUNT(*) FROM contracts c WHERE c.employee_id = u.id) \
                  FROM users u ORDER BY u.id LIMIT 1000",
            columns: &[
                ("id", Type::Text),
                ("name", Type::Text),
                ("role", Type::Text),
                ("projects", Type::Int),
                ("contracts", Type::Int),
            ],
        },
        Pipeline::ProjectRelations => Report {
            sql: "SELECT p.id, p.name, p.owner_id, COALESCE(u.name, ''), \
                    (SELECT COUNT(*) FROM contracts c WHERE c.project_id = p.id), \
                    (SELECT COUNT(*) FROM articles a WHERE a.project_id = p.id) \
                  FROM projects p LEFT JOIN users u ON u.id = p.owner_id \
                  ORDER BY p.id LIMIT 1000",
            columns: &[
                ("id", Type::Text),
                ("name", Type::Text),
                ("owner_id", Type::Text),
                ("owner_name", Type::Text),
                ("contracts", Type::Int),
                ("articles", Type::Int),
            ],
        },
        Pipeline::ContractEmployee => Report {
            sql: "SELECT c.id, c.title, c.status, p.name, c.employee_id, COALESCE(u.name, '') \
                  FROM contracts c JOIN projects p ON p.id = c.project_id \
                  LEFT JOIN users u ON u.id = c.employee_id ORDER BY c.id LIMIT 1000",
            columns: &[
                ("id", Type::Text),
                ("title", Type::Text),
                ("status", Type::Text),
                ("project_name", Type::Text),
                ("employee_id", Type::Text),
                ("employee_name", Type::Text),
            ],
        },
        Pipeline::Earnings => Report {
            sql: "SELECT user_id, COUNT(*), CAST(SUM(value_minor) AS BIGINT), currency \
                  FROM earnings GROUP BY user_id, currency ORDER BY user_id, currency LIMIT 1000",
            columns: &[
                ("user_id", Type::Text),
                ("earnings", Type::Int),
                (MONEY, Type::Int),
                ("currency", Type::Text),
            ],
        },
        Pipeline::Statistics => Report {
            sql: "SELECT 'articles' AS what, COUNT(*) FROM articles \
                  UNION ALL SELECT 'contracts', COUNT(*) FROM contracts \
                  UNION ALL SELECT 'earnings', COUNT(*) FROM earnings \
                  UNION ALL SELECT 'projects', COUNT(*) FROM projects \
                  UNION ALL SELECT 'users', COUNT(*) FROM users ORDER BY 1",
            columns: &[("what", Type::Text), ("count", Type::Int)],
        },
    }
}

impl Report {
    /// A row as it is shown.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub(in crate::adapters) fn line(&self, cells: Vec<Cell>) -> Result<Map<String, Value>, String> {
        let mut line = Map::new();
        let mut cells = Cells::new(cells);
        let mut columns = self.columns.iter();
        while let Some((name, kind)) = columns.next() {
            let value = match kind {
                Type::Int if *name == MONEY => {
                    columns.next();
                    serde_json::to_value(cells.money()?).map_err(|e| e.to_string())?
                }
                Type::Int => cells.int()?.into(),
                Type::Text => cells.text()?.into(),
            };
            line.insert((*name).to_owned(), value);
        }
        Ok(line)
    }
}

/// The column of an amount; its currency is the next.
const MONEY: &str = "value";
