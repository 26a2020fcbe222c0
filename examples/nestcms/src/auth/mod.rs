//! Login, access tokens and the extractor of the signed-in user.
//!
//! `POST /api/v1/auth/login` exchanges e-mail and password for an access token (JWT,
//! HS256). A handler that takes a [`CurrentUser`] answers 401 to everyone without a valid
//! one.
//!
//! - A wrong password and an unknown e-mail take the same work and get the same answer.
//! - After too many failures of one account or one address: 429, without looking at the
//!   password. The count is kept in memory, per process.
//! - Behind a gateway, list it as a trusted proxy: otherwise all clients share its address
//!   and with it one count.

mod attempts;
mod client;
mod http;
mod service;
mod token;
mod users;

pub use self::{
    client::client_ip,
    http::{CurrentUser, Unauthenticated, routes},
    service::{AuthService, Login, LoginError},
    token::{Claims, TokenError, Tokens},
    users::{Role, User, UserError, UserStore, Users},
};
pub(crate) use users::normal;
