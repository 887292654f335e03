//! The audit of `/debug/drops`: every reason for which something is not processed is provoked by a test, by the load that
//! [`super::send`] gives a real process, or by the test that stands here beside it. A new reason needs a new row.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use homeostat_pipeline::drops;

/// Reason → the file and the test that provokes it.
const PROVOKED: &[(&str, &str, &str)] = &[
    (
        "receiver/unauthenticated",
        "receivers/src/otlp/tests/security.rs",
        "without_the_right_credentials_nothing_is_taken",
    ),
    (
        "receiver/backend",
        "receivers/src/otlp/tests/engine.rs",
        "what_the_backend_says_reaches_the_sender_through_the_engine",
    ),
    (
        "receiver/failed",
        "receivers/src/otlp/tests/lifecycle.rs",
        "records_whose_sender_has_gone_before_the_answer_are_counted_as_failed",
    ),
    (
        "receiver/connections",
        "receivers/src/otlp/tests/limits.rs",
        "connections_beyond_the_limit_are_closed_at_once",
    ),
    (
        "processor/panic",
        "pipeline/src/engine/tests/outcomes.rs",
        "a_processor_that_panics_harms_one_request_only",
    ),
    ("tag/attributes", "processors/src/tag/tests/settings.rs", "limits_cut_and_are_counted"),
    ("tag/value", "processors/src/tag/tests/settings.rs", "limits_cut_and_are_counted"),
    ("tag/body", "processors/src/tag/tests/settings.rs", "limits_cut_and_are_counted"),
    ("tag/keys", "processors/src/tag/tests/settings.rs", "limits_cut_and_are_counted"),
    (
        "tag/no_recorded_value",
        "processors/src/tag/tests/points.rs",
        "no_recorded_value_is_no_row_and_neither_is_a_sum_of_unknown_temporality",
    ),
    (
        "tag/unusable",
        "processors/src/tag/tests/points.rs",
        "no_recorded_value_is_no_row_and_neither_is_a_sum_of_unknown_temporality",
    ),
    ("filter/dropped", "processors/src/filter/tests.rs", "spans_that_match_go_with_what_they_leave_empty"),
    (
        "pipeline/not_judged",
        "pipeline/src/engine/tests/outcomes.rs",
        "every_pipeline_of_a_receiver_forwards_and_one_judges",
    ),
    (
        "exporter/refused",
        "pipeline/src/engine/tests/outcomes.rs",
        "what_a_backend_refuses_for_good_is_the_senders_answer_and_is_judged_all_the_same",
    ),
    (
        "exporter/partial",
        "pipeline/src/engine/tests/outcomes.rs",
        "what_a_backend_refuses_for_good_is_the_senders_answer_and_is_judged_all_the_same",
    ),
    (
        "queue/refused",
        "exporters/src/otlp/tests/queue.rs",
        "what_the_backend_refuses_for_good_is_a_dead_letter_without_a_body",
    ),
    (
        "queue/expired",
        "exporters/src/otlp/tests/queue.rs",
        "by_setting_a_request_is_given_up_and_kept_as_a_letter",
    ),
    (
        "queue/given_up",
        "exporters/src/otlp/tests/queue.rs",
        "by_setting_a_request_is_given_up_and_kept_as_a_letter",
    ),
    (
        "queue/damaged",
        "exporters/src/otlp/tests/queue.rs",
        "a_damaged_request_is_left_out_and_said_and_the_others_arrive",
    ),
    (
        "queue/panicked",
        "exporters/src/otlp/tests/queue/term.rs",
        "a_request_that_makes_sending_panic_is_a_dead_letter_and_holds_nobody_up",
    ),
    (
        "journal/full",
        "pipeline/src/engine/tests/outcomes.rs",
        "a_journal_that_is_full_refuses_even_what_the_backend_took_and_the_repeat_is_not_forwarded_again",
    ),
    (
        "journal/failed",
        "pipeline/src/engine/tests/outcomes.rs",
        "what_the_disk_does_not_take_is_refused_until_it_does",
    ),
    ("log/torn", "pipeline/src/log/tests.rs", "a_torn_tail_is_cut_and_its_index_is_given_again"),
    (
        "log/damaged",
        "pipeline/src/engine/tests/recovery.rs",
        "a_damaged_entry_is_a_gap_that_is_said_and_never_a_refusal_to_start",
    ),
    (
        "journal/unreadable",
        "pipeline/src/journal/tests.rs",
        "a_frame_that_holds_no_entry_is_a_gap_and_the_rest_is_read",
    ),
    (
        "fold/skipped",
        "pipeline/src/engine/tests/recovery.rs",
        "an_entry_that_panics_twice_is_passed_over_and_said",
    ),
    (
        "fold/no_model",
        "processors/src/homeostasis/fold/tests/life.rs",
        "rows_before_there_is_a_model_are_not_folded",
    ),
    (
        "fold/unreadable",
        "processors/src/homeostasis/fold/tests/points.rs",
        "a_point_of_another_version_and_one_without_a_measure_are_nothing",
    ),
    (
        "fold/subjects_overflow",
        "processors/src/homeostasis/fold/tests/life.rs",
        "observations_of_flows_beyond_the_subjects_are_left_out",
    ),
    (
        "fold/points_overflow",
        "processors/src/homeostasis/fold/tests/points.rs",
        "a_window_keeps_a_hundred_thousand_cumulative_points_of_a_subject",
    ),
    (
        "fold/no_measure",
        "processors/src/homeostasis/fold/tests/points.rs",
        "a_point_of_another_version_and_one_without_a_measure_are_nothing",
    ),
    (
        "ledger/refused",
        "pipeline/src/engine/tests/recovery.rs",
        "a_finding_that_the_ledger_can_never_take_is_left_out_and_said",
    ),
    (
        "ledger/lost",
        "pipeline/src/ledger/tests.rs",
        "lost_last_entries_are_said_and_their_sequences_are_not_given_again",
    ),
    (
        "ledger/unreadable",
        "pipeline/src/ledger/tests.rs",
        "an_entry_of_no_known_format_is_a_gap_and_the_rest_is_read",
    ),
    (
        "delivery/dead_letter",
        "pipeline/src/engine/tests/delivery.rs",
        "what_a_sink_refuses_for_good_is_a_dead_letter_and_blocks_nothing",
    ),
    ("tracer/full", "pipeline/src/tracer/mod.rs", "beyond_the_queue_spans_are_left_out_and_counted"),
    (
        "tracer/failed",
        "src/tracer.rs",
        "spans_that_their_backend_does_not_take_are_counted_and_the_next_are_sent",
    ),
];

fn read(path: &str) -> String {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the workspace");
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Place and reason → the name of the constant, as `pipeline/src/drops.rs` has it.
fn constants() -> BTreeMap<String, String> {
    let source = read("pipeline/src/drops.rs");
    let mut constants = BTreeMap::new();
    for text in source.split("\npub static ").skip(1) {
        let Some((name, rest)) = text.split_once(": Reason =") else { continue };
        let mut words = rest.split('"').skip(1).step_by(2);
        let (place, reason) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        constants.insert(format!("{place}/{reason}"), name.to_owned());
    }
    constants
}

/// The body of a test; none where there is no such test.
fn body<'a>(source: &'a str, test: &str) -> Option<&'a str> {
    let (before, rest) = source.split_once(&format!("fn {test}()"))?;
    let head = before.rsplit("\n\n").next()?;
    head.contains("test").then(|| rest.split("\n}\n").next().unwrap_or(rest))
}

#[test]
fn every_reason_to_leave_something_out_is_provoked_by_a_test() {
    let constants = constants();
    let mut provoked: BTreeSet<&str> = super::STRUCK.iter().map(|(reason, _)| *reason).collect();
    for (reason, path, test) in PROVOKED {
        assert!(provoked.insert(reason), "{reason} stands twice");
        let source = read(path);
        let body = body(&source, test).unwrap_or_else(|| panic!("{reason}: {path} has no test `{test}`"));
        let constant = format!("&drops::{}", constants.get(*reason).map_or("", String::as_str));
        let names_it = body.split([',', ']']).any(|word| word.trim_end().ends_with(&constant));
        assert!(
            names_it && body.contains("drops::unstruck(") && body.contains("unstruck()"),
            "{path}: `{test}` does not ask whether {reason} struck (drops::unstruck)"
        );
    }
    let known: Vec<String> =
        drops::ALL.iter().map(|reason| format!("{}/{}", reason.place, reason.name)).collect();
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    let missing: Vec<_> = known.difference(&provoked).collect();
    let gone: Vec<_> = provoked.difference(&known).collect();
    assert!(missing.is_empty(), "no test provokes {missing:?}: write one, and a row here");
    assert!(gone.is_empty(), "there are no such reasons: {gone:?}");
}
