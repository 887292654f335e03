//! The admin listener's `/api/v1`: what the ledger says of deviations, silences and updates of the model, and what people decide
//! about them.
//!
//! A decision is answered when its entry is on disk and folded; the answer is the finding that it caused. Whoever is wrong
//! hears why and nothing is journalled. Who may ask is in `callers`.

pub mod board;
pub mod updates;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use homeostat_pipeline::clock::{Clock, SystemClock, Timestamp};
use homeostat_pipeline::engine::Engine;
use homeostat_pipeline::entry::Decision;
use homeostat_pipeline::finding::{Deviation, Finding, Silence, SilenceChange};
use homeostat_pipeline::ledger::LedgerReader;
use homeostat_pipeline::settings::parse_period;
use homeostat_processors::homeostasis::matcher::Matcher;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use board::Board;

use crate::callers;

/// How long a decision may take until it is folded.
const PATIENCE: Duration = Duration::from_secs(10);
/// At most so many bytes has the body of a request.
const BODY_BYTES_MAX: usize = 64 << 10;
/// At most so many characters have an author and a comment.
const AUTHOR_CHARS_MAX: usize = 256;
const COMMENT_CHARS_MAX: usize = 4096;
/// At most so many silences are known at a time; the fold holds to the same.
const SILENCES_MAX: usize = 10_000;

/// What the pages need.
#[derive(Clone)]
pub struct Api {
    engine: Arc<Engine>,
    ledger: LedgerReader,
    board: Arc<Mutex<Board>>,
}

/// Why a request is not answered with what it asked for.
pub struct Fault(StatusCode, String);

impl Fault {
    fn wrong(reason: impl Into<String>) -> Fault {
        Fault(StatusCode::BAD_REQUEST, reason.into())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let body = Json(serde_json::json!({ "error": self.1 }));
        let mut response = (self.0, body).into_response();
        if self.0 == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<JsonRejection> for Fault {
    fn from(rejection: JsonRejection) -> Fault {
        Fault(rejection.status(), rejection.body_text())
    }
}

/// `POST /deviations/{id}/acknowledge`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// Who.
    pub author: String,
    /// Free text.
    #[serde(default)]
    pub comment: String,
}

/// `POST /silences`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSilence {
    /// Who.
    pub author: String,
    /// `req="REQ-NFR-PERF-001"`; all have to match.
    pub matchers: Vec<String>,
    /// Now, when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// Either this, or `for`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// `2h`, from its start.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// Free text.
    #[serde(default)]
    pub comment: String,
}

impl Api {
    /// The pages over an engine and its ledger.
    pub fn new(engine: Arc<Engine>, ledger: LedgerReader) -> Api {
        Api { engine, ledger, board: Arc::default() }
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/api/v1/deviations", get(deviations))
            .route("/api/v1/deviations/{id}", get(deviation))
            .route("/api/v1/deviations/{id}/acknowledge", post(acknowledge))
            .route("/api/v1/silences", get(silences).post(silence))
            .route("/api/v1/silences/{id}", delete(expire))
            .route("/api/v1/model/updates", get(updates::list).post(updates::adjust))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(middleware::from_fn(callers::deciders))
            .with_state(self)
    }

    /// The board as the ledger has it now.
    async fn board(&self) -> Result<Shown, Fault> {
        let (board, ledger) = (Arc::clone(&self.board), self.ledger.clone());
        let caught_up = tokio::task::spawn_blocking(move || {
            board.lock().unwrap_or_else(PoisonError::into_inner).catch_up(&ledger)
        });
        match caught_up.await {
            Ok(Ok(())) => Ok(Shown(Arc::clone(&self.board))),
            Ok(Err(error)) => Err(unreadable(&error.to_string())),
            Err(error) => Err(unreadable(&error.to_string())),
        }
    }

    /// Journals a decision and waits for what it causes.
    async fn decide(
        &self,
        kind: &str,
        author: &str,
        subject: &[(&str, &str)],
    ) -> Result<Vec<Finding>, Fault> {
        let pairs = subject.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let subject: BTreeMap<String, String> = pairs.collect();
        let decision = Decision { kind: kind.to_owned(), author: author.to_owned(), subject };
        match self.engine.decide(decision, Instant::now() + PATIENCE).await {
            Ok(Some(findings)) => Ok(findings),
            Ok(None) => Err(Fault(
                StatusCode::ACCEPTED,
                "the decision is journalled, but not folded yet; look again in a moment".to_owned(),
            )),
            Err(refusal) => Err(Fault(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string())),
        }
    }
}

fn unreadable(error: &str) -> Fault {
    Fault(StatusCode::INTERNAL_SERVER_ERROR, format!("the ledger cannot be read: {error}"))
}

/// The board, to be looked at without waiting.
struct Shown(Arc<Mutex<Board>>);

impl Shown {
    fn look(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `status=` live (the default), all, or one status; `req=` one requirement.
#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    req: Option<String>,
}

/// Whether a deviation is asked for.
///
/// # Errors
/// `status` is none that there is.
pub fn wants(status: &str, req: Option<&str>, one: &Deviation) -> bool {
    let is_status = match status {
        "live" => one.status.is_live(),
        "all" => true,
        name => one.status.name() == name,
    };
    is_status && req.is_none_or(|req| one.req_id == req)
}

/// What `status` may be.
pub const STATUSES: [&str; 8] =
    ["live", "all", "open", "acknowledged", "recovering", "resolved", "verified", "expired"];

async fn deviations(
    State(api): State<Api>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Vec<Deviation>>, Fault> {
    let status = wanted.status.as_deref().unwrap_or("live");
    if !STATUSES.contains(&status) {
        return Err(Fault::wrong(format!("unknown status `{status}`; known: {}", STATUSES.join(", "))));
    }
    let shown = api.board().await?;
    let board = shown.look();
    let found = board.deviations(|one| wants(status, wanted.req.as_deref(), one));
    Ok(Json(found.into_iter().cloned().collect()))
}

async fn deviation(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<Deviation>, Fault> {
    Ok(Json(known(&api, &id).await?))
}

async fn known(api: &Api, id: &str) -> Result<Deviation, Fault> {
    let shown = api.board().await?;
    let found = shown.look().deviation_of(id).cloned();
    found.ok_or_else(|| {
        let reason =
            format!("there is no deviation `{id}` (`homeostat deviations list --status all` lists them)");
        Fault(StatusCode::NOT_FOUND, reason)
    })
}

async fn acknowledge(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Result<Json<Acknowledge>, JsonRejection>,
) -> Result<Json<Deviation>, Fault> {
    let Json(Acknowledge { author, comment }) = body?;
    check(&author, &comment)?;
    let deviation = known(&api, &id).await?;
    let not_live = |deviation: &Deviation| {
        let (id, status) = (&deviation.deviation_id, deviation.status.name());
        Fault(StatusCode::CONFLICT, format!("{id} is {status}: only what is live can be acknowledged"))
    };
    if !deviation.status.is_live() {
        return Err(not_live(&deviation));
    }
    let is_repeat = |seen: &homeostat_pipeline::finding::Acknowledgement| {
        seen.author == author && seen.comment == comment
    };
    if deviation.acknowledgement.as_ref().is_some_and(is_repeat) {
        return Ok(Json(deviation));
    }
    let subject = [("deviation", deviation.uid.as_str()), ("comment", comment.as_str())];
    let found = api.decide(Decision::ACKNOWLEDGE, &author, &subject).await?;
    for finding in found {
        if let Finding::Deviation(deviation) = finding {
            return Ok(Json(*deviation));
        }
    }
    Err(not_live(&known(&api, &deviation.uid).await?))
}

/// `all=true`: those that ended within a day, too.
#[derive(Deserialize)]
struct Which {
    #[serde(default)]
    all: bool,
}

async fn silences(State(api): State<Api>, Query(which): Query<Which>) -> Result<Json<Vec<Silence>>, Fault> {
    let shown = api.board().await?;
    let found = shown.look().silences(which.all).into_iter().cloned().collect();
    Ok(Json(found))
}

async fn silence(
    State(api): State<Api>,
    body: Result<Json<NewSilence>, JsonRejection>,
) -> Result<(StatusCode, Json<Silence>), Fault> {
    let Json(asked) = body?;
    check(&asked.author, &asked.comment)?;
    let matchers = asked.matchers.join(",");
    Matcher::parse_all(&matchers).map_err(Fault::wrong)?;
    let now = SystemClock.now();
    let starts_at = asked.starts_at.unwrap_or(now).max(now);
    let ends_at = ends_at(&asked, starts_at).map_err(Fault::wrong)?;
    if api.board().await?.look().silences(true).len() >= SILENCES_MAX {
        let reason =
            format!("there are {SILENCES_MAX} silences already (one is forgotten a day after its end)");
        return Err(Fault(StatusCode::CONFLICT, reason));
    }
    let (starts, ends) = (starts_at.to_string(), ends_at.to_string());
    let mut subject = vec![
        ("matchers", matchers.as_str()),
        ("ends_at", ends.as_str()),
        ("comment", asked.comment.as_str()),
    ];
    subject.extend(asked.starts_at.is_some().then_some(("starts_at", starts.as_str())));
    let found = api.decide(Decision::SILENCE, &asked.author, &subject).await?;
    let made = silence_in(found).ok_or_else(|| {
        let reason = "the silence was not taken: it ended before it began, or no pipeline judges";
        Fault(StatusCode::CONFLICT, reason.to_owned())
    })?;
    Ok((StatusCode::CREATED, Json(made)))
}

fn ends_at(asked: &NewSilence, starts_at: Timestamp) -> Result<Timestamp, String> {
    let ends_at = match (asked.ends_at, &asked.period) {
        (Some(ends_at), None) => ends_at,
        (None, Some(period)) => starts_at + parse_period(period)?,
        (Some(_), Some(_)) | (None, None) => {
            return Err("say either `ends_at` or `for`, such as `\"for\": \"2h\"`".to_owned());
        }
    };
    if ends_at <= starts_at {
        return Err(format!("the silence ends at {ends_at}, before it starts"));
    }
    Ok(ends_at)
}

fn silence_in(findings: Vec<Finding>) -> Option<Silence> {
    findings.into_iter().find_map(|finding| match finding {
        Finding::Silence(silence) => Some(silence),
        Finding::Behaviors { .. }
        | Finding::Deviation(_)
        | Finding::Model(_)
        | Finding::Threshold(_)
        | Finding::Notice(_) => None,
    })
}

/// Who ends it; in the query, for DELETE has no body.
#[derive(Deserialize)]
struct By {
    author: String,
}

async fn expire(
    State(api): State<Api>,
    Path(id): Path<String>,
    Query(By { author }): Query<By>,
) -> Result<Json<Silence>, Fault> {
    check(&author, "")?;
    let over = || Fault(StatusCode::CONFLICT, format!("the silence `{id}` is over already"));
    let state = api.board().await?.look().silence_of(&id).map(|silence| silence.change);
    match state {
        None => {
            let reason = format!("there is no silence `{id}` (`homeostat silence list` lists them)");
            return Err(Fault(StatusCode::NOT_FOUND, reason));
        }
        Some(SilenceChange::Expired) => return Err(over()),
        Some(SilenceChange::Created) => {}
    }
    let found = api.decide(Decision::SILENCE_EXPIRE, &author, &[("id", &id)]).await?;
    silence_in(found).map(Json).ok_or_else(over)
}

/// Every decision names who decided.
fn check(author: &str, comment: &str) -> Result<(), Fault> {
    if author.trim().is_empty() {
        return Err(Fault::wrong("`author` is missing: every decision names who decided"));
    }
    if author.chars().count() > AUTHOR_CHARS_MAX || author.chars().any(char::is_control) {
        return Err(Fault::wrong(format!("`author` is one line of at most {AUTHOR_CHARS_MAX} characters")));
    }
    if comment.chars().count() > COMMENT_CHARS_MAX {
        return Err(Fault::wrong(format!("`comment` has at most {COMMENT_CHARS_MAX} characters")));
    }
    Ok(())
}
