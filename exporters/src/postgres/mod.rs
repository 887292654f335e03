//! `postgres` keeps the findings in tables: deviations and their lives, behaviors, models, and the ledger's chain itself.
//!
//! ```yaml
//! postgres:
//!   url: "postgres://homeostat:secret@127.0.0.1:5432/homeostat"
//!   schema: homeostat
//!   connect_timeout: 5s
//!   statement_timeout: 5s
//! ```
//!
//! A batch is one transaction; the same batch again changes nothing, and an older version never overwrites a newer one. A row
//! that Postgres refuses for good is found by halving the batch: it goes to the dead letters and the rest commits.

mod fault;
mod session;
mod settings;

use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use homeostat_pipeline::contract::{FindingExporter, Reject};
use homeostat_pipeline::ledger::LedgerEntry;
use homeostat_pipeline::refusal::Refusal;
use homeostat_pipeline::registry::{Component, Context, Role, Settings};
use homeostat_pipeline::settings::{Files, Problem};
use metrics::{counter, gauge};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::Config;

use fault::Fault;
use session::{Scope, Session};
pub use settings::Postgres;

/// Statements of one transaction, at most: so many statement timeouts are the end of our patience.
const STATEMENTS_MAX: u32 = 8;
/// Beyond the time to connect: a first start may wait for another process that migrates.
const OPEN_PATIENCE: Duration = Duration::from_secs(90);

#[async_trait]
impl Settings for Postgres {
    fn role(&self) -> Role {
        Role::FindingExporter
    }

    fn check(&self, _files: &Files) -> Vec<Problem> {
        self.problems()
    }

    async fn open(&self, context: Context) -> anyhow::Result<Component> {
        let config = self.config()?;
        Ok(Component::FindingExporter(Arc::new(Exporter {
            id: context.id,
            peer: settings::peer(&config),
            config,
            schema: self.schema().to_owned(),
            connect_timeout: self.connect_timeout.0,
            statement_timeout: self.statement_timeout.0,
            session: Mutex::new(None),
            complaint: StdMutex::default(),
        })))
    }
}

struct Exporter {
    id: String,
    /// `host:port/database`.
    peer: String,
    config: Config,
    schema: String,
    connect_timeout: Duration,
    statement_timeout: Duration,
    session: Mutex<Option<Session>>,
    /// What was said last to the one who must act; said once.
    complaint: StdMutex<Option<String>>,
}

#[async_trait]
impl FindingExporter for Exporter {
    async fn export(&self, entries: &[LedgerEntry]) -> Result<Vec<Reject>, Refusal> {
        let mut slot = self.session.lock().await;
        // Taken out, so that a session whose export is given up in between is not used again.
        let mut session = match slot.take() {
            Some(session) if !session.is_closed() => session,
            Some(_) | None => self.open().await.map_err(|fault| self.refusal(&fault))?,
        };
        let rejects = self.write(&mut session, entries).await.map_err(|fault| self.refusal(&fault))?;
        *slot = Some(session);
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(rejects)
    }
}

impl Exporter {
    async fn open(&self) -> Result<Session, Fault> {
        let opening = Session::open(&self.config, &self.schema, self.statement_timeout);
        let session = timeout(self.connect_timeout + OPEN_PATIENCE, opening)
            .await
            .unwrap_or_else(|_| Err(Fault::Later("it took too long to connect".to_owned())))?;
        gauge!("homeostat_postgres_connected", "exporter" => self.id.clone()).set(1.0);
        tracing::info!(
            exporter = self.id,
            server = self.peer,
            schema = self.schema,
            "findings go to Postgres"
        );
        Ok(session)
    }

    /// Writes all that Postgres takes, by halves where it refuses a row, in the order of the ledger.
    async fn write(&self, session: &mut Session, entries: &[LedgerEntry]) -> Result<Vec<Reject>, Fault> {
        let mut rejects = Vec::new();
        let mut parts = vec![entries];
        while let Some(part) = parts.pop() {
            match self.attempt(session, part, Scope::Whole).await {
                Ok(()) => {}
                Err(Fault::Row(reason)) => match part {
                    [] => {}
                    [entry] => rejects.push(self.reject(session, entry, reason).await?),
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                },
                Err(fault @ (Fault::Later(_) | Fault::Act(_))) => return Err(fault),
            }
        }
        Ok(rejects)
    }

    /// The tables do not take this entry; the chain may all the same.
    async fn reject(
        &self,
        session: &mut Session,
        entry: &LedgerEntry,
        reason: String,
    ) -> Result<Reject, Fault> {
        let reason = match self.attempt(session, std::slice::from_ref(entry), Scope::Chain).await {
            Ok(()) => reason,
            Err(Fault::Row(chain)) => format!("{reason}; nor does the ledger take it: {chain}"),
            Err(fault @ (Fault::Later(_) | Fault::Act(_))) => return Err(fault),
        };
        Ok(Reject { sequence: entry.sequence, reason })
    }

    async fn attempt(&self, session: &mut Session, part: &[LedgerEntry], scope: Scope) -> Result<(), Fault> {
        let patience = self.statement_timeout * STATEMENTS_MAX;
        let result = timeout(patience, session.write(part, scope))
            .await
            .unwrap_or_else(|_| Err(Fault::Later(format!("no answer within {patience:?}"))));
        let outcome = match &result {
            Ok(()) => "committed",
            Err(Fault::Row(_)) => "halved",
            Err(Fault::Later(_) | Fault::Act(_)) => "failed",
        };
        counter!("homeostat_postgres_transactions_total", "exporter" => self.id.clone(), "outcome" => outcome)
            .increment(1);
        result
    }

    fn refusal(&self, fault: &Fault) -> Refusal {
        gauge!("homeostat_postgres_connected", "exporter" => self.id.clone()).set(0.0);
        let reason = format!("postgres at {}: {}", self.peer, fault.reason());
        if matches!(fault, Fault::Act(_)) {
            let mut complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
            if complaint.as_ref() != Some(&reason) {
                tracing::error!(exporter = self.id, reason, "findings wait until somebody acts");
                *complaint = Some(reason.clone());
            }
        }
        Refusal::busy(reason)
    }
}
