//! What a node says of itself.

use resilience_core::{
    balance::hash_key,
    route::{Offset, Role},
};

use super::{error::Error, sentinels::Address};

/// The answer to `INFO server` and `INFO replication`, as far as it matters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Info {
    pub(super) role: Role,
    pub(super) position: Offset,
    /// The replication id.
    pub(super) id: Box<str>,
    pub(super) incarnation: u64,
    /// Of a replica: whom it follows, and whether it hears of them.
    pub(super) follows: Option<(Address, bool)>,
}

impl Info {
    pub(super) fn parse(server: &str, replication: &str) -> Result<Self, Error> {
        let missing = |name| move || Error::Info { missing: name };
        let text = |name| field(replication, name).ok_or_else(missing(name));
        let role = match text("role")? {
            "master" => Role::Primary,
            _ => Role::Replica,
        };
        let id = text("master_replid")?;
        let run = field(server, "run_id").ok_or_else(missing("run_id"))?;
        let follows = match role {
            Role::Replica => {
                let port = text("master_port")?.parse().ok();
                let port = port.ok_or_else(missing("master_port"))?;
                let up = text("master_link_status")? == "up";
                Some((Address::new(text("master_host")?, port), up))
            }
            _ => None,
        };
        let position = Offset::from_info(replication).map_err(|_| Error::Info {
            missing: "replication offset",
        })?;
        Ok(Self {
            role,
            position,
            id: id.into(),
            incarnation: hash_key(format!("{run} {id}").as_bytes()),
            follows,
        })
    }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines();
    lines.find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}
