//! What each sender hears of a merged request.

use super::Member;
use crate::contract::Taken;
use crate::refusal::Refusal;

/// The same to everybody; who has gone meanwhile hears nothing.
pub(super) fn all(members: Vec<Member>, outcome: &Result<Taken, Refusal>) {
    for member in members {
        let _ = member.answer.send(outcome.clone());
    }
}

/// The backend took the merged request, or most of it.
pub(super) fn taken(members: Vec<Member>, taken: &Taken) {
    let records: Vec<u64> = members.iter().map(|member| member.telemetry.records).collect();
    for (member, taken) in members.into_iter().zip(shared_out(&records, taken)) {
        let _ = member.answer.send(Ok(taken));
    }
}

/// A backend says how many records it refused, and not which. So a sender is told how many of its own are refused for certain,
/// whosever the others are: most often none, and all of them when all of all are. The message says what is not certain. For the
/// counters the rest is put down to some of the requests, so that their sum is right.
fn shared_out(records: &[u64], taken: &Taken) -> Vec<Taken> {
    let all: u64 = records.iter().sum();
    let refused = taken.rejected.min(all);
    let certain = |own: u64| refused.saturating_sub(all - own);
    let mut rest = refused - records.iter().map(|own| certain(*own)).sum::<u64>();
    let message = if rest == 0 {
        taken.message.clone()
    } else {
        let words = if taken.message.is_empty() { "" } else { ": " };
        format!(
            "the backend refused {refused} of the {all} records of {} requests that were merged, and did not say whose{words}{}",
            records.len(),
            taken.message
        )
    };
    let each = records.iter().map(|own| {
        let rejected = certain(*own);
        let share = rest.min(own - rejected);
        rest -= share;
        Taken { rejected, share, message: message.clone() }
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(records: &[u64], rejected: u64, expected: &[(u64, u64)], says: &str) {
        let taken = Taken { rejected, share: 0, message: "too old".to_owned() };
        let shared = shared_out(records, &taken);
        let numbers: Vec<_> = shared.iter().map(|taken| (taken.rejected, taken.share)).collect();
        assert_eq!(numbers, expected);
        assert!(shared.iter().all(|taken| taken.message == says), "{shared:?}");
    }

    #[test]
    fn a_sender_hears_what_is_certain_and_the_counters_what_is_true_in_sum() {
        let unsure = |refused, all, requests| {
            format!(
                "the backend refused {refused} of the {all} records of {requests} requests that were merged, and did not say whose: too old"
            )
        };
        check(&[3, 4], 0, &[(0, 0), (0, 0)], "too old");
        check(&[3, 4], 2, &[(0, 2), (0, 0)], &unsure(2, 7, 2));
        check(&[3, 4], 5, &[(1, 2), (2, 0)], &unsure(5, 7, 2));
        check(&[3, 4], 7, &[(3, 0), (4, 0)], "too old");
        check(&[3, 4], 100, &[(3, 0), (4, 0)], "too old");
        check(&[1, 100, 1], 99, &[(0, 1), (97, 1), (0, 0)], &unsure(99, 102, 3));
    }
}
