//! The repositories of the content, and its aggregations.

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::StoreError;
use crate::domain::content::{
    Article, Content, Contract, Earning, Pipeline, Profile, Project, Record,
};

/// What a read must show at least.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum See {
    /// Any copy of the store that is not known to be far behind.
    #[default]
    Any,
    /// The write of this mark, and all before it.
    After(Mark),
    /// Everything that was ever acknowledged.
    Newest,
}

/// How far the store was when a write was done. Opaque; made by the store.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Mark(pub String);

/// One kind of content in the store.
pub trait Repository<T: Content>: Debug + Send + Sync {
    /// The record of that id.
    fn find<'a>(
        &'a self,
        id: &'a str,
        see: &'a See,
    ) -> BoxFuture<'a, Result<Option<Record<T>>, StoreError>>;

    /// Records of which each of the fields has the value, by id; at most `limit`. A field that
    /// `T` has not is [`StoreError::Corrupt`].
    fn list<'a>(
        &'a self,
        fields: &'a [(&'static str, String)],
        limit: u32,
        see: &'a See,
    ) -> BoxFuture<'a, Result<Vec<Record<T>>, StoreError>>;

    /// Stores a new record as it is.
    fn insert<'a>(&'a self, record: &'a Record<T>) -> BoxFuture<'a, Result<Kept<T>, StoreError>>;

    /// Replaces the content of the record of that id and counts its version up, if it is the
    /// one that `record` has; 0 is any version.
    fn update<'a>(&'a self, record: &'a Record<T>) -> BoxFuture<'a, Result<Kept<T>, StoreError>>;
}

/// What became of a write. Only [`Done`](Self::Done) changed anything.
#[derive(Clone, Debug)]
pub enum Kept<T> {
    /// Done; the record as it is now, and the mark by which reads see it. A store without
    /// copies has no marks.
    Done(Box<Record<T>>, Option<Mark>),
    /// The id, or what else must be unique, is taken.
    Taken,
    /// It names something that is not there.
    Unrelated,
    /// The record has another version.
    Stale(i64),
    /// There is no such record.
    Missing,
}

/// The aggregations.
pub trait Pipelines: Debug + Send + Sync {
    /// The rows of a pipeline, in its order.
    fn run(&self, pipeline: Pipeline)
    -> BoxFuture<'_, Result<Vec<Map<String, Value>>, StoreError>>;
}

/// A store of all kinds of content.
pub trait ContentStore:
    Repository<Profile>
    + Repository<Project>
    + Repository<Contract>
    + Repository<Earning>
    + Repository<Article>
    + Pipelines
{
}

impl<S> ContentStore for S where
    S: Repository<Profile>
        + Repository<Project>
        + Repository<Contract>
        + Repository<Earning>
        + Repository<Article>
        + Pipelines
{
}
