//! One connection with its schema in place and its statements prepared.

use std::collections::BTreeSet;
use std::time::Duration;

use homeostat_pipeline::finding::Finding;
use homeostat_pipeline::ledger::LedgerEntry;
use refinery::{Migration, Runner};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::fault::{Fault, spoken};

/// The migrations, in order. One that has shipped is never changed: the next one is added.
const MIGRATIONS: [(&str, &str); 3] = [
    ("V1__findings", include_str!("migrations/V1__findings.sql")),
    ("V2__silences", include_str!("migrations/V2__silences.sql")),
    ("V3__model_updates", include_str!("migrations/V3__model_updates.sql")),
];
/// The oldest server, as `server_version_num` has it: the functions are in standard SQL.
const SERVER_MIN: i32 = 140_000;
/// How long a process waits for another that migrates.
const MIGRATION_PATIENCE: Duration = Duration::from_secs(60);

/// What a transaction writes of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The chain and the projections.
    Whole,
    /// The chain alone, so that it stays whole when a projection refuses an entry.
    Chain,
}

/// One connection.
pub struct Session {
    client: Client,
    statements: Statements,
    /// Months that have their partition, `2025-12`.
    months: BTreeSet<String>,
    driver: JoinHandle<()>,
}

struct Statements {
    ledger: Statement,
    foreign: Statement,
    deviation: Statement,
    transition: Statement,
    behavior: Statement,
    model: Statement,
    silence: Statement,
    update: Statement,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Connects, migrates the schema when it is behind, prepares.
    ///
    /// # Errors
    /// The server is not there or does not let us in, or the schema cannot be brought to this version.
    pub async fn open(config: &Config, schema: &str, statement_timeout: Duration) -> Result<Session, Fault> {
        let (mut client, connection) = config.connect(NoTls).await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "a connection to Postgres ended");
            }
        });
        let opened = prepare(&mut client, schema, statement_timeout).await;
        match opened {
            Ok(statements) => Ok(Session { client, statements, months: BTreeSet::new(), driver }),
            Err(fault) => {
                driver.abort();
                Err(fault)
            }
        }
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Writes `entries` in one transaction. The same entries again change nothing.
    ///
    /// # Errors
    /// Nothing of them was written, or, when the connection broke in the commit, perhaps all of them.
    pub async fn write(&mut self, entries: &[LedgerEntry], scope: Scope) -> Result<(), Fault> {
        if scope == Scope::Whole {
            self.make_partitions(entries).await?;
        }
        let rows = Rows::of(entries);
        let statements = &self.statements;
        let transaction = self.client.transaction().await?;
        let Rows { chains, sequences, previous, hashes, .. } = &rows;
        transaction
            .execute(
                &statements.ledger,
                &[chains, sequences, &rows.times, &rows.causes, &rows.kinds, &rows.bodies, previous, hashes],
            )
            .await?;
        let foreign =
            transaction.query_one(&statements.foreign, &[chains, sequences, previous, hashes]).await?;
        if let Some(sequence) = foreign.get::<_, Option<i64>>(0) {
            let chain = chains.first().copied().unwrap_or_default();
            return Err(Fault::Act(format!(
                "the database holds another ledger: entry {sequence} of its chain `{chain}` is not ours (give this \
                 homeostat a schema of its own, or drop the old one)"
            )));
        }
        if scope == Scope::Whole {
            for (statement, (chains, sequences)) in [
                (&statements.deviation, &rows.deviations),
                (&statements.transition, &rows.deviations),
                (&statements.behavior, &rows.behaviors),
                (&statements.model, &rows.models),
                (&statements.silence, &rows.silences),
                (&statements.update, &rows.updates),
            ] {
                if !sequences.is_empty() {
                    transaction.execute(statement, &[chains, sequences]).await?;
                }
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Outside of the batch's transaction, for a new partition locks the table for a moment.
    async fn make_partitions(&mut self, entries: &[LedgerEntry]) -> Result<(), Fault> {
        for month in months(entries) {
            if !self.months.contains(&month) {
                let first = format!("{month}-01");
                self.client.execute("SELECT behavior_partition($1::text::date)", &[&first]).await?;
                self.months.insert(month);
            }
        }
        Ok(())
    }
}

/// The months of the windows of all behaviors, `2025-12`; windows outside of 2000 … 2099 are left to the default partition.
fn months(entries: &[LedgerEntry]) -> BTreeSet<String> {
    entries
        .iter()
        .flat_map(|entry| match &entry.finding {
            Finding::Behaviors { behaviors } => behaviors.as_slice(),
            Finding::Deviation(_)
            | Finding::Model(_)
            | Finding::Silence(_)
            | Finding::Threshold(_)
            | Finding::Notice(_) => &[],
        })
        .map(|behavior| behavior.window_start.to_string().chars().take(7).collect::<String>())
        .filter(|month| month.starts_with("20"))
        .collect()
}

/// The parameters of the statements: columns of the entries, and which of them feed which table.
#[derive(Default)]
struct Rows<'a> {
    chains: Vec<&'a str>,
    sequences: Vec<i64>,
    times: Vec<String>,
    causes: Vec<i64>,
    kinds: Vec<&'a str>,
    bodies: Vec<&'a str>,
    previous: Vec<&'a [u8]>,
    hashes: Vec<&'a [u8]>,
    deviations: (Vec<&'a str>, Vec<i64>),
    behaviors: (Vec<&'a str>, Vec<i64>),
    models: (Vec<&'a str>, Vec<i64>),
    silences: (Vec<&'a str>, Vec<i64>),
    updates: (Vec<&'a str>, Vec<i64>),
}

impl<'a> Rows<'a> {
    fn of(entries: &'a [LedgerEntry]) -> Rows<'a> {
        let mut rows = Rows::default();
        for entry in entries {
            let sequence = i64::try_from(entry.sequence).unwrap_or(i64::MAX);
            rows.chains.push(&entry.chain);
            rows.sequences.push(sequence);
            rows.times.push(entry.time.to_string());
            rows.causes.push(i64::try_from(entry.cause.0).unwrap_or(i64::MAX));
            rows.kinds.push(&entry.kind);
            rows.bodies.push(&entry.body);
            rows.previous.push(&entry.previous);
            rows.hashes.push(&entry.hash);
            let (chains, sequences) = match &entry.finding {
                Finding::Deviation(_) => &mut rows.deviations,
                Finding::Behaviors { .. } => &mut rows.behaviors,
                Finding::Model(_) => &mut rows.models,
                Finding::Silence(_) => &mut rows.silences,
                Finding::Threshold(_) => &mut rows.updates,
                Finding::Notice(_) => continue,
            };
            chains.push(&entry.chain);
            sequences.push(sequence);
        }
        rows
    }
}

async fn prepare(
    client: &mut Client,
    schema: &str,
    statement_timeout: Duration,
) -> Result<Statements, Fault> {
    // Our schema alone, and temporary tables last: nobody can put a table or a function in front of ours.
    let session = format!(
        "SET search_path TO \"{schema}\", pg_temp; SET timezone TO 'UTC'; \
         SET default_transaction_isolation TO 'read committed'; \
         SET statement_timeout TO {}; SET idle_in_transaction_session_timeout TO '60s'",
        statement_timeout.as_millis()
    );
    client.batch_execute(&session).await?;
    if !is_current(client, schema).await? {
        migrate(client, schema).await?;
        client.batch_execute(&session).await?;
    }
    Ok(Statements {
        ledger: client.prepare(include_str!("write/ledger.sql")).await?,
        foreign: client.prepare(include_str!("write/foreign.sql")).await?,
        deviation: client.prepare(include_str!("write/deviation.sql")).await?,
        transition: client.prepare(include_str!("write/transition.sql")).await?,
        behavior: client.prepare(include_str!("write/behavior.sql")).await?,
        model: client.prepare(include_str!("write/model.sql")).await?,
        silence: client.prepare(include_str!("write/silence.sql")).await?,
        update: client.prepare(include_str!("write/model_update.sql")).await?,
    })
}

/// Whether the schema is at this version, so that a role that may only write need not touch it.
async fn is_current(client: &Client, schema: &str) -> Result<bool, Fault> {
    let history = format!("\"{schema}\".refinery_schema_history");
    let query = "SELECT to_regclass($1) IS NOT NULL, current_setting('server_version_num')::integer";
    let there = client.query_one(query, &[&history]).await?;
    let version = there.get::<_, i32>(1);
    if version < SERVER_MIN {
        let (is, least) = (version / 10_000, SERVER_MIN / 10_000);
        return Err(Fault::Act(format!("it is Postgres {is}, and {least} is the oldest that will do")));
    }
    if !there.get::<_, bool>(0) {
        return Ok(false);
    }
    let newest = client.query_one("SELECT max(version)::integer FROM refinery_schema_history", &[]).await?;
    let (newest, known) = (newest.get::<_, Option<i32>>(0).unwrap_or(0), MIGRATIONS.len());
    if usize::try_from(newest).is_ok_and(|newest| newest > known) {
        return Err(Fault::Act(format!(
            "the schema \"{schema}\" is at version {newest} and this homeostat knows {known} (run the newer homeostat)"
        )));
    }
    Ok(usize::try_from(newest).is_ok_and(|newest| newest == known))
}

/// Processes that start together migrate once: the others wait for the advisory lock and find nothing left to do.
async fn migrate(client: &mut Client, schema: &str) -> Result<(), Fault> {
    // One message each: a timeout set in a message holds from the next one on.
    for step in [
        format!("SET statement_timeout TO {}", MIGRATION_PATIENCE.as_millis()),
        format!("SELECT pg_advisory_lock(hashtextextended('homeostat migrations of {schema}', 0))"),
        format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""),
    ] {
        client.batch_execute(&step).await.map_err(|error| unmigrated(Fault::of(&error), schema))?;
    }
    let migrations: Result<Vec<Migration>, _> =
        MIGRATIONS.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect();
    let migrations = migrations.map_err(|error| Fault::Act(error.to_string()))?;
    let report = Runner::new(&migrations)
        .run_async(client)
        .await
        .map_err(|error| unmigrated(Fault::Act(spoken(&error)), schema))?;
    // The lock ends here, or with the connection where we did not come this far.
    client.batch_execute("SELECT pg_advisory_unlock_all()").await?;
    if !report.applied_migrations().is_empty() {
        tracing::info!(schema, version = MIGRATIONS.len(), "migrated the schema");
    }
    Ok(())
}

fn unmigrated(fault: Fault, schema: &str) -> Fault {
    let text = format!(
        "the schema \"{schema}\" cannot be migrated: {} (start once as a role that may create it)",
        fault.reason()
    );
    match fault {
        Fault::Later(_) => Fault::Later(text),
        Fault::Row(_) | Fault::Act(_) => Fault::Act(text),
    }
}
