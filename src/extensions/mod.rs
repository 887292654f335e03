//! `extensions:` in the Collector's form: what stands beside the pipelines. [`health_check`] answers probes and [`zpages`]
//! people; [`bearer`] and [`basic`] are authenticators, which `auth: { authenticator: … }` of receivers and exporters names.
//!
//! Only what `service.extensions` names is opened; what is only declared is read, and checked.

pub mod basic;
pub mod bearer;
pub mod health_check;
pub mod zpages;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use homeostat_config::Spec;
use homeostat_pipeline::extension::{Authenticator, Credentials, Extensions, Guard, Verdict};
use homeostat_pipeline::registry::show;
use homeostat_pipeline::secret::Secret;
use homeostat_pipeline::settings::{Files, Node, Problem, Value, did_you_mean, read};
use homeostat_pipeline::sockets::{Socket, Sockets};
use schemars::{Schema, SchemaGenerator};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Ask};
use crate::assemble::Kept;
use crate::changes::Changes;
use crate::configuration::Configuration;

/// One extension's settings.
#[derive(Debug)]
pub enum Extension {
    /// `health_check`.
    HealthCheck(health_check::HealthCheck),
    /// `bearertokenauth`.
    Bearer(bearer::Bearer),
    /// `basicauth`.
    Basic(basic::Basic),
    /// `zpages`.
    Zpages(zpages::Zpages),
}

/// A type of extension.
pub struct Kind {
    /// The type of `type/name` in YAML.
    pub kind: &'static str,
    /// One line for `homeostat components`.
    pub about: &'static str,
    read: fn(&Node) -> Result<Extension, Problem>,
    /// What its block may say.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// What a block says, as JSON: with every default, and without its secrets.
    pub show: fn(&Node) -> Result<String, Problem>,
}

/// Keys of the Collector's `zpages` that are not supported, and what to do without them.
const ZPAGES_UNSUPPORTED: &[(&str, &str)] = &[
    ("expvar", "there are no variables of Go"),
    ("tls", "the pages stay on loopback"),
    ("auth", "the pages stay on loopback"),
    ("cors", "the pages answer no scripts of others"),
];

/// Says which key of the Collector's extension is not supported, before the general "unknown key" would.
fn supported(node: &Node, kind: &str, unsupported: &[(&str, &str)]) -> Result<(), Problem> {
    let Value::Map(fields) = &node.value else { return Ok(()) };
    let found =
        fields.iter().find_map(|field| Some((field, unsupported.iter().find(|(key, _)| *key == field.key)?)));
    match found {
        Some((field, (key, remedy))) => Err(Problem::error(
            &field.at,
            format!("`{key}` of the Collector's {kind} is not supported here ({remedy}): remove it"),
        )),
        None => Ok(()),
    }
}

/// Every type.
pub fn list() -> [Kind; 4] {
    [
        Kind {
            kind: "basicauth",
            about: "checks and sends user names and passwords (htpasswd, client_auth)",
            read: |node| read(node).map(Extension::Basic),
            schema: |generator| generator.subschema_for::<basic::Basic>(),
            show: show::<basic::Basic>,
        },
        Kind {
            kind: "bearertokenauth",
            about: "checks and sends a token, from the configuration or a file that may change",
            read: |node| read(node).map(Extension::Bearer),
            schema: |generator| generator.subschema_for::<bearer::Bearer>(),
            show: show::<bearer::Bearer>,
        },
        Kind {
            kind: "health_check",
            about: "answers probes with 200 while homeostat is ready (13133)",
            read: |node| {
                supported(node, "health_check", health_check::UNSUPPORTED)?;
                read(node).map(Extension::HealthCheck)
            },
            schema: |generator| generator.subschema_for::<health_check::HealthCheck>(),
            show: show::<health_check::HealthCheck>,
        },
        Kind {
            kind: "zpages",
            about: "shows what runs, in JSON, at the Collector's /debug/servicez and pipelinez (55679)",
            read: |node| {
                supported(node, "zpages", ZPAGES_UNSUPPORTED)?;
                read(node).map(Extension::Zpages)
            },
            schema: |generator| generator.subschema_for::<zpages::Zpages>(),
            show: show::<zpages::Zpages>,
        },
    ]
}

/// Extension id → settings.
pub type Parts = BTreeMap<String, Extension>;

/// Reads every extension that is declared.
pub fn settings(spec: &Spec, files: &Files, problems: &mut Vec<Problem>) -> Parts {
    let known = list();
    let mut parts = Parts::new();
    for named in &spec.extensions {
        let Some(kind) = known.iter().find(|kind| kind.kind == named.kind) else {
            let near = did_you_mean(&named.kind, known.iter().map(|kind| kind.kind));
            let message = format!("unknown extension type `{}`{near}", named.kind);
            problems.push(Problem::error(&named.at, message));
            continue;
        };
        match (kind.read)(&named.node) {
            Ok(extension) => {
                problems.extend(
                    extension.check(files).into_iter().map(|problem| Problem {
                        at: problem.at.or_else(|| Some(named.at.clone())),
                        ..problem
                    }),
                );
                parts.insert(named.id.clone(), extension);
            }
            Err(problem) => problems.push(problem),
        }
    }
    parts
}

fn in_use<'a>(spec: &'a Spec, parts: &'a Parts) -> impl Iterator<Item = (&'a String, &'a Extension)> {
    spec.service.extensions.iter().filter_map(|id| parts.get_key_value(&id.value))
}

/// What the extensions in use would give, for checking references to them: no file is read.
pub fn outline(spec: &Spec, parts: &Parts) -> Extensions {
    let authenticators =
        in_use(spec, parts).filter_map(|(id, extension)| Some((id.clone(), extension.outline()?)));
    Extensions { authenticators: authenticators.collect() }
}

/// Opens the authenticators in use that `kept` does not have.
///
/// # Errors
/// Names the extension whose files cannot be read.
pub fn open(
    configuration: &Configuration,
    kept: Option<Kept<'_>>,
    stop: &CancellationToken,
) -> anyhow::Result<Extensions> {
    let Configuration { spec, extensions: parts, files, .. } = configuration;
    let mut extensions = Extensions::default();
    for (id, extension) in in_use(spec, parts) {
        let kept = kept.filter(|kept| !kept.changes.extensions.contains_key(id));
        if let Some(authenticator) = kept.and_then(|kept| kept.opened.extensions.authenticators.get(id)) {
            extensions.authenticators.insert(id.clone(), authenticator.clone());
            continue;
        }
        let opened = match extension {
            Extension::Bearer(bearer) => Some(bearer.open(files, stop.clone())),
            Extension::Basic(basic) => Some(basic.open(files, stop.clone())),
            Extension::HealthCheck(_) | Extension::Zpages(_) => None,
        };
        if let Some(opened) = opened {
            let authenticator = opened.with_context(|| format!("cannot start the extension `{id}`"))?;
            extensions.authenticators.insert(id.clone(), authenticator);
        }
    }
    Ok(extensions)
}

/// Pages that listen and are not served yet.
pub struct Bound {
    socket: Socket,
    router: Box<dyn FnOnce(Ask) -> Router + Send>,
}

fn listen(id: &str, endpoint: &str, insecure: bool, sockets: &Sockets) -> anyhow::Result<Socket> {
    let address = admin::address(endpoint, insecure).map_err(anyhow::Error::msg)?;
    sockets.bind(id, "pages", &[address]).with_context(|| format!("cannot listen on {address}"))
}

/// Binds the pages of the extensions in use; at a reload those that changed, and those that show the configuration.
///
/// # Errors
/// Names the extension whose endpoint cannot be bound.
pub fn bind(
    configuration: &Configuration,
    changes: Option<&Changes>,
    sockets: &Sockets,
) -> anyhow::Result<Vec<(String, Bound)>> {
    let Configuration { spec, extensions: parts, .. } = configuration;
    let has_changed = |id: &str| changes.is_none_or(|changes| changes.extensions.contains_key(id));
    let bound = in_use(spec, parts).filter_map(|(id, extension)| {
        let bound = match extension {
            Extension::HealthCheck(check) if has_changed(id) => check.bind(id, sockets),
            Extension::Zpages(pages) => pages.bind(id, spec, sockets),
            Extension::HealthCheck(_) | Extension::Bearer(_) | Extension::Basic(_) => return None,
        };
        let bound = bound.with_context(|| format!("cannot start the extension `{id}`"));
        Some(bound.map(|bound| (id.clone(), bound)))
    });
    bound.collect()
}

/// The ids of the pages in use that show the configuration.
pub fn shown(configuration: &Configuration) -> Vec<String> {
    let Configuration { spec, extensions: parts, .. } = configuration;
    let all = in_use(spec, parts);
    all.filter(|(_, extension)| matches!(extension, Extension::Zpages(_))).map(|(id, _)| id.clone()).collect()
}

impl Bound {
    /// Serves until `stop`.
    ///
    /// # Errors
    /// Those of the listener.
    pub async fn serve(self, ask: Ask, stop: CancellationToken) -> anyhow::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.socket.listener()?)?;
        tokio::select! {
            served = axum::serve(listener, (self.router)(ask)) => served.map_err(Into::into),
            () = stop.cancelled() => Ok(()),
        }
    }
}

impl Extension {
    fn check(&self, files: &Files) -> Vec<Problem> {
        match self {
            Extension::HealthCheck(check) => check.problems(),
            Extension::Zpages(pages) => pages.problems(),
            Extension::Bearer(bearer) => bearer.problems(files),
            Extension::Basic(basic) => basic.problems(files),
        }
    }

    fn outline(&self) -> Option<Authenticator> {
        let (is_guard, has_credentials) = match self {
            Extension::HealthCheck(_) | Extension::Zpages(_) => return None,
            Extension::Bearer(_) => (true, true),
            Extension::Basic(basic) => (basic.htpasswd.is_some(), basic.client_auth.is_some()),
        };
        Some(Authenticator {
            guard: is_guard.then(|| Arc::new(Nobody) as Arc<dyn Guard>),
            credentials: has_credentials.then(|| Arc::new(Nobody) as Arc<dyn Credentials>),
        })
    }
}

/// Stands in an outline.
struct Nobody;

impl Guard for Nobody {
    fn judge(&self, _authorization: Option<&[u8]>) -> Verdict {
        Verdict::Refused
    }

    fn challenge(&self) -> &'static str {
        "Bearer"
    }
}

impl Credentials for Nobody {
    fn authorization(&self) -> Secret {
        Secret::new("")
    }
}
