use std::fmt;
use std::marker::PhantomData;

use ::http::header::{CACHE_CONTROL, SET_COOKIE, VARY};
use ::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use bytes::Bytes;
use http_body::Body;

use super::body::Whole;
use super::{HttpKey, SharedBody};
use crate::coalesce::{Share, ShareAll, ShareAnswers};

/// Shares responses whose body is whole and which are not for one caller; see the
/// [module](super).
///
/// `H` says what of errors: [`ShareAll`] or [`ShareAnswers`].
#[derive(Clone, Debug)]
pub struct HttpShare<H = ShareAll> {
    key: HttpKey,
    errors: PhantomData<H>,
}

/// What is kept of a response: all but its extensions.
#[derive(Clone)]
pub struct Kept {
    status: StatusCode,
    version: Version,
    headers: HeaderMap,
    body: Whole,
}

/// What is kept and says how many bytes it takes.
pub trait Size {
    /// How many bytes, about.
    fn size(&self) -> usize;

    /// The same in memory of its own. What comes from a connection is part of its buffer, all of which
    /// would stay for a few bytes of it.
    #[must_use]
    fn detached(self) -> Self;
}

impl<E> Size for Result<Kept, E> {
    fn size(&self) -> usize {
        self.as_ref().map_or(size_of::<E>(), Size::size)
    }

    fn detached(self) -> Self {
        self.map(Size::detached)
    }
}

impl Size for Kept {
    /// The body, the header fields, and 64 for each field.
    fn size(&self) -> usize {
        let trailers = self.body.trailers.as_ref().map_or(0, size_of_fields);
        size_of::<Self>() + self.body.bytes.len() + size_of_fields(&self.headers) + trailers
    }

    fn detached(mut self) -> Self {
        self.body.bytes = Bytes::copy_from_slice(&self.body.bytes);
        let trailers = self.body.trailers.iter_mut();
        trailers.chain([&mut self.headers]).for_each(detach_fields);
        self
    }
}

// The names are in memory of their own: those that are not known words are copied when they are read.
fn detach_fields(fields: &mut HeaderMap) {
    for value in fields.values_mut() {
        if let Ok(mut own) = HeaderValue::from_bytes(value.as_bytes()) {
            own.set_sensitive(value.is_sensitive());
            *value = own;
        }
    }
}

fn size_of_fields(fields: &HeaderMap) -> usize {
    let sizes = fields
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    sizes.sum()
}

/// What a header field takes beside name and value.
const FIELD: usize = 64;

impl<H> HttpShare<H> {
    /// Shares what is for all callers with the same `key`.
    pub const fn new(key: HttpKey) -> Self {
        Self {
            key,
            errors: PhantomData,
        }
    }

    /// What others may have of the response; nothing if it is for one caller, or not whole.
    pub(crate) fn kept<B: Body>(&self, response: &Response<SharedBody<B>>) -> Option<Kept> {
        let body = response.body().as_whole()?;
        let headers = response.headers();
        if headers.contains_key(SET_COOKIE) || is_private(headers) || !self.varies_by_key(headers) {
            return None;
        }
        Some(Kept {
            status: response.status(),
            version: response.version(),
            headers: headers.clone(),
            body: body.clone(),
        })
    }

    pub(crate) fn response<B: Body>(kept: &Kept) -> Response<SharedBody<B>> {
        let mut response = Response::new(SharedBody::whole(kept.body.clone()));
        *response.status_mut() = kept.status;
        *response.version_mut() = kept.version;
        response.headers_mut().clone_from(&kept.headers);
        response
    }

    /// Whether all fields that the response depends on are part of the key. What cannot be read,
    /// and `*`, are not.
    fn varies_by_key(&self, headers: &HeaderMap) -> bool {
        list(headers, VARY).all(|name| {
            let name = HeaderName::from_bytes(name);
            name.is_ok_and(|name| self.key.has(&name))
        })
    }
}

/// `Cache-Control: private` or `no-store`, in whatever list.
fn is_private(headers: &HeaderMap) -> bool {
    list(headers, CACHE_CONTROL).any(|directive| {
        let name = directive.split(|byte| *byte == b'=').next();
        let name = name.unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"private") || name.eq_ignore_ascii_case(b"no-store")
    })
}

/// The elements of a comma-separated field. A comma within quotes makes more elements of one: for
/// what is asked here, that can only keep a response from being shared.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(name).into_iter();
    let elements = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    elements
        .map(<[u8]>::trim_ascii)
        .filter(|one| !one.is_empty())
}

impl<B: Body, E: Clone> Share<Response<SharedBody<B>>, E> for HttpShare<ShareAll> {
    type Kept = Result<Kept, E>;

    fn keep(&self, result: Result<&Response<SharedBody<B>>, &E>) -> Option<Self::Kept> {
        match result {
            Ok(response) => self.kept(response).map(Ok),
            Err(error) => Some(Err(error.clone())),
        }
    }

    fn give(&self, kept: &Self::Kept) -> Result<Response<SharedBody<B>>, E> {
        let kept = kept.as_ref().map_err(E::clone)?;
        Ok(Self::response(kept))
    }
}

impl<B: Body, E> Share<Response<SharedBody<B>>, E> for HttpShare<ShareAnswers> {
    type Kept = Kept;

    fn keep(&self, result: Result<&Response<SharedBody<B>>, &E>) -> Option<Kept> {
        result.ok().and_then(|response| self.kept(response))
    }

    fn give(&self, kept: &Kept) -> Result<Response<SharedBody<B>>, E> {
        Ok(Self::response(kept))
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of the fields only how many: their values may be anybody's.
        f.debug_struct("Kept")
            .field("status", &self.status)
            .field("fields", &self.headers.len())
            .field("bytes", &self.body.bytes.len())
            .finish_non_exhaustive()
    }
}
