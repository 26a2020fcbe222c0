//! What the content management keeps: people, projects, contracts, earnings and articles.

use std::fmt::Debug;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{event::Timestamp, money::Money};

/// A piece of content under its id, with the count of its changes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Record<T> {
    /// Its id.
    pub id: String,
    /// What it says.
    #[serde(flatten)]
    pub content: T,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// 1 at first; goes up by one with each change.
    pub version: i64,
}

/// A kind of content.
pub trait Content:
    Clone + Debug + DeserializeOwned + Eq + Serialize + Send + Sync + 'static
{
    /// Its name in keys of the cache.
    const KIND: &'static str;
    /// The field that names whose it is.
    const HOLDER: &'static str;

    /// Whose it is; `id` is that of its record.
    fn holder<'a>(&'a self, id: &'a str) -> &'a str;

    /// Whether every user may read it.
    fn is_public(&self) -> bool {
        false
    }
}

/// A person, as others may see them. Password and attempts are the business of the login.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Profile {
    /// Login name, in lower case.
    pub email: String,
    /// What they are called.
    pub name: String,
    /// One of [`Profile::ROLES`].
    pub role: String,
}

/// A project.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner_id: String,
    /// What it is about.
    pub description: String,
    /// One of [`Project::STATES`].
    pub status: String,
}

/// A contract of a project.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Contract {
    /// The project.
    pub project_id: String,
    /// Who does the work.
    pub employee_id: String,
    /// What is to be done.
    pub title: String,
    /// What it is worth.
    pub value: Money,
    /// One of [`Contract::STATES`].
    pub status: String,
}

/// What somebody earned by a contract.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Earning {
    /// The contract.
    pub contract_id: String,
    /// Who earned it.
    pub user_id: String,
    /// How much.
    pub value: Money,
}

/// An article.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Article {
    /// The project it belongs to.
    pub project_id: String,
    /// Who wrote it.
    pub author_id: String,
    /// Its title.
    pub title: String,
    /// Its text.
    pub body: String,
    /// One of [`Article::STATES`].
    pub status: String,
}

impl Profile {
    /// What a user may be.
    pub const ROLES: [&'static str; 3] = ["user", "editor", "admin"];
}

impl Project {
    /// What a project may be.
    pub const STATES: [&'static str; 2] = ["active", "archived"];
}

impl Contract {
    /// What a contract may be.
    pub const STATES: [&'static str; 3] = ["draft", "active", "ended"];
}

impl Article {
    /// What an article may be; everybody reads what is published.
    pub const STATES: [&'static str; 2] = ["draft", "published"];
}

impl Content for Profile {
    const KIND: &'static str = "user";
    const HOLDER: &'static str = "id";

    fn holder<'a>(&'a self, id: &'a str) -> &'a str {
        id
    }
}

impl Content for Project {
    const KIND: &'static str = "project";
    const HOLDER: &'static str = "owner_id";

    fn holder<'a>(&'a self, _: &'a str) -> &'a str {
        &self.owner_id
    }
}

impl Content for Contract {
    const KIND: &'static str = "contract";
    const HOLDER: &'static str = "employee_id";

    fn holder<'a>(&'a self, _: &'a str) -> &'a str {
        &self.employee_id
    }
}

impl Content for Earning {
    const KIND: &'static str = "earning";
    const HOLDER: &'static str = "user_id";

    fn holder<'a>(&'a self, _: &'a str) -> &'a str {
        &self.user_id
    }
}

impl Content for Article {
    const KIND: &'static str = "article";
    const HOLDER: &'static str = "author_id";

    fn holder<'a>(&'a self, _: &'a str) -> &'a str {
        &self.author_id
    }

    fn is_public(&self) -> bool {
        self.status == "published"
    }
}

/// The aggregations, each with the replica that it is meant for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Pipeline {
    /// Users with what they hold.
    UserLookups,
    /// Projects with their owners and what belongs to them.
    ProjectRelations,
    /// Contracts with who does the work.
    ContractEmployee,
    /// Sums by user and currency.
    Earnings,
    /// How much there is of everything.
    Statistics,
}

impl Pipeline {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::UserLookups,
        Self::ProjectRelations,
        Self::ContractEmployee,
        Self::Earnings,
        Self::Statistics,
    ];

    /// The name in paths, keys and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserLookups => "user-lookups",
            Self::ProjectRelations => "project-relations",
            Self::ContractEmployee => "contract-employee",
            Self::Earnings => "earnings",
            Self::Statistics => "statistics",
        }
    }

    /// The pipeline of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == name)
    }

    /// Which of the replicas it is meant for, counted from 0.
    #[must_use]
    pub const fn replica(self) -> usize {
        match self {
            Self::UserLookups | Self::ContractEmployee => 0,
            Self::ProjectRelations | Self::Statistics => 1,
            Self::Earnings => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Currency;

    #[test]
    fn a_record_survives_its_json_form() {
        let currency = Currency::from_code("KWD").expect("a currency");
        let record = Record {
            id: "e".to_owned(),
            content: Earning {
                contract_id: "c".to_owned(),
                user_id: "u".to_owned(),
                value: Money::parse("1.25", currency).expect("an amount"),
            },
            created_at: Timestamp::from_millis(1),
            updated_at: Timestamp::from_millis(2),
            version: 3,
        };
        let text = serde_json::to_string(&record).expect("JSON");
        assert!(
            text.contains(r#""value":{"amount":"1.250","currency":"KWD"}"#),
            "{text}"
        );
        let back: Record<Earning> = serde_json::from_str(&text).expect("the same");
        assert_eq!(back, record);
    }

    #[test]
    fn a_pipeline_survives_its_own_name() {
        for pipeline in Pipeline::ALL {
            assert_eq!(Pipeline::from_name(pipeline.as_str()), Some(pipeline));
        }
    }
}
