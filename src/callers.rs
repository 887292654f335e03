//! Who may ask the admin listener: it has no credentials, so what a browser could be talked into is refused, and what people
//! decide is taken from this machine alone.

use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::extract::{ConnectInfo, Request};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What browsers say of a request and programs do not.
const OF_BROWSERS: [&str; 2] = ["origin", "sec-fetch-site"];

/// A layer for the pages that show and take decisions.
pub async fn deciders(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    match against_deciding(peer.ip(), request.method(), request.headers()) {
        Some(reason) => refuse(reason),
        None => next.run(request).await,
    }
}

/// A layer for every page.
pub async fn of_this_host(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    match against_asking(peer.ip(), request.headers()) {
        Some(reason) => refuse(reason),
        None => next.run(request).await,
    }
}

/// Why a request for decisions is refused.
///
/// - Requests of browsers: pages of other sites could decide in a person's name.
/// - Decisions of other machines. `insecure: true` lets others read; the trail names who decided, and nobody far away has
///   shown who they are.
fn against_deciding(peer: IpAddr, method: &Method, headers: &HeaderMap) -> Option<&'static str> {
    if OF_BROWSERS.iter().any(|name| headers.contains_key(*name)) {
        return Some(
            "these pages are for programs: requests of browsers are not taken (use `homeostat deviations`)",
        );
    }
    (*method != Method::GET && !is_near(peer)).then_some(
        "decisions are taken on the machine that homeostat runs on alone (run the command there: `kubectl exec`, `kubectl port-forward`, ssh)",
    )
}

/// Why a request is refused whatever it asks for: a name that is no address and leads to loopback may be a site's whose owner changed
/// where it leads after a browser had loaded the site (DNS rebinding). Without a name (HTTP/1.0) nobody was led anywhere.
fn against_asking(peer: IpAddr, headers: &HeaderMap) -> Option<&'static str> {
    let host = headers.get(header::HOST).filter(|_| is_near(peer))?;
    let names_this_host = Authority::try_from(host.as_bytes()).is_ok_and(|authority| {
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
    });
    (!names_this_host).then_some(
        "ask for `localhost`, `127.0.0.1` or `[::1]` by name: another `Host` is not answered on loopback",
    )
}

fn is_near(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

fn refuse(reason: &str) -> Response {
    (StatusCode::FORBIDDEN, Json(serde_json::json!({ "error": reason }))).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const NEAR: &str = "127.0.0.1";
    const FAR: &str = "10.0.0.7";

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn only_this_machine_decides_and_no_browser_asks() {
        let check = |peer: &str, method: Method, pairs: &[(&'static str, &'static str)], is_taken: bool| {
            let against = against_deciding(peer.parse().unwrap(), &method, &headers(pairs));
            assert_eq!(against.is_none(), is_taken, "{peer} {method} {pairs:?}: {against:?}");
        };
        check(NEAR, Method::POST, &[("host", "localhost:8888")], true);
        check("::ffff:127.0.0.1", Method::DELETE, &[], true);
        check(FAR, Method::GET, &[("host", "homeostat:8888")], true);
        check(FAR, Method::POST, &[("host", "homeostat:8888")], false);
        check(FAR, Method::DELETE, &[], false);
        check(NEAR, Method::GET, &[("origin", "http://evil.example")], false);
        check(NEAR, Method::POST, &[("origin", "null")], false);
        check(NEAR, Method::GET, &[("sec-fetch-site", "same-origin")], false);
    }

    #[test]
    fn a_name_that_was_led_here_is_not_answered() {
        let check = |peer: &str, host: &'static str, is_taken: bool| {
            let against = against_asking(peer.parse().unwrap(), &headers(&[("host", host)]));
            assert_eq!(against.is_none(), is_taken, "{peer} {host}");
        };
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8888", "[::1]:8888", "10.0.0.7"] {
            check(NEAR, host, true);
        }
        for host in ["evil.example", "127.0.0.1.evil.example:8888", "localhost.evil.example", ""] {
            check(NEAR, host, false);
            check(FAR, host, true);
        }
        assert_eq!(against_asking(NEAR.parse().unwrap(), &headers(&[])), None);
    }
}
