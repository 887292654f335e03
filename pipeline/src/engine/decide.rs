//! What people decide enters here: it is journalled as alerts are, and answered with what the fold makes of it.

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::Engine;
use super::inlet::{gone, journalled};
use super::writer::Command;
use crate::budget::Class;
use crate::entry::Decision;
use crate::finding::Finding;
use crate::refusal::Refusal;

impl Engine {
    /// Journals a decision, and answers with what it caused once that is in the ledger: nothing, when no analyzer takes it, and
    /// none when it is on disk but was not folded before `deadline`, or nobody knows what it caused.
    ///
    /// # Errors
    /// The journal takes nothing now, or it did not say by `deadline` whether it did; then the decision may hold all the same.
    pub async fn decide(
        &self,
        decision: Decision,
        deadline: Instant,
    ) -> Result<Option<Vec<Finding>>, Refusal> {
        let _under_way = self.shared.tracker.token();
        if self.shared.draining.is_cancelled() {
            return Err(Refusal::busy("homeostat is stopping"));
        }
        let texts = decision.subject.iter().map(|(key, value)| key.len() + value.len() + 48);
        let bytes = texts.sum::<usize>() + decision.author.len() + size_of::<Decision>();
        let charge = self.shared.budget.try_charge(None, Class::Alerts, bytes as u64)?;
        let (done, wait) = oneshot::channel();
        let (verdict, found) = oneshot::channel();
        let command = Command::Decision { decision, charge, done, verdict };
        self.shared.queue.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::busy("too many requests wait for the journal"),
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        journalled(wait, deadline).await?;
        Ok(timeout_at(deadline, found).await.ok().and_then(Result::ok).flatten())
    }
}
