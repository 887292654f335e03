//! Which pages of browsers may send (the Fetch standard, section 3.2), in the Collector's form and with the rules of its library,
//! rs/cors. It is our own code because tower-http's layer says what is allowed to every origin, and here one that is not allowed
//! hears nothing; and because it knows no wildcards.

use homeostat_pipeline::settings::{At, Problem};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reply::Reply;

/// `cors:` of the HTTP listener. Browsers are answered only where it names an origin.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// `https://app.example.com`; a `*` in it stands for any letters, and alone for every origin.
    pub allowed_origins: Vec<At<String>>,
    /// Headers that pages may send beside `Accept`, `Content-Type` and `X-Requested-With`; `*` is any.
    pub allowed_headers: Vec<At<String>>,
    /// Headers of the answer that pages may read.
    pub exposed_headers: Vec<At<String>>,
    /// How many seconds a browser may remember the answer to its preflight; 5 where it is left out or 0.
    pub max_age: u32,
}

/// What a page may always send.
const SAFE_HEADERS: [&str; 3] = ["accept", "content-type", "x-requested-with"];
const PREFLIGHT_VARIES: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

impl Cors {
    /// Everything wrong with it.
    pub fn problems(&self) -> Vec<Problem> {
        let origins = self.allowed_origins.iter().filter_map(|origin| {
            let message = origin_fault(&origin.value)?;
            Some(Problem::error(&origin.at, message))
        });
        let headers = self.allowed_headers.iter().chain(&self.exposed_headers).filter_map(|name| {
            let is_name = name.value == "*" || name.value.parse::<HeaderName>().is_ok();
            let message = format!("`{}` is no name of a header", name.value);
            (!is_name).then(|| Problem::error(&name.at, message))
        });
        origins.chain(headers).collect()
    }

    /// Whether there is anybody to answer.
    pub fn is_on(&self) -> bool {
        !self.allowed_origins.is_empty()
    }

    /// The answer when the request only asks whether another may be sent. It carries no credentials, and none are asked for.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<Reply>> {
        let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| method == Method::OPTIONS)?;
        let mut response = Response::new(Reply::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let answer = response.headers_mut();
        answer.insert(VARY, PREFLIGHT_VARIES);
        let named = headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
        if wanted == Method::POST.as_str() && named.is_none_or(|named| self.takes(named)) {
            let Some(origin) = self.origin(headers) else { return Some(response) };
            if origin != "*" {
                answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
            if let Some(named) = named {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, named.clone());
            }
            if self.max_age > 0 {
                answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age));
            }
        }
        Some(response)
    }

    /// What the answer to any other request says to the browser, whatever the answer is.
    pub fn grant(&self, headers: &HeaderMap) -> HeaderMap {
        let mut grant = HeaderMap::new();
        grant.insert(VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = self.origin(headers) else { return grant };
        if origin != "*" {
            grant.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        grant.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed: Vec<&str> = self.exposed_headers.iter().map(|name| name.value.as_str()).collect();
        if let (false, Ok(exposed)) = (exposed.is_empty(), HeaderValue::try_from(exposed.join(", "))) {
            grant.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        grant
    }

    /// The origin as it is answered: itself, or `*` where every one is allowed; none when it is not.
    fn origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let value = headers.get(ORIGIN)?;
        let origin = value.to_str().ok()?.to_ascii_lowercase();
        if self.allowed_origins.iter().any(|allowed| allowed.value == "*") {
            return Some(HeaderValue::from_static("*"));
        }
        let is_allowed = |allowed: &At<String>| matches(&allowed.value.to_ascii_lowercase(), &origin);
        self.allowed_origins.iter().any(is_allowed).then(|| value.clone())
    }

    /// Whether every header of the comma-separated list may be sent.
    fn takes(&self, named: &HeaderValue) -> bool {
        let Ok(named) = named.to_str() else { return false };
        let is_allowed = |name: &str| {
            SAFE_HEADERS.iter().any(|safe| safe.eq_ignore_ascii_case(name))
                || self
                    .allowed_headers
                    .iter()
                    .any(|allowed| allowed.value == "*" || allowed.value.eq_ignore_ascii_case(name))
        };
        named.split(',').map(str::trim).filter(|name| !name.is_empty()).all(is_allowed)
    }
}

/// Whether the origin is the pattern, in which one `*` stands for any letters.
fn matches(pattern: &str, origin: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == origin,
        Some((start, end)) => {
            origin.len() >= start.len() + end.len() && origin.starts_with(start) && origin.ends_with(end)
        }
    }
}

fn origin_fault(origin: &str) -> Option<String> {
    if origin == "*" || origin == "null" {
        return None;
    }
    if origin.matches('*').count() > 1 {
        return Some(format!("the origin `{origin}` has more than one `*` (write one origin for each)"));
    }
    let is_origin =
        origin.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains(['/', '?', '#']));
    (!is_origin)
        .then(|| format!("`{origin}` is no origin (write `https://app.example.com`, without a path, or `*`)"))
}

#[cfg(test)]
mod tests {
    use homeostat_pipeline::settings::Position;

    use super::*;

    fn at(text: &str) -> At<String> {
        At { at: Position { source: "test".into(), line: 1, column: 1 }, value: text.to_owned() }
    }

    fn cors(origins: &[&str], headers: &[&str]) -> Cors {
        Cors {
            allowed_origins: origins.iter().map(|text| at(text)).collect(),
            allowed_headers: headers.iter().map(|text| at(text)).collect(),
            exposed_headers: vec![at("x-one"), at("x-two")],
            max_age: 7200,
        }
    }

    fn request(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    fn said(headers: &HeaderMap, name: &HeaderName) -> String {
        headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
    }

    #[test]
    fn origins_are_compared_whole_with_one_wildcard() {
        for (allowed, origin, expected) in [
            ("https://app.example.com", "https://app.example.com", "https://app.example.com"),
            ("https://App.example.com", "https://app.Example.com", "https://app.Example.com"),
            ("https://app.example.com", "https://app.example.com.evil.net", ""),
            ("https://app.example.com", "http://app.example.com", ""),
            ("https://*.example.com", "https://a.b.example.com", "https://a.b.example.com"),
            ("https://*.example.com", "https://example.com", ""),
            ("https://*.example.com", "https://x.example.com.evil.net", ""),
            ("http://localhost:*", "http://localhost:3000", "http://localhost:3000"),
            ("*", "https://anybody.net", "*"),
            ("https://app.example.com", "null", ""),
        ] {
            let grant = cors(&[allowed], &[]).grant(&request(&[(ORIGIN, origin)]));
            assert_eq!(said(&grant, &ACCESS_CONTROL_ALLOW_ORIGIN), expected, "{allowed} {origin}");
            assert_eq!(said(&grant, &VARY), "Origin");
            let is_named = !["", "*"].contains(&expected);
            assert_eq!(grant.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS), is_named, "{allowed}");
            assert_eq!(grant.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS), !expected.is_empty());
        }
        assert!(!cors(&["*"], &[]).grant(&request(&[])).contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    }

    #[test]
    fn a_preflight_hears_what_it_asked_for_or_nothing() {
        let ask = |method: &'static str, headers: &'static str, allowed: &[&str]| {
            let fields = [
                (ORIGIN, "https://app.example.com"),
                (ACCESS_CONTROL_REQUEST_METHOD, method),
                (ACCESS_CONTROL_REQUEST_HEADERS, headers),
            ];
            let cors = cors(&["https://app.example.com"], allowed);
            let answer = cors.preflight(&Method::OPTIONS, &request(&fields)).unwrap();
            assert_eq!(answer.status(), StatusCode::NO_CONTENT);
            let names = [
                ACCESS_CONTROL_ALLOW_ORIGIN,
                ACCESS_CONTROL_ALLOW_METHODS,
                ACCESS_CONTROL_ALLOW_HEADERS,
                ACCESS_CONTROL_MAX_AGE,
            ];
            names.map(|name| said(answer.headers(), &name)).join(" ")
        };
        let nothing = "   ";
        assert_eq!(ask("POST", "content-type", &[]), "https://app.example.com POST content-type 7200");
        assert_eq!(ask("POST", "content-type,x-key", &[]), nothing);
        assert_eq!(
            ask("POST", "content-type,x-key", &["X-Key"]),
            "https://app.example.com POST content-type,x-key 7200"
        );
        assert_eq!(ask("POST", "x-any", &["*"]), "https://app.example.com POST x-any 7200");
        assert_eq!(ask("DELETE", "content-type", &[]), nothing);
    }

    #[test]
    fn what_asks_nothing_is_no_preflight() {
        let cors = cors(&["*"], &[]);
        let origin = request(&[(ORIGIN, "https://a.b")]);
        assert!(cors.preflight(&Method::OPTIONS, &origin).is_none());
        let asks = request(&[(ORIGIN, "https://a.b"), (ACCESS_CONTROL_REQUEST_METHOD, "POST")]);
        assert!(cors.preflight(&Method::POST, &asks).is_none());
    }

    #[test]
    fn what_is_no_origin_and_no_header_is_said() {
        assert_eq!(cors(&["*", "null", "https://a.b:1", "http://*"], &["*", "X-A"]).problems(), []);
        for bad in ["a.b", "https://a.b/", "https://*.*.b", "", "://"] {
            assert_eq!(cors(&[bad], &[]).problems().len(), 1, "{bad}");
        }
        assert_eq!(cors(&["*"], &["a b"]).problems().len(), 1);
    }
}
