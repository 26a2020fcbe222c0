//! The bodies of the content endpoints.

use super::{fields::Fields, problem::Problem};
use crate::{
    auth::{CurrentUser, Role},
    domain::content::{Article, Content, Contract, Earning, Profile, Project, Record},
};

/// Content that comes in a request.
pub(super) trait Body: Content {
    /// The fields of the body.
    const KNOWN: &'static [&'static str];
    /// The fields by which lists are narrowed down.
    const FILTERS: &'static [&'static str];
    /// Who may make and change it beside its holder: nobody but these.
    const ONLY: &'static [Role] = &[];

    /// Reads the body; `before` is the record that it replaces.
    fn read(
        fields: &Fields,
        user: &CurrentUser,
        before: Option<&Record<Self>>,
    ) -> Result<Self, Problem>;
}

impl Body for Profile {
    const KNOWN: &'static [&'static str] = &["email", "name", "role"];
    const FILTERS: &'static [&'static str] = &["role"];

    fn read(
        fields: &Fields,
        user: &CurrentUser,
        before: Option<&Record<Self>>,
    ) -> Result<Self, Problem> {
        let email = fields.text("email", MAX_NAME)?.trim().to_lowercase();
        if !email.contains('@') {
            return Err(Problem::invalid("email", email, "an e-mail address"));
        }
        let role = fields.one_of("role", &Self::ROLES)?;
        // Nobody makes more of themselves, and logins keep their names.
        let (same_email, same_role) = match before {
            Some(before) => (before.content.email == email, before.content.role == role),
            None => (true, false),
        };
        if !same_email {
            return Err(Problem::invalid("email", email, "the address as it is"));
        }
        if !same_role && user.role != Role::Admin {
            return Err(Problem::invalid("role", role, "the role as it is"));
        }
        Ok(Self {
            email,
            name: fields.text("name", MAX_NAME)?.to_owned(),
            role,
        })
    }
}

impl Body for Project {
    const KNOWN: &'static [&'static str] = &["name", "owner_id", "description", "status"];
    const FILTERS: &'static [&'static str] = &["owner_id", "status"];

    fn read(
        fields: &Fields,
        user: &CurrentUser,
        _: Option<&Record<Self>>,
    ) -> Result<Self, Problem> {
        Ok(Self {
            name: fields.text("name", MAX_NAME)?.to_owned(),
            owner_id: holder(fields, Self::HOLDER, user)?,
            description: fields.prose("description", MAX_PROSE)?.to_owned(),
            status: fields.one_of("status", &Self::STATES)?,
        })
    }
}

impl Body for Contract {
    const KNOWN: &'static [&'static str] = &[
        "project_id",
        "employee_id",
        "title",
        "amount",
        "currency",
        "status",
    ];
    const FILTERS: &'static [&'static str] = &["project_id", "employee_id", "status"];
    const ONLY: &'static [Role] = &[Role::Editor, Role::Admin];

    fn read(fields: &Fields, _: &CurrentUser, _: Option<&Record<Self>>) -> Result<Self, Problem> {
        Ok(Self {
            project_id: fields.text("project_id", MAX_ID)?.to_owned(),
            employee_id: fields.text("employee_id", MAX_ID)?.to_owned(),
            title: fields.text("title", MAX_NAME)?.to_owned(),
            value: fields.amount(fields.currency()?)?,
            status: fields.one_of("status", &Self::STATES)?,
        })
    }
}

impl Body for Earning {
    const KNOWN: &'static [&'static str] = &["contract_id", "user_id", "amount", "currency"];
    const FILTERS: &'static [&'static str] = &["contract_id", "user_id"];
    const ONLY: &'static [Role] = &[Role::Editor, Role::Admin];

    fn read(fields: &Fields, _: &CurrentUser, _: Option<&Record<Self>>) -> Result<Self, Problem> {
        Ok(Self {
            contract_id: fields.text("contract_id", MAX_ID)?.to_owned(),
            user_id: fields.text("user_id", MAX_ID)?.to_owned(),
            value: fields.amount(fields.currency()?)?,
        })
    }
}

impl Body for Article {
    const KNOWN: &'static [&'static str] = &["project_id", "author_id", "title", "body", "status"];
    const FILTERS: &'static [&'static str] = &["project_id", "author_id", "status"];

    fn read(
        fields: &Fields,
        user: &CurrentUser,
        _: Option<&Record<Self>>,
    ) -> Result<Self, Problem> {
        Ok(Self {
            project_id: fields.text("project_id", MAX_ID)?.to_owned(),
            author_id: holder(fields, Self::HOLDER, user)?,
            title: fields.text("title", MAX_NAME)?.to_owned(),
            body: fields.prose("body", MAX_PROSE)?.to_owned(),
            status: fields.one_of("status", &Self::STATES)?,
        })
    }
}

/// Whose it is to be: the caller's own, unless an editor says otherwise.
fn holder(fields: &Fields, name: &str, user: &CurrentUser) -> Result<String, Problem> {
    if fields.get(name).is_none() {
        return Ok(user.id.clone());
    }
    let given = fields.text(name, MAX_ID)?;
    if given != user.id && user.role == Role::User {
        return Err(Problem::invalid(name, given, "your own id"));
    }
    Ok(given.to_owned())
}

const MAX_ID: usize = 64;
const MAX_NAME: usize = 200;
/// Fits into the limit of a body with all else.
const MAX_PROSE: usize = 32 * 1024;
