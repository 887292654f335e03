//! Updates of the model in the tables.

use super::*;

#[tokio::test]
async fn an_adjusted_threshold_is_a_row_as_it_is_after_its_last_step() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let exporter = exporter(&database).await;
    let of = |change: &str, version: u32| -> Finding {
        let void = (change == "void").then_some("the model states 350 ms itself");
        let text = json!({
            "finding": "threshold", "id": "0f9d4c1e-8d1f-5a57-9d5b-0d6d0c8f2a11", "update_id": "HM-20251203-001", "version": version,
            "change": change, "at": at(u64::from(version)), "approved_at": at(0), "req_id": "REQ-NFR-PERF-001",
            "measure": "p95_latency_ms", "level": "warning", "old": 400.0, "new": 350.0, "unit": "ms", "reason": "tighter",
            "approved_by": "ada", "effective_date": at(2), "model_hash": "abc", "void_because": void,
        });
        serde_json::from_value(text).expect("it is a finding")
    };
    let all = entries(vec![of("approved", 1), of("effective", 2), of("void", 3)]);
    for part in [&all[..1], &all[1..], &all[..2]] {
        assert_eq!(exporter.until_taken(part).await, []);
    }
    let client = reader(&database).await;
    let query = "SELECT concat_ws(' ', update_id, version, update_type, state, req_id, measure, level, old_value, new_value, unit, \
                 reason, approved_by, void_because) FROM model_update";
    assert_eq!(
        texts(&client, query).await,
        [
            "HM-20251203-001 3 threshold_adjustment void REQ-NFR-PERF-001 p95_latency_ms warning 400 350 ms tighter ada the model states 350 ms itself"
        ]
    );
}
