//! Whatever is written: the compiled condition and the interpreter agree, and nothing panics.

use proptest::prelude::*;

use super::*;

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "value",
        "baseline",
        "baseline.p50",
        "baseline.mean",
        "threshold.critical",
        "threshold.warning",
        "previous",
        "p95(5m)",
        "avg(1h)",
        "100 ms",
        "0.5 s",
        "-0 ms",
    ])
    .prop_map(str::to_owned)
}

/// Numbers in the measure's unit.
fn numbers() -> impl Strategy<Value = String> {
    names().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), prop::sample::select(vec!["+", "-"]), inner.clone())
                .prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
            (
                inner.clone(),
                prop::sample::select(vec!["*", "/"]),
                prop::sample::select(vec!["2", "0", "150%", "deviation"])
            )
                .prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
            inner.clone().prop_map(|inner| format!("-{inner}")),
            inner.clone().prop_map(|inner| format!("abs({inner})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("max({one}, {other})")),
            (inner.clone(), inner).prop_map(|(one, other)| format!("min({one}, {other})")),
        ]
    })
}

fn conditions() -> impl Strategy<Value = String> {
    let compare = prop::sample::select(vec![">", ">=", "<", "<=", "==", "!="]);
    let one = prop_oneof![
        (numbers(), compare.clone(), numbers())
            .prop_map(|(left, sign, right)| format!("{left} {sign} {right}")),
        (numbers(), compare.clone()).prop_map(|(number, sign)| format!("{number} / baseline {sign} 100%")),
        (compare.clone(), 0_u32..4).prop_map(|(sign, count)| format!("count {sign} {count}")),
        (compare.clone(), -3_i32..4).prop_map(|(sign, score)| format!("zscore {sign} {score}")),
        (compare, 0_u32..4).prop_map(|(sign, rate)| format!("rate(1m) {sign} {rate}")),
        prop::sample::select(vec!["missing(10m)", "changed(1h)"]).prop_map(str::to_owned),
        (numbers(), numbers(), numbers())
            .prop_map(|(value, low, high)| format!("{value} within [{low}, {high}]")),
        (numbers(), numbers(), numbers())
            .prop_map(|(value, low, high)| format!("{value} outside [{low}, {high}]")),
    ];
    one.prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) and ({right})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) or ({right})")),
            inner.prop_map(|inner| format!("not ({inner})")),
        ]
    })
}

fn value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        Just(None),
        Just(Some(f64::NAN)),
        Just(Some(f64::INFINITY)),
        Just(Some(f64::NEG_INFINITY)),
        Just(Some(-0.0)),
        Just(Some(f64::MAX)),
        prop::sample::select(vec![0.0, 100.0, 235.0, 400.0, 500.0, 850.0]).prop_map(Some),
        (-1e6..1e6).prop_map(Some),
    ]
}

fn expectation() -> impl Strategy<Value = Expectation> {
    let part = || prop_oneof![Just(None), Just(Some(0.0)), (-500.0..500.0).prop_map(Some)];
    (part(), part(), part(), part(), any::<bool>(), any::<bool>()).prop_map(
        |(center, p50, mean, stddev, has_baseline, is_higher_better)| Expectation {
            baseline: has_baseline.then_some(Baseline { center, p50, mean, stddev, ..Baseline::default() }),
            direction: if is_higher_better { Direction::HigherIsBetter } else { Direction::LowerIsBetter },
            ..latency()
        },
    )
}

proptest! {
    #[test]
    fn compiled_and_interpreted_always_agree(
        text in conditions(),
        expected in expectation(),
        rows in prop::collection::vec((value(), 0_u64..4, prop::collection::vec(value(), 6)), 1..20),
    ) {
        prop_assume!(text.len() <= 1_000);
        let parsed = Parsed::new(&text).map_err(|fault| TestCaseError::fail(format!("{text}: {fault}")))?;
        let mut lookbacks = Vec::new();
        let (condition, _) =
            parsed.compile(&expected, &mut lookbacks).map_err(|fault| TestCaseError::fail(format!("{text}: {fault}")))?;
        let facts: Vec<Facts<'_>> = rows
            .iter()
            .map(|(value, count, seen)| Facts {
                value: *value,
                count: *count,
                expected: &expected,
                lookbacks: &seen[..lookbacks.len()],
            })
            .collect();
        let interpreted: Vec<Option<bool>> = facts.iter().map(|facts| condition.holds(facts)).collect();
        let all = 0..facts.len();
        prop_assert_eq!(Subjects::new(&facts).judge(&condition, all), interpreted, "{}", text);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z0-9_.%()\\[\\], <>=!&|+*/≥é\"-]{0,60}|\\PC{0,40}") {
        if let Ok(parsed) = Parsed::new(&text) {
            let _ = parsed.compile(&learned(), &mut Vec::new());
        }
    }
}
