//! `postgres` against a real Postgres: what is in the tables afterwards, whatever happened to the server or to the rows.

#[path = "postgres/updates.rs"]
mod updates;

use std::collections::BTreeMap;

use homeostat_pipeline::clock::Timestamp;
use homeostat_pipeline::finding::{Finding, ModelChanged, Transition, fingerprint};
use homeostat_pipeline::ledger::LedgerEntry;
use homeostat_tests::findings::{Opened, at, behavior, deviation, entries, notice, open, step};
use homeostat_tests::logged::Log;
use homeostat_tests::postgres::{Database, PASSWORD, Postgres, USER, connect};
use homeostat_tests::process::eventually;
use serde_json::json;
use tokio_postgres::Client;

async fn exporter(database: &Database) -> Opened {
    open("postgres", json!({ "url": database.url() })).await
}

/// A client that finds the tables without their schema.
async fn reader(database: &Database) -> Client {
    let client = database.client().await;
    client.batch_execute("SET search_path TO homeostat").await.expect("the schema is there");
    client
}

fn deviation_with(change: impl FnOnce(&mut homeostat_pipeline::finding::Deviation)) -> Finding {
    let mut deviation = step("f1", 0, 1, Transition::Detected);
    change(&mut deviation);
    Finding::Deviation(Box::new(deviation))
}

/// One of everything.
fn all_kinds() -> Vec<LedgerEntry> {
    let model = ModelChanged {
        model_hash: "abc".to_owned(),
        version: "1.0.0".to_owned(),
        at: at(0),
        previous_hash: None,
        requirements: Vec::new(),
    };
    entries(vec![
        Finding::Model(model),
        deviation("f1", 0, 1, Transition::Detected),
        Finding::Behaviors { behaviors: vec![behavior("A", at(0), 1, 10), behavior("B", at(0), 1, 20)] },
        notice("something to know"),
        deviation("f1", 0, 2, Transition::Recovering),
        deviation("f1", 0, 3, Transition::Resolved),
    ])
}

const TABLES: [&str; 5] =
    ["ledger", "deviation", "deviation_transition", "behavior_summary", "model_version"];

/// The rows of every table and the transactions that wrote them.
async fn dump(client: &Client) -> String {
    let mut text = String::new();
    for table in TABLES {
        let query = format!("SELECT string_agg(t.xmin || t::text, E'\\n' ORDER BY t::text) FROM {table} t");
        let rows: Option<String> = client.query_one(&query, &[]).await.expect("the table is there").get(0);
        text = format!("{text}{table}:\n{}\n", rows.unwrap_or_default());
    }
    text
}

/// The first column of every row, as text.
async fn texts(client: &Client, query: &str) -> Vec<String> {
    let rows = client.query(query, &[]).await.expect("the query is right");
    rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect()
}

async fn breaks(client: &Client) -> Vec<String> {
    texts(client, "SELECT sequence || ': ' || problem FROM ledger_breaks()").await
}

#[tokio::test]
async fn the_tables_hold_what_was_found_and_the_same_batch_again_changes_nothing() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let exporter = exporter(&database).await;
    assert_eq!(exporter.until_taken(&all_kinds()).await, []);
    let client = reader(&database).await;
    let before = dump(&client).await;
    for part in [&all_kinds()[..], &all_kinds()[1..3], &all_kinds()[4..]] {
        assert_eq!(exporter.until_taken(part).await, []);
    }
    assert_eq!(dump(&client).await, before);

    let row = "SELECT concat_ws(' ', deviation_id, status, version, severity, current_value, baseline_value, also_req_ids, \
               labels ->> 'region', trace_ids[1], samples, started_at, resolved_at IS NOT NULL, content ->> 'title') FROM deviation";
    assert_eq!(
        texts(&client, row).await,
        [
            "DEV-20251203-001 resolved 3 critical 850 235 {REQ-F-AUTH-001} eu 0af7651916cd43dd8448eb211c80319c 120 \
          2025-12-03 14:00:00+00 t Login is fast"
        ]
    );
    let lives = "SELECT transition || ' ' || version FROM deviation_transition ORDER BY version";
    assert_eq!(texts(&client, lives).await, ["detected 1", "recovering 2", "resolved 3"]);
    let nodes = "SELECT concat_ws(' ', spec_node_id, count, measures -> 'p95_latency_ms' ->> 'value') FROM behavior_summary ORDER BY 1";
    assert_eq!(texts(&client, nodes).await, ["sea:orders:A 10 120.5", "sea:orders:B 20 120.5"]);
    assert_eq!(texts(&client, "SELECT model_hash FROM model_version").await, ["abc"]);
    assert_eq!(breaks(&client).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_older_version_never_overwrites_a_newer_one() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let exporter = exporter(&database).await;
    let twice = |version, count| Finding::Behaviors { behaviors: vec![behavior("A", at(0), version, count)] };
    let all = entries(vec![
        deviation("f1", 0, 1, Transition::Detected),
        twice(1, 10),
        deviation("f1", 0, 2, Transition::Resolved),
        twice(2, 11),
    ]);
    exporter.until_taken(&all[2..]).await;
    exporter.until_taken(&all[..2]).await;
    let client = reader(&database).await;
    let newest = "SELECT status || ' ' || version FROM deviation UNION SELECT count || ' ' || version FROM behavior_summary ORDER BY 1";
    assert_eq!(texts(&client, newest).await, ["11 2", "resolved 2"]);
    assert_eq!(texts(&client, "SELECT version::text FROM deviation_transition ORDER BY 1").await, ["1", "2"]);
}

#[tokio::test]
async fn a_second_live_episode_of_a_fingerprint_is_refused_and_the_chain_stays_whole() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let exporter = exporter(&database).await;
    let all = entries(vec![
        deviation("f1", 0, 1, Transition::Detected),
        deviation("f1", 30, 1, Transition::Detected),
        deviation("f2", 0, 1, Transition::Detected),
    ]);
    let rejects = exporter.until_taken(&all).await;
    assert_eq!(rejects.iter().map(|reject| reject.sequence).collect::<Vec<_>>(), [2]);
    assert!(rejects[0].reason.contains("deviation_live"), "{}", rejects[0].reason);
    let client = reader(&database).await;
    assert_eq!(texts(&client, "SELECT uid::text FROM open_deviation").await.len(), 2);
    assert_eq!(texts(&client, "SELECT sequence::text FROM ledger ORDER BY 1").await, ["1", "2", "3"]);
    assert_eq!(breaks(&client).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_episode_that_ends_makes_room_for_the_next_in_the_same_batch() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let exporter = exporter(&database).await;
    let all = entries(vec![
        deviation("f1", 0, 1, Transition::Detected),
        deviation("f1", 0, 2, Transition::Expired),
        deviation("f1", 30, 1, Transition::Detected),
    ]);
    assert_eq!(exporter.until_taken(&all[..1]).await, []);
    assert_eq!(exporter.until_taken(&all).await, []);
    let states = "SELECT status FROM deviation ORDER BY detected_at";
    assert_eq!(texts(&reader(&database).await, states).await, ["expired", "open"]);
}

#[tokio::test]
async fn the_ledger_refuses_every_change() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    exporter(&database).await.until_taken(&all_kinds()).await;
    let client = reader(&database).await;
    for change in [
        "UPDATE ledger SET kind = 'x'",
        "DELETE FROM ledger",
        "TRUNCATE ledger",
        "DELETE FROM ledger WHERE false",
    ] {
        let error = client.batch_execute(change).await.unwrap_err();
        let said = error.as_db_error().unwrap().message().to_owned();
        assert!(said.contains("the ledger is append-only"), "{change}: {said}");
    }
    assert_eq!(texts(&client, "SELECT sequence::text FROM ledger").await.len(), 6);
}

#[tokio::test]
async fn whatever_is_done_to_the_chain_is_found_in_sql() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    exporter(&database).await.until_taken(&all_kinds()).await;
    let client = reader(&database).await;
    // Whoever owns the table can switch its guard off; the chain still tells.
    client.batch_execute("ALTER TABLE ledger DISABLE TRIGGER ledger_append_only").await.unwrap();
    for (change, expected) in [
        (
            "UPDATE ledger SET body = replace(body, '850', '85') WHERE sequence = 2",
            vec!["2: its hash is not that of its content"],
        ),
        ("UPDATE ledger SET kind = 'x' WHERE sequence = 3", vec!["3: its hash is not that of its content"]),
        (
            "UPDATE ledger SET body = 'null', hash = ledger_hash(previous, chain, sequence, kind, 'null') WHERE sequence = 4",
            vec!["5: it does not follow the entry before"],
        ),
        (
            "DELETE FROM ledger WHERE sequence IN (3, 4)",
            vec!["5: the entries from 3 to 4 before it are missing"],
        ),
        ("DELETE FROM ledger WHERE sequence = 1", vec!["2: the entries from 1 to 1 before it are missing"]),
    ] {
        client.batch_execute(&format!("BEGIN; {change}")).await.unwrap();
        assert_eq!(breaks(&client).await, expected, "{change}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    assert_eq!(breaks(&client).await, Vec::<String>::new());
}

#[tokio::test]
async fn nul_is_kept_in_the_chain_and_replaced_in_the_columns() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let finding = deviation_with(|deviation| {
        deviation.title = Some("a\0\0b\\u0000c\\\0d".to_owned());
        deviation.context.service = Some("\0".to_owned());
    });
    let all = entries(vec![finding]);
    assert_eq!(exporter(&database).await.until_taken(&all).await, []);
    let client = reader(&database).await;
    let columns = "SELECT title || ' ' || service FROM deviation";
    assert_eq!(texts(&client, columns).await, ["a\u{fffd}\u{fffd}b\\u0000c\\\u{fffd}d \u{fffd}"]);
    assert_eq!(texts(&client, "SELECT body FROM ledger").await, [all[0].body.as_str()]);
    assert_eq!(breaks(&client).await, Vec::<String>::new());
}

#[tokio::test]
async fn bad_rows_are_refused_alone_and_the_rest_commits() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let mut findings: Vec<Finding> =
        (0..20).map(|number| deviation(&format!("f{number}"), 0, 1, Transition::Detected)).collect();
    findings[7] = deviation_with(|deviation| deviation.uid = "no uuid".to_owned());
    // Too large for an index: a limit of the program that only this row meets.
    let noise: String = (0..400_u32).map(|n| fingerprint("", &n.to_string(), "", &BTreeMap::new())).collect();
    let mut large = step("large", 0, 1, Transition::Detected);
    large.fingerprint = noise;
    findings[19] = Finding::Deviation(Box::new(large));
    let exporter = exporter(&database).await;
    let rejects = exporter.until_taken(&entries(findings)).await;
    assert_eq!(rejects.iter().map(|reject| reject.sequence).collect::<Vec<_>>(), [8, 20]);
    assert!(rejects[0].reason.contains("22P02") && rejects[1].reason.contains("54000"), "{rejects:?}");
    let client = reader(&database).await;
    assert_eq!(texts(&client, "SELECT count(*)::text FROM deviation").await, ["18"]);
    assert_eq!(breaks(&client).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_lock_that_somebody_holds_is_waited_for() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let exporter = open("postgres", json!({ "url": database.url(), "statement_timeout": "2s" })).await;
    let all = all_kinds();
    exporter.until_taken(&all[..1]).await;
    let client = reader(&database).await;
    client.batch_execute("BEGIN; LOCK TABLE deviation").await.unwrap();
    let reason = exporter.refusal(&all).await;
    assert!(reason.contains("57014"), "{reason}");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(exporter.until_taken(&all).await, []);
    assert_eq!(texts(&client, "SELECT sequence::text FROM ledger").await.len(), 6);
}

#[tokio::test]
async fn processes_that_start_together_migrate_once() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let all = all_kinds();
    let mut starts = Vec::new();
    for _ in 0..8 {
        let (exporter, all) = (exporter(&database).await, all.clone());
        starts.push(tokio::spawn(async move { exporter.until_taken(&all).await }));
    }
    for start in starts {
        assert_eq!(start.await.unwrap(), []);
    }
    let client = reader(&database).await;
    assert_eq!(
        texts(&client, "SELECT version::text FROM refinery_schema_history ORDER BY version").await,
        ["1", "2", "3"]
    );
    assert_eq!(texts(&client, "SELECT sequence::text FROM ledger").await.len(), 6);
}

#[tokio::test]
async fn behaviors_lie_in_the_partition_of_their_month() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let starts = ["2025-12-31T23:59:00Z", "2026-01-01T00:00:00Z", "1999-12-31T23:59:00Z"];
    let behaviors = |flow: &str| {
        let of = |start: &str| behavior(flow, Timestamp::parse(start).unwrap(), 1, 1);
        Finding::Behaviors { behaviors: starts.map(of).to_vec() }
    };
    let exporter = exporter(&database).await;
    assert_eq!(exporter.until_taken(&entries(vec![behaviors("A"), behaviors("B")])).await, []);
    let client = reader(&database).await;
    let places = "SELECT DISTINCT tableoid::regclass || ' ' || window_start FROM behavior_summary ORDER BY 1";
    assert_eq!(
        texts(&client, places).await,
        [
            "behavior_summary_2025_12 2025-12-31 23:59:00+00",
            "behavior_summary_2026_01 2026-01-01 00:00:00+00",
            "behavior_summary_default 1999-12-31 23:59:00+00",
        ]
    );
}

#[tokio::test]
async fn another_ledger_is_refused_and_not_mixed_in() {
    let log = Log::begin();
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let exporter = exporter(&database).await;
    exporter.until_taken(&all_kinds()).await;
    let client = reader(&database).await;
    let before = dump(&client).await;
    let other = entries((0..8).map(|number| notice(&format!("another {number}"))).collect());
    // The same places, and a continuation of what is not there: 7 follows the other ledger's 6.
    for part in [&other[..2], &other[6..7], &other[..]] {
        let reason = exporter.refusal(part).await;
        assert!(reason.contains("holds another ledger"), "{reason}");
        exporter.refusal(part).await;
    }
    assert_eq!(dump(&client).await, before);
    let errors = log.lines_with("holds another ledger");
    assert!((1..=3).contains(&errors.len()), "said once for each reason: {errors:?}");
    assert!(errors[0].contains("ERROR"), "{errors:?}");
    // In a schema of its own it is welcome.
    let own = open("postgres", json!({ "url": database.url(), "schema": "other" })).await;
    assert_eq!(own.until_taken(&other).await, []);
}

#[tokio::test]
async fn a_schema_of_a_newer_homeostat_is_left_alone() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    exporter(&database).await.until_taken(&all_kinds()).await;
    let client = reader(&database).await;
    client
        .batch_execute("INSERT INTO refinery_schema_history (version, name, applied_on, checksum) VALUES (99, 'x', '2030-01-01T00:00:00Z', '1')")
        .await
        .unwrap();
    let reason = exporter(&database).await.refusal(&all_kinds()).await;
    assert!(reason.contains("is at version 99"), "{reason}");
}

#[tokio::test]
async fn a_server_that_is_killed_stopped_and_paused_has_everything_once() {
    let postgres = Postgres::start().await;
    let database = postgres.database().await;
    let exporter = open(
        "postgres",
        json!({ "url": database.url(), "statement_timeout": "2s", "connect_timeout": "2s" }),
    )
    .await;
    let all =
        entries((0..6).map(|number| deviation(&format!("f{number}"), 0, 1, Transition::Detected)).collect());
    exporter.until_taken(&all[..1]).await;

    postgres.kill();
    let reason = exporter.refusal(&all[..2]).await;
    assert!(reason.contains("postgres at 127.0.0.1:") && !reason.contains(PASSWORD), "{reason}");
    exporter.refusal(&all[..2]).await;
    postgres.restart().await;
    assert_eq!(exporter.until_taken(&all[..2]).await, []);

    postgres.stop();
    exporter.refusal(&all[1..4]).await;
    postgres.restart().await;
    assert_eq!(exporter.until_taken(&all[1..4]).await, []);

    postgres.pause();
    exporter.refusal(&all[3..]).await;
    postgres.resume();
    assert_eq!(exporter.until_taken(&all[3..]).await, []);

    let client = reader(&database).await;
    assert_eq!(
        texts(&client, "SELECT sequence::text FROM ledger ORDER BY sequence").await,
        ["1", "2", "3", "4", "5", "6"]
    );
    assert_eq!(texts(&client, "SELECT fingerprint FROM deviation ORDER BY 1").await.len(), 6);
    assert_eq!(breaks(&client).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_connection_that_is_cut_between_two_batches_is_made_again() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let exporter = exporter(&database).await;
    let all = all_kinds();
    exporter.until_taken(&all[..2]).await;
    let client = reader(&database).await;
    let cut = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'homeostat'";
    assert_eq!(client.query(cut, &[]).await.unwrap().len(), 1);
    assert_eq!(exporter.until_taken(&all).await, []);
    assert_eq!(texts(&client, "SELECT sequence::text FROM ledger").await.len(), 6);
}

#[tokio::test]
async fn a_connection_that_is_cut_inside_a_commit_leaves_everything_once() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let exporter = open("postgres", json!({ "url": database.url(), "statement_timeout": "60s" })).await;
    let all = all_kinds();
    exporter.until_taken(&all[..1]).await;
    let client = reader(&database).await;
    // A commit now waits for a lock of ours.
    client
        .batch_execute(
            "CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER wait_for_test AFTER INSERT ON deviation \
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_test(); \
             SELECT pg_advisory_lock(42)",
        )
        .await
        .unwrap();
    let cut = async {
        let query = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() \
                     AND application_name = 'homeostat' AND query = 'COMMIT' AND wait_event_type = 'Lock'";
        eventually("the commit waits", async || {
            (client.query(query, &[]).await.unwrap().len() == 1).then_some(())
        })
        .await;
    };
    let (refused, ()) = tokio::join!(exporter.once(&all), cut);
    assert!(
        refused.is_err_and(|refusal| refusal.is_retryable()),
        "a commit without an answer is not taken for one"
    );
    client.batch_execute("SELECT pg_advisory_unlock(42)").await.unwrap();
    assert_eq!(exporter.until_taken(&all).await, []);
    assert_eq!(texts(&client, "SELECT sequence::text FROM ledger").await.len(), 6);
    assert_eq!(texts(&client, "SELECT version::text FROM deviation_transition").await.len(), 3);
    assert_eq!(breaks(&client).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_password_waits_and_is_never_shown() {
    let log = Log::begin();
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let wrong = open("postgres", json!({ "url": database.url_as(USER, "wrong-horse") })).await;
    let reason = wrong.refusal(&all_kinds()).await;
    assert!(reason.contains("password authentication failed"), "{reason}");
    assert!(!reason.contains("horse"), "{reason}");
    assert_eq!(exporter(&database).await.until_taken(&all_kinds()).await, []);
    assert_eq!(log.lines_with("findings go to Postgres").len(), 1, "the log was heard");
    assert_eq!(log.lines_with("horse"), Vec::<String>::new());
}

/// The blocks of a language in a page of the documentation, in order.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[tokio::test]
async fn the_sql_of_the_documentation_runs_and_its_roles_can_do_what_they_should() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/postgres.md")).unwrap();
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let all = all_kinds();
    exporter(&database).await.until_taken(&all[..2]).await;
    let client = database.client().await;
    let blocks = blocks(&page, "sql");
    assert!(blocks.len() >= 3, "the page has its SQL");
    for block in blocks {
        client.batch_execute(block).await.unwrap_or_else(|error| panic!("{error:?} in\n{block}"));
    }

    let writer = open("postgres", json!({ "url": database.url_as("homeostat_writer", "changeme") })).await;
    assert_eq!(writer.until_taken(&all).await, [], "a writer needs no right to make tables");
    let writer = connect(&database.url_as("homeostat_writer", "changeme")).await;
    let reader = connect(&database.url_as("homeostat_reader", "changeme")).await;
    assert_eq!(texts(&reader, "SELECT problem FROM homeostat.ledger_breaks()").await, Vec::<String>::new());
    assert_eq!(texts(&reader, "SELECT deviation_id FROM homeostat.deviation").await, ["DEV-20251203-001"]);
    for (who, change) in [
        (&reader, "UPDATE homeostat.deviation SET title = 'x'"),
        (&reader, "INSERT INTO homeostat.model_version SELECT * FROM homeostat.model_version"),
        (&writer, "ALTER TABLE homeostat.ledger DISABLE TRIGGER ALL"),
        (&writer, "DELETE FROM homeostat.deviation"),
        (&writer, "UPDATE homeostat.ledger SET kind = 'x'"),
        (&writer, "DROP TABLE homeostat.deviation"),
    ] {
        let error = who.batch_execute(change).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{change}: {error:?}");
    }
}
