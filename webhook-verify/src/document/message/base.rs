//! The signature base ([RFC 9421, 2](https://www.rfc-editor.org/rfc/rfc9421#section-2)): the
//! components of a request, and the text that is made of them.

use std::{borrow::Cow, cell::OnceCell};

use http::{HeaderMap, HeaderName, Uri, Version, request::Parts};

use super::{
    SIGNATURE_INPUT,
    query::Parameters,
    sf::{Item, Value, write_text},
};
use crate::error::Reason;

/// Scheme and authority under which the receiver is known, in their normal form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Origin {
    scheme: &'static str,
    authority: String,
}

impl Origin {
    /// Reads `https://host` or `http://host`, with a port if it is another than the default;
    /// `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let (scheme, default_port) = match uri.scheme_str()? {
            "https" => ("https", 443),
            "http" => ("http", 80),
            _ => return None,
        };
        let given = uri.authority()?;
        let mut authority = given.host().to_ascii_lowercase();
        let port = given.as_str().get(authority.len()..)?;
        let port = match port.strip_prefix(':') {
            Some(_) => given.port_u16()?,
            None if port.is_empty() => default_port,
            None => return None,
        };
        if authority.is_empty() || uri.path() != "/" || uri.query().is_some() {
            return None;
        }
        if port != default_port {
            authority.push_str(&format!(":{port}"));
        }
        Some(Self { scheme, authority })
    }
}

/// A part of the request that is signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Component {
    Method,
    TargetUri,
    Authority,
    Scheme,
    RequestTarget,
    Path,
    Query,
    /// Under its encoded name.
    QueryParam(String),
    Field(HeaderName),
}

impl Component {
    /// Reads an identifier; `None` for every one that this crate cannot, or must not, give a
    /// value: parameters (`sf`, `key`, `bs`, `tr`, `req`), `@status`, `@signature-params`.
    pub(super) fn read(item: &Item<'_>) -> Option<Self> {
        let Value::Text(name) = &item.value else {
            return None;
        };
        if let [("name", Value::Text(of))] = &*item.parameters {
            return (name == "@query-param").then(|| Self::QueryParam(of.to_string()));
        }
        if !item.parameters.is_empty() {
            return None;
        }
        Some(match &**name {
            "@method" => Self::Method,
            "@target-uri" => Self::TargetUri,
            "@authority" => Self::Authority,
            "@scheme" => Self::Scheme,
            "@request-target" => Self::RequestTarget,
            "@path" => Self::Path,
            "@query" => Self::Query,
            // No header has a name with `@` or upper case letters.
            name => Self::Field(HeaderName::from_lowercase(name.as_bytes()).ok()?),
        })
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Method => "@method",
            Self::TargetUri => "@target-uri",
            Self::Authority => "@authority",
            Self::Scheme => "@scheme",
            Self::RequestTarget => "@request-target",
            Self::Path => "@path",
            Self::Query => "@query",
            Self::QueryParam(_) => "@query-param",
            Self::Field(name) => name.as_str(),
        }
    }

    /// Writes the identifier.
    pub(super) fn write(&self, out: &mut String) {
        write_text(out, self.name());
        if let Self::QueryParam(name) = self {
            out.push_str(";name=");
            write_text(out, name);
        }
    }
}

/// The most bytes of the components of one signature: sixteen signatures over all of long
/// headers must not grow into sixteen times as much.
const MAX_BASE: usize = 65_536;

/// A request whose components are asked for.
pub(super) struct Message<'a> {
    origin: &'a Origin,
    request: &'a Parts,
    headers: &'a HeaderMap,
    /// Read once, and only when a component needs them.
    parameters: OnceCell<Option<Parameters>>,
}

impl<'a> Message<'a> {
    /// `headers` stand for those of the request.
    pub(super) const fn new(
        origin: &'a Origin,
        request: &'a Parts,
        headers: &'a HeaderMap,
    ) -> Self {
        Self {
            origin,
            request,
            headers,
            parameters: OnceCell::new(),
        }
    }

    /// What is signed: a line for each of `components`, and `parameters` in the last one.
    ///
    /// # Errors
    /// A component has no value, or one that is not ASCII, or all are too long together.
    pub(super) fn base(
        &self,
        components: &[Component],
        parameters: &str,
    ) -> Result<String, Reason> {
        let mut base = String::new();
        for component in components {
            component.write(&mut base);
            base.push_str(": ");
            let value = self.value(component)?;
            if !value
                .bytes()
                .all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
            {
                return Err(unreadable());
            }
            base.push_str(&value);
            base.push('\n');
            if base.len() > MAX_BASE {
                return Err(unreadable());
            }
        }
        base.push_str("\"@signature-params\": ");
        base.push_str(parameters);
        Ok(base)
    }

    fn value(&self, component: &Component) -> Result<Cow<'_, str>, Reason> {
        let Origin { scheme, authority } = self.origin;
        let uri = &self.request.uri;
        let query = uri.query();
        Ok(Cow::Borrowed(match component {
            Component::Method => self.request.method.as_str(),
            Component::Authority => authority,
            Component::Scheme => scheme,
            Component::Path => self.path(),
            Component::Query => return Ok(format!("?{}", query.unwrap_or("")).into()),
            Component::TargetUri => {
                let query = query.map(|query| format!("?{query}"));
                let (path, query) = (self.path(), query.unwrap_or_default());
                return Ok(format!("{scheme}://{authority}{path}{query}").into());
            }
            Component::RequestTarget => self.target().ok_or_else(unreadable)?,
            Component::QueryParam(name) => self.parameter(name).ok_or_else(unreadable)?,
            Component::Field(name) => return joined(self.headers, name).map(Cow::Owned),
        }))
    }

    fn path(&self) -> &str {
        match self.request.uri.path() {
            "" => "/",
            path => path,
        }
    }

    /// Path and query, where those are what stood in the request line (or `:path`). Of a URL
    /// in the request line of HTTP/1 it cannot be known how it was written.
    fn target(&self) -> Option<&str> {
        let uri = &self.request.uri;
        let whole = uri.authority().is_some() && self.request.version < Version::HTTP_2;
        let target = uri.path_and_query().filter(|_| !whole)?;
        Some(target.as_str())
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let query = self.request.uri.query().unwrap_or("");
        let read = || Parameters::read(query);
        self.parameters.get_or_init(read).as_ref()?.once(name)
    }
}

const fn unreadable() -> Reason {
    Reason::Malformed(SIGNATURE_INPUT)
}

/// The lines of a header, without white space around them, joined as one list.
///
/// # Errors
/// There is none, or one is not ASCII.
pub(super) fn joined(headers: &HeaderMap, name: &HeaderName) -> Result<String, Reason> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next().ok_or_else(|| Reason::Missing(name.clone()))?;
    let mut text = String::with_capacity(first.len());
    for (i, line) in std::iter::once(first).chain(lines).enumerate() {
        let line = line.to_str().map_err(|_| Reason::Malformed(name.clone()))?;
        if i > 0 {
            text.push_str(", ");
        }
        text.push_str(line.trim_matches([' ', '\t']));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn an_origin_is_read_into_its_normal_form_and_nothing_else_is_one() {
        for (text, scheme, authority) in [
            ("https://Hooks.Example", "https", "hooks.example"),
            ("https://hooks.example/", "https", "hooks.example"),
            ("https://hooks.example:443", "https", "hooks.example"),
            ("http://hooks.example:80", "http", "hooks.example"),
            ("http://hooks.example:443", "http", "hooks.example:443"),
            ("HTTPS://[2001:DB8::1]:8443", "https", "[2001:db8::1]:8443"),
        ] {
            let origin = Origin::parse(text).expect(text);
            assert_eq!((origin.scheme, &*origin.authority), (scheme, authority));
        }
        for bad in [
            "",
            "hooks.example",
            "/",
            "ftp://hooks.example",
            "https://",
            "https://:443",
            "https://hooks.example:",
            "https://hooks.example:99999",
            "https://user@hooks.example",
            "https://hooks.example/hook",
            "https://hooks.example/?",
            "https://hooks.example?a",
            "https://höoks.example",
        ] {
            assert_eq!(Origin::parse(bad), None, "{bad}");
        }
    }

    fn item<'a>(name: &'a str, parameters: &[(&'a str, Value<'a>)]) -> Item<'a> {
        Item {
            value: Value::Text(name.into()),
            parameters: parameters.to_vec(),
        }
    }

    #[test]
    fn only_components_of_requests_are_read() {
        for name in [
            "@method",
            "@target-uri",
            "@authority",
            "@scheme",
            "@request-target",
            "@path",
            "@query",
            "content-type",
        ] {
            let component = Component::read(&item(name, &[])).expect(name);
            assert_eq!(component.name(), name);
        }
        let text = |text: &'static str| Value::Text(text.into());
        let named = item("@query-param", &[("name", text("a"))]);
        assert_eq!(
            Component::read(&named),
            Some(Component::QueryParam("a".into()))
        );
        for bad in [
            item("", &[]),
            item("@", &[]),
            item("@status", &[]),
            item("@signature-params", &[]),
            item("@query-param", &[]),
            item("@query-param", &[("name", Value::Other)]),
            item(
                "@query-param",
                &[("name", text("a")), ("req", Value::Other)],
            ),
            item("@method", &[("name", text("a"))]),
            item("@method", &[("req", Value::Other)]),
            item("@METHOD", &[]),
            item("Content-Type", &[]),
            item("content type", &[]),
            item("content-type", &[("sf", Value::Other)]),
            item("content-type", &[("bs", Value::Other)]),
            item("content-type", &[("tr", Value::Other)]),
            item("content-type", &[("key", text("a"))]),
            item("content-type", &[("name", text("a"))]),
            Item {
                value: Value::Integer(1),
                parameters: Vec::new(),
            },
        ] {
            assert_eq!(Component::read(&bad), None, "{bad:?}");
        }
    }

    fn base(request: &Parts, components: &[Component]) -> Result<String, Reason> {
        let origin = Origin::parse("https://www.example.com").unwrap();
        Message::new(&origin, request, &request.headers).base(components, "()")
    }

    fn value(request: &Parts, component: Component) -> Option<String> {
        let base = base(request, &[component]).ok()?;
        let (line, _) = base.split_once('\n').unwrap();
        Some(line.split_once(": ").unwrap().1.to_owned())
    }

    fn request(uri: &str) -> Parts {
        Request::post(uri).body(()).unwrap().into_parts().0
    }

    /// RFC 9421, 2.2.
    #[test]
    fn derived_components_have_the_values_of_the_rfc() {
        let parts = request("/path?param=value");
        for (component, expected) in [
            (Component::Method, "POST"),
            (
                Component::TargetUri,
                "https://www.example.com/path?param=value",
            ),
            (Component::Authority, "www.example.com"),
            (Component::Scheme, "https"),
            (Component::RequestTarget, "/path?param=value"),
            (Component::Path, "/path"),
            (Component::Query, "?param=value"),
            (Component::QueryParam("param".into()), "value"),
        ] {
            assert_eq!(value(&parts, component).unwrap(), expected);
        }
        let query = |uri| value(&request(uri), Component::Query).unwrap();
        assert_eq!(query("/path?queryString"), "?queryString");
        assert_eq!(query("/path"), "?");
        assert_eq!(query("/path?"), "?");
        let target = |uri| value(&request(uri), Component::TargetUri).unwrap();
        assert_eq!(target("/path?"), "https://www.example.com/path?");
        assert_eq!(target("/"), "https://www.example.com/");
    }

    #[test]
    fn the_receiver_is_named_by_its_settings_and_never_by_the_request() {
        let mut parts = request("http://evil.example/path");
        parts
            .headers
            .insert("host", "evil.example".parse().unwrap());
        let forwarded = "host=evil.example;proto=http".parse().unwrap();
        parts.headers.insert("forwarded", forwarded);
        let all = [
            Component::Authority,
            Component::Scheme,
            Component::TargetUri,
        ];
        let base = base(&parts, &all).unwrap();
        assert_eq!(
            base,
            "\"@authority\": www.example.com\n\"@scheme\": https\n\
             \"@target-uri\": https://www.example.com/path\n\"@signature-params\": ()"
        );
    }

    #[test]
    fn the_request_target_is_the_path_only_where_that_was_sent() {
        let target = |parts: &Parts| value(parts, Component::RequestTarget);
        let mut parts = request("http://www.example.com/path?a");
        assert_eq!(target(&parts), None);
        parts.version = Version::HTTP_2;
        assert_eq!(target(&parts).unwrap(), "/path?a");
        assert_eq!(target(&request("*")).unwrap(), "*");
        assert_eq!(target(&request("www.example.com:80")), None);
    }

    /// RFC 9421, 2.1.
    #[test]
    fn lines_of_a_field_are_trimmed_and_joined() {
        let mut parts = request("/");
        for (name, line) in [
            ("cache-control", "max-age=60"),
            ("cache-control", "   must-revalidate  "),
            ("x-empty", ""),
            ("x-inside", "\ta \t b\t"),
        ] {
            let name = HeaderName::from_static(name);
            parts.headers.append(name, line.parse().unwrap());
        }
        let field = |name| value(&parts, Component::Field(HeaderName::from_static(name)));
        assert_eq!(
            field("cache-control").unwrap(),
            "max-age=60, must-revalidate"
        );
        assert_eq!(field("x-empty").unwrap(), "");
        assert_eq!(field("x-inside").unwrap(), "a \t b");
        let x_none = HeaderName::from_static("x-none");
        assert_eq!(
            base(&parts, &[Component::Field(x_none.clone())]),
            Err(Reason::Missing(x_none))
        );
    }

    #[test]
    fn components_are_bounded_together() {
        let mut parts = request("/");
        let names = ["x-a", "x-b"].map(HeaderName::from_static);
        let fields = names.clone().map(Component::Field);
        let frame = "\"x-a\": \n".len();
        for (len, fits) in [(MAX_BASE / 2 - frame, true), (MAX_BASE / 2, false)] {
            for name in &names {
                parts.headers.insert(name, "a".repeat(len).parse().unwrap());
            }
            let base = base(&parts, &fields);
            assert_eq!(base.map(drop).map_err(|_| ()), fits.then_some(()).ok_or(()));
        }
    }

    #[test]
    fn what_is_not_ascii_is_not_signed() {
        let mut parts = request("/");
        let name = HeaderName::from_static("x-name");
        parts.headers.insert(&name, "Åsa".parse().unwrap());
        assert_eq!(
            base(&parts, &[Component::Field(name.clone())]),
            Err(Reason::Malformed(name))
        );
        if let Ok(uri) = "/é?é".parse() {
            parts.uri = uri;
            for component in [Component::Path, Component::Query, Component::TargetUri] {
                assert_eq!(
                    base(&parts, &[component]),
                    Err(Reason::Malformed(SIGNATURE_INPUT))
                );
            }
        }
    }
}
