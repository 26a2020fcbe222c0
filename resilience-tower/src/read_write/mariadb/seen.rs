//! What a node says of itself.

use std::collections::BTreeMap;

use mysql_async::{
    Conn, Row, from_row_opt,
    prelude::{FromRow, Queryable},
};
use resilience_core::route::{Fork, Gtid, GtidSet, Role};

use super::{
    epochs::{Epochs, history},
    error::Error,
};

/// The epoch of all nodes without a table.
const UNCOUNTED: u64 = 1;

pub(super) struct Seen {
    pub(super) role: Role,
    pub(super) epoch: u64,
    pub(super) position: GtidSet,
    pub(super) history: Option<std::sync::Arc<[Fork<GtidSet>]>>,
}

/// Settings and positions of a server, in the order in which they are asked for.
type Variables = (bool, bool, bool, bool, u32, String, String, String);

const VARIABLES: &str = "SELECT @@GLOBAL.read_only, @@GLOBAL.gtid_strict_mode, @@GLOBAL.log_bin, \
     @@GLOBAL.log_slave_updates, @@GLOBAL.server_id, @@GLOBAL.gtid_slave_pos, \
     @@GLOBAL.gtid_current_pos, @@GLOBAL.gtid_binlog_state";

const STATUS: &str = "SHOW ALL SLAVES STATUS";

impl Seen {
    /// `None`: a promotion was under way.
    pub(super) async fn ask(
        connection: &mut Conn,
        epochs: Option<&Epochs>,
    ) -> Result<Option<Self>, Error> {
        // All in one message. The epoch is asked before and after: role and position are of it.
        let question = match epochs {
            Some(epochs) => format!(
                "{}; {VARIABLES}; {STATUS}; SELECT {}",
                epochs.rows(),
                epochs.newest()
            ),
            None => format!("{VARIABLES}; {STATUS}"),
        };
        let mut answer = connection.query_iter(question).await?;
        let rows: Option<Vec<Row>> = match epochs {
            Some(_) => Some(answer.collect().await?),
            None => None,
        };
        let variables: Vec<Row> = answer.collect().await?;
        let follows: Vec<Row> = answer.collect().await?;
        let after: Vec<Row> = match epochs {
            Some(_) => answer.collect().await?,
            None => Vec::new(),
        };
        drop(answer);
        let rows: Option<Vec<(u64, String)>> = rows.map(typed).transpose()?;
        let variables: Vec<Variables> = typed(variables)?;
        let after: Option<u64> = typed(after)?.pop();
        let variables = variables.into_iter().next().ok_or(Error::Answer)?;
        let (epoch, history) = match rows {
            Some(rows) => {
                let newest = rows.last().map_or(0, |(epoch, _)| *epoch);
                if after != Some(newest) {
                    return Ok(None);
                }
                (newest, Some(history(&rows)?))
            }
            None => (UNCOUNTED, None),
        };
        let (role, position) = placed(variables, !follows.is_empty())?;
        Ok(Some(Self {
            role,
            epoch,
            position,
            history,
        }))
    }
}

/// Rows of the types that are asked for: a table of somebody else's may have others.
fn typed<T: FromRow>(rows: Vec<Row>) -> Result<Vec<T>, Error> {
    let rows = rows.into_iter().map(from_row_opt);
    rows.collect::<Result<_, _>>().map_err(|_| Error::Answer)
}

fn placed(variables: Variables, follows: bool) -> Result<(Role, GtidSet), Error> {
    let (read_only, strict, logs, logs_updates, server, applied, current, state) = variables;
    if !strict {
        return Err(Error::Setting {
            name: "gtid_strict_mode",
        });
    }
    let role = match read_only || follows {
        true => Role::Replica,
        false => Role::Primary,
    };
    let position = match role {
        Role::Primary if !logs => return Err(Error::Setting { name: "log_bin" }),
        Role::Primary => GtidSet::state(&state)?,
        _ if logs && logs_updates => applied_state(server, &state, &current)?,
        _ => GtidSet::last(&applied)?,
    };
    Ok((role, position))
}

/// The state of the binary log without what is not applied yet.
fn applied_state(server: u32, state: &str, current: &str) -> Result<GtidSet, Error> {
    let (state, current) = (GtidSet::state(state)?, GtidSet::last(current)?);
    let applied: BTreeMap<u32, u64> = current
        .ids()
        .iter()
        .map(|id| (id.domain, id.sequence))
        .collect();
    let capped = state.ids().iter().filter_map(|id| {
        let sequence = match applied.get(&id.domain) {
            Some(applied) => id.sequence.min(*applied),
            // Nothing was ever applied: what it wrote itself is there.
            None if id.server == server => id.sequence,
            None => return None,
        };
        Some(Gtid { sequence, ..*id })
    });
    let capped: Vec<String> = capped.map(|id| id.to_string()).collect();
    Ok(GtidSet::state(&capped.join(","))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(read_only: bool, state: &str, current: &str) -> Variables {
        let applied = current.into();
        (
            read_only,
            true,
            true,
            true,
            2,
            applied,
            current.into(),
            state.into(),
        )
    }

    #[test]
    fn who_follows_nobody_and_takes_writes_is_the_primary() {
        let role = |read_only, follows| placed(variables(read_only, "", ""), follows).unwrap().0;
        assert_eq!(role(false, false), Role::Primary);
        assert_eq!(role(true, false), Role::Replica);
        // A replica that somebody forgot to make read-only.
        assert_eq!(role(false, true), Role::Replica);
    }

    #[test]
    fn a_replica_is_where_it_has_applied_all_and_not_where_its_log_is() {
        let (_, position) = placed(variables(true, "0-1-100,0-2-90", "0-1-99"), true).unwrap();
        assert_eq!(position, GtidSet::state("0-1-99,0-2-90").unwrap());
        // Nothing was applied yet, and the first transaction is in the log.
        let (_, position) = placed(variables(true, "0-1-101,0-2-100", ""), true).unwrap();
        assert_eq!(position, GtidSet::state("0-2-100").unwrap());
    }

    #[test]
    fn the_primary_is_where_its_log_is() {
        let (_, position) = placed(variables(false, "0-1-100,0-2-101", "0-2-101"), false).unwrap();
        assert_eq!(position, GtidSet::state("0-1-100,0-2-101").unwrap());
    }

    #[test]
    fn what_the_positions_rest_on_must_be_set() {
        let mut loose = variables(false, "", "");
        loose.1 = false;
        assert!(matches!(
            placed(loose, false),
            Err(Error::Setting {
                name: "gtid_strict_mode"
            })
        ));
        let mut unlogged = variables(false, "", "");
        unlogged.2 = false;
        assert!(matches!(
            placed(unlogged, false),
            Err(Error::Setting { name: "log_bin" })
        ));
        let mut last = variables(true, "", "0-1-7");
        last.3 = false;
        assert_eq!(
            placed(last, true).unwrap().1,
            GtidSet::last("0-1-7").unwrap()
        );
    }
}
