//! Where an exporter sends: an endpoint, taken apart.

use http::Uri;

/// An endpoint, taken apart. Never has credentials in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `host:port`, for `:authority`, `host` and for people.
    pub authority: String,
    /// Without the last `/`.
    pub path: String,
}

/// Reads an endpoint. `bare` is what one without a scheme means, as the Collector writes those of gRPC.
///
/// # Errors
/// Says what is wrong without repeating what could be a secret.
pub fn read_target(endpoint: &str, bare: Option<&'static str>) -> Result<Target, String> {
    let example = "write for example `http://127.0.0.1:4317`";
    let (scheme, rest) = match (endpoint.split_once("://"), bare) {
        (Some((scheme, rest)), _) if scheme.eq_ignore_ascii_case("http") => ("http", rest),
        (Some((scheme, rest)), _) if scheme.eq_ignore_ascii_case("https") => ("https", rest),
        (Some(_), _) => return Err(format!("the endpoint's scheme is neither http nor https: {example}")),
        (None, Some(scheme)) => (scheme, endpoint),
        (None, None) => {
            return Err(format!(
                "the endpoint has no scheme: {example}, or `tls: {{ insecure: true }}` beside it"
            ));
        }
    };
    if rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
        return Err("the endpoint has credentials in it: write them into `headers`".to_owned());
    }
    let uri: Uri =
        format!("http://{rest}").parse().map_err(|_| format!("the endpoint is no URL: {example}"))?;
    let authority = uri.authority().ok_or_else(|| format!("the endpoint names no host: {example}"))?;
    if uri.query().is_some() {
        return Err(format!("the endpoint has a query: {example}"));
    }
    let port = if scheme == "https" { 443 } else { 80 };
    let authority = match authority.port() {
        Some(_) => authority.to_string(),
        None => format!("{}:{port}", authority.host()),
    };
    Ok(Target { scheme, authority, path: uri.path().trim_end_matches('/').to_owned() })
}
