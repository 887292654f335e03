//! What extensions give to components: authenticators, by the id that `auth: { authenticator: … }` names.
//!
//! A receiver asks its [`Guard`] before it reads a body, and waits where the answer has to be computed; an exporter takes its
//! [`Credentials`] anew for each attempt, because they are read again when their file changes. Neither is ever printed.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refusal::{Cause, Refusal};
use crate::secret::Secret;
use crate::settings::{At, Problem, did_you_mean};

/// Decides who may send.
pub trait Guard: Send + Sync {
    /// What it says to the value of a request's `authorization` header. How long that takes does not tell how much of a wrong
    /// secret was right.
    fn judge(&self, authorization: Option<&[u8]>) -> Verdict;

    /// The scheme for `www-authenticate`: `Bearer`, `Basic realm="homeostat"`.
    fn challenge(&self) -> &'static str;
}

/// What a guard says. Most know at once, and that costs nothing.
pub enum Verdict {
    /// It may send.
    Admitted,
    /// It may not.
    Refused,
    /// It has to be computed: whether it may send, or `Unavailable` where that cannot be found out now.
    Pending(BoxFuture<'static, Result<bool, Refusal>>),
}

impl Verdict {
    /// Waits for it.
    ///
    /// # Errors
    /// `Unauthenticated` when the credentials are missing or wrong, and it does not say which; `Unavailable` as above.
    pub async fn known(self) -> Result<(), Refusal> {
        let is_admitted = match self {
            Verdict::Admitted => true,
            Verdict::Refused => false,
            Verdict::Pending(check) => check.await?,
        };
        let refused = || {
            Refusal::rejected(Cause::Unauthenticated, "no valid credentials: send them in `authorization`")
        };
        is_admitted.then_some(()).ok_or_else(refused)
    }
}

impl From<bool> for Verdict {
    fn from(is_admitted: bool) -> Verdict {
        if is_admitted { Verdict::Admitted } else { Verdict::Refused }
    }
}

/// Says who is sending.
pub trait Credentials: Send + Sync {
    /// The value of the `authorization` header.
    fn authorization(&self) -> Secret;
}

/// Which side of an authenticator a component wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A receiver's.
    Guard,
    /// An exporter's.
    Credentials,
}

/// Both sides of an authenticator; either may be missing.
#[derive(Clone, Default)]
pub struct Authenticator {
    /// For receivers.
    pub guard: Option<Arc<dyn Guard>>,
    /// For exporters.
    pub credentials: Option<Arc<dyn Credentials>>,
}

/// What the extensions of the process give.
#[derive(Default)]
pub struct Extensions {
    /// Extension id → authenticator.
    pub authenticators: BTreeMap<String, Authenticator>,
}

/// `auth:` of a receiver's protocol or an exporter, in the Collector's form.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// An extension's id.
    pub authenticator: At<String>,
}

/// `user:password` of an `authorization` header of the Basic scheme (RFC 7617), in any case of its name.
pub fn basic(authorization: &[u8]) -> Option<Vec<u8>> {
    let (scheme, rest) = authorization.split_at_checked(6)?;
    scheme.eq_ignore_ascii_case(b"basic ").then(|| STANDARD.decode(rest.trim_ascii()).ok()).flatten()
}

/// Whether two secrets are the same, in a time that does not depend on where they differ.
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    // `blake3::Hash` is compared in constant time.
    blake3::hash(one) == blake3::hash(other)
}

impl Extensions {
    fn authenticator(&self, auth: &Auth) -> Result<&Authenticator, Problem> {
        let id = &auth.authenticator;
        self.authenticators.get(&id.value).ok_or_else(|| {
            let near = did_you_mean(&id.value, self.authenticators.keys().map(String::as_str));
            let message = format!(
                "no authenticator `{}` is in `service.extensions`{near}: declare it under `extensions:` and name it there",
                id.value
            );
            Problem::error(&id.at, message)
        })
    }

    /// Whether a component that wants this side finds it.
    ///
    /// # Errors
    /// As [`Extensions::guard`] and [`Extensions::credentials`].
    pub fn check(&self, side: Side, auth: &Auth) -> Result<(), Problem> {
        match side {
            Side::Guard => self.guard(auth).map(|_| ()),
            Side::Credentials => self.credentials(auth).map(|_| ()),
        }
    }

    /// The guard that a receiver names.
    ///
    /// # Errors
    /// There is none of that id, or it cannot check anybody.
    pub fn guard(&self, auth: &Auth) -> Result<Arc<dyn Guard>, Problem> {
        self.authenticator(auth)?.guard.clone().ok_or_else(|| {
            let id = &auth.authenticator;
            let message = format!("the authenticator `{}` has nothing for receivers (`htpasswd`)", id.value);
            Problem::error(&id.at, message)
        })
    }

    /// The credentials that an exporter names.
    ///
    /// # Errors
    /// There are none of that id, or none to send.
    pub fn credentials(&self, auth: &Auth) -> Result<Arc<dyn Credentials>, Problem> {
        self.authenticator(auth)?.credentials.clone().ok_or_else(|| {
            let id = &auth.authenticator;
            let message =
                format!("the authenticator `{}` has nothing for exporters (`client_auth`)", id.value);
            Problem::error(&id.at, message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_basics_in_any_case_and_base64_of_a_pair() {
        assert_eq!(basic(b"bAsIc  bWU6aHVudGVyMg== "), Some(b"me:hunter2".to_vec()));
        for wrong in [&b""[..], b"Basic", b"Bearer bWU6aHVudGVyMg==", b"Basic bWU6aHVudGVyMg", b"Basic *"] {
            assert_eq!(basic(wrong), None, "{wrong:?}");
        }
    }
}
