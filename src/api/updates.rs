//! `/api/v1/model/updates`: thresholds that people adjust, by their own name and from a date on.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use homeostat_pipeline::clock::{Clock, SystemClock, Timestamp};
use homeostat_pipeline::entry::Decision;
use homeostat_pipeline::finding::{AdjustmentChange, Finding, Level, ThresholdAdjusted};
use homeostat_pipeline::settings::did_you_mean;
use homeostat_processors::homeostasis::model::{level_of, proposed};
use serde::{Deserialize, Serialize};

use super::board::Board;
use super::{Api, Fault, check};

/// `POST /model/updates`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUpdate {
    /// Who approves.
    pub author: String,
    /// The requirement's key.
    pub req_id: String,
    /// `p95_latency_ms`.
    pub measure: String,
    /// `target`, `warning`, `critical`, `lower`, `upper`.
    pub level: String,
    /// The new number, in the measure's unit …
    pub value: f64,
    /// … or in this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Why.
    pub reason: String,
    /// From when on; at once, when it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_date: Option<Timestamp>,
}

/// All that the ledger knows, in the order of their approval.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<ThresholdAdjusted>>, Fault> {
    let shown = api.board().await?;
    let found = shown.look().updates().into_iter().cloned().collect();
    Ok(Json(found))
}

/// Adjusts a threshold.
pub(super) async fn adjust(
    State(api): State<Api>,
    body: Result<Json<NewUpdate>, JsonRejection>,
) -> Result<(StatusCode, Json<ThresholdAdjusted>), Fault> {
    let Json(asked) = body?;
    check(&asked.author, &asked.reason)?;
    if asked.reason.trim().is_empty() {
        return Err(Fault::wrong("`reason` is missing: an adjustment says why"));
    }
    let level = level_of(&asked.level).map_err(Fault::wrong)?;
    let now = SystemClock.now();
    if let Some(date) = asked.effective_date.filter(|date| *date < now) {
        return Err(Fault::wrong(format!(
            "the effective date {date} is past: windows that were judged stay as they are (leave it out, and it holds at once)"
        )));
    }
    is_possible(&api.board().await?.look(), &asked, level, asked.effective_date.unwrap_or(now))?;
    let (value, date) = (asked.value.to_string(), asked.effective_date.map(|date| date.to_string()));
    let mut subject = vec![
        ("req", asked.req_id.as_str()),
        ("measure", asked.measure.as_str()),
        ("level", asked.level.as_str()),
        ("value", value.as_str()),
        ("reason", asked.reason.as_str()),
    ];
    subject.extend(asked.unit.as_deref().map(|unit| ("unit", unit)));
    subject.extend(date.as_deref().map(|date| ("effective_date", date)));
    let found = api.decide(Decision::ADJUST_THRESHOLD, &asked.author, &subject).await?;
    let made = found.into_iter().find_map(|finding| match finding {
        Finding::Threshold(made) => Some(made),
        Finding::Behaviors { .. }
        | Finding::Deviation(_)
        | Finding::Model(_)
        | Finding::Silence(_)
        | Finding::Notice(_) => None,
    });
    let made = made.ok_or_else(|| {
        let reason = "the adjustment was not taken: the model or another adjustment changed meanwhile, or no pipeline judges";
        Fault(StatusCode::CONFLICT, reason.to_owned())
    })?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// What the fold would refuse without a word, said.
fn is_possible(board: &Board, asked: &NewUpdate, level: Level, from: Timestamp) -> Result<(), Fault> {
    let Some(model) = board.model() else {
        return Err(Fault(StatusCode::CONFLICT, "no model holds yet".to_owned()));
    };
    let keys = || model.requirements.iter().map(|one| one.req_id.as_str());
    let Some(requirement) = model.requirements.iter().find(|one| one.req_id == asked.req_id) else {
        let near = did_you_mean(&asked.req_id, keys());
        return Err(Fault::wrong(format!("the model has no requirement `{}`{near}", asked.req_id)));
    };
    let measures = || requirement.thresholds.keys().map(String::as_str);
    let Some(stated) = requirement.thresholds.get(&asked.measure) else {
        let near = did_you_mean(&asked.measure, measures());
        let known: Vec<&str> = measures().collect();
        let (req, measure) = (&asked.req_id, &asked.measure);
        let message = format!("{req} states no threshold of `{measure}`{near}; known: {}", known.join(", "));
        return Err(Fault::wrong(message));
    };
    let mut threshold = stated.clone();
    for update in board.updates() {
        if update.change == AdjustmentChange::Void
            || (&update.req_id, &update.measure) != (&asked.req_id, &asked.measure)
        {
            continue;
        }
        if update.effective_date > from {
            let (id, date) = (&update.update_id, update.effective_date);
            let message =
                format!("{id} of the same measure takes effect later, at {date}: name a date from then on");
            return Err(Fault(StatusCode::CONFLICT, message));
        }
        let word = homeostat_processors::homeostasis::model::word_of(update.level);
        threshold.levels.insert(word.to_owned(), update.new);
    }
    proposed(&threshold, level, asked.value, asked.unit.as_deref()).map(|_| ()).map_err(Fault::wrong)
}
