//! In which form a body claims to be. What reads the body after the verifier goes by this
//! header, so the verifier must read the body the same way.

use http::{HeaderName, header::CONTENT_TYPE, request::Parts};

use crate::error::Reason;

/// The header, for [`Document::headers`](super::Document::headers).
pub(crate) const HEADERS: [HeaderName; 1] = [CONTENT_TYPE];

/// A form of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ContentType {
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `application/json`.
    Json,
}

impl ContentType {
    /// What the header says, whatever its parameters (`charset=utf-8`).
    ///
    /// # Errors
    /// [`Reason::Missing`] without the header, [`Reason::ContentType`] for other types.
    pub(crate) fn of(request: &Parts) -> Result<Self, Reason> {
        let value = request.headers.get(CONTENT_TYPE);
        let value = value.ok_or(Reason::Missing(CONTENT_TYPE))?.as_bytes();
        let end = value.iter().position(|byte| *byte == b';');
        let essence = value[..end.unwrap_or(value.len())].trim_ascii();
        [Self::Form, Self::Json]
            .into_iter()
            .find(|known| essence.eq_ignore_ascii_case(known.as_str().as_bytes()))
            .ok_or(Reason::ContentType)
    }

    /// The media type.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Form => "application/x-www-form-urlencoded",
            Self::Json => "application/json",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_counts_and_its_parameters_do_not() {
        let of = |text: &str| {
            let request = http::Request::post("/").header(CONTENT_TYPE, text);
            ContentType::of(&request.body(()).unwrap().into_parts().0)
        };
        let form = ContentType::Form;
        assert_eq!(of("application/x-www-form-urlencoded"), Ok(form));
        let charset = "Application/X-WWW-Form-URLEncoded ; charset=UTF-8";
        assert_eq!(of(charset), Ok(form));
        assert_eq!(of("application/json;charset=utf-8"), Ok(ContentType::Json));
        // No server leaves the blank there; a reader that cuts it off reads a form.
        assert_eq!(of(" application/x-www-form-urlencoded"), Ok(form));
        for other in [
            "",
            "application/jsonp",
            "multipart/form-data; boundary=application/json",
            "text/plain",
            "application/json, application/x-www-form-urlencoded",
        ] {
            assert_eq!(of(other), Err(Reason::ContentType), "{other}");
        }
        let bare = http::Request::post("/").body(()).unwrap().into_parts().0;
        let missing = Err(Reason::Missing(CONTENT_TYPE));
        assert_eq!(ContentType::of(&bare), missing);
    }
}
