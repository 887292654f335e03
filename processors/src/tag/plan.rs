//! What `tag` looks for in the records of one signal; fixed while it is open.

use std::sync::Arc;

use homeostat_pipeline::batch::Signal;
use homeostat_pipeline::evidence::Rows;
use homeostat_pipeline::interest::Selection;
use homeostat_pipeline::otlp::{LogView, MetricView, resource_logs, resource_metrics, resource_spans};
use homeostat_pipeline::refusal::{Cause, Refusal};

use super::level::Cut;
use super::prefilter::Prefilter;
use super::session::Session;
use super::vocabulary::{Expected, Vocabulary};

/// Rows that one request may yield: some 80 MiB. A resource with 32 keys makes 32 rows of each of its spans.
pub const ROWS_MAX: usize = 262_144;

/// One signal's plan.
#[derive(Debug)]
pub struct Plan {
    /// Which signal's.
    pub signal: Signal,
    /// The names and the grammar.
    pub vocabulary: Arc<Vocabulary>,
    /// The bytes without which there is nothing to find.
    pub prefilter: Prefilter,
    /// The model's selectors of this signal.
    pub selections: Vec<Selection>,
    /// What the records should carry.
    pub expected: Expected,
}

impl Plan {
    /// The rows of one request's body, and what limits cut off of it.
    ///
    /// # Errors
    /// More rows than [`ROWS_MAX`].
    pub fn rows(&self, body: &[u8]) -> Result<(Rows, Cut), Refusal> {
        match self.signal {
            Signal::Traces => self.spans(body),
            Signal::Logs => self.logs(body),
            Signal::Metrics => self.points(body),
        }
    }

    fn spans(&self, body: &[u8]) -> Result<(Rows, Cut), Refusal> {
        let Some(first) = self.prefilter.first(body) else { return Ok((Rows::new(), Cut::default())) };
        let mut session = Session::new(self, body);
        for resource in resource_spans(body) {
            let range = resource.range();
            if range.end <= first || !session.cursor.hits(&body[range]) {
                continue;
            }
            session.enter_resource(resource.resource().attributes());
            for scope in resource.scopes() {
                session.enter_scope(scope.scope());
                for message in scope.messages() {
                    if session.is_worth_reading(message) {
                        session.span(message);
                        limit(&session)?;
                    }
                }
            }
        }
        Ok((session.rows, session.cut))
    }

    fn points(&self, body: &[u8]) -> Result<(Rows, Cut), Refusal> {
        let Some(first) = self.prefilter.first(body) else { return Ok((Rows::new(), Cut::default())) };
        let mut session = Session::new(self, body);
        for resource in resource_metrics(body) {
            let range = resource.range();
            if range.end <= first || !session.cursor.hits(&body[range]) {
                continue;
            }
            session.enter_resource(resource.resource().attributes());
            for scope in resource.scopes() {
                session.enter_scope(scope.scope());
                for message in scope.messages() {
                    if !session.is_worth_reading(message) {
                        continue;
                    }
                    let metric = MetricView::read(message);
                    // What stands in the metric's name is said of all of its points.
                    let is_named = session.is_worth_reading(metric.name().as_bytes());
                    for point in metric.messages() {
                        if is_named || session.is_worth_reading(point) {
                            session.point(&metric, point);
                            limit(&session)?;
                        }
                    }
                }
            }
        }
        Ok((session.rows, session.cut))
    }

    fn logs(&self, body: &[u8]) -> Result<(Rows, Cut), Refusal> {
        let Some(first) = self.prefilter.first(body) else { return Ok((Rows::new(), Cut::default())) };
        let mut session = Session::new(self, body);
        for resource in resource_logs(body) {
            let range = resource.range();
            if range.end <= first || !session.cursor.hits(&body[range]) {
                continue;
            }
            session.enter_resource(resource.resource().attributes());
            for scope in resource.scopes() {
                session.enter_scope(scope.scope());
                for message in scope.messages() {
                    if session.is_worth_reading(message) {
                        session.log(&LogView::read(message));
                        limit(&session)?;
                    }
                }
            }
        }
        Ok((session.rows, session.cut))
    }
}

fn limit(session: &Session<'_, '_>) -> Result<(), Refusal> {
    if session.rows.len() > ROWS_MAX {
        return Err(Refusal::rejected(
            Cause::TooLarge,
            format!("the request yields more than {ROWS_MAX} rows of evidence; send smaller batches"),
        ));
    }
    Ok(())
}
