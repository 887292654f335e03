//! The notation of series, which is `promtool test rules`': `100x10` is 100 eleven times, `1+2x3` is 1 3 5 7, `9-2x3` is 9 7 5 3,
//! `_x3` is three steps without a value, and a plain number or `_` is one step.

/// The values of a series; none where a step has none.
///
/// # Errors
/// Names the word that is none of the notation.
pub fn expand(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut values = Vec::new();
    for word in text.split_whitespace() {
        let (start, times) = match word.split_once('x') {
            Some((start, times)) => {
                let times: usize = times.parse().map_err(|_| wrong(word))?;
                (start, Some(times))
            }
            None => (word, None),
        };
        if times.is_some_and(|times| times > STEPS_MAX) || values.len() > STEPS_MAX {
            return Err(format!("`{word}` makes more than {STEPS_MAX} steps"));
        }
        if start == "_" {
            values.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
            continue;
        }
        let (first, step) = split(start).ok_or_else(|| wrong(word))?;
        if step.is_some() && times.is_none() {
            return Err(wrong(word));
        }
        let mut value = first;
        for _ in 0..=times.unwrap_or(0) {
            values.push(Some(value));
            value += step.unwrap_or(0.0);
        }
    }
    Ok(values)
}

/// What a test may send of one series.
const STEPS_MAX: usize = 1_000_000;

fn wrong(word: &str) -> String {
    format!("`{word}` is no part of a series (write `100`, `100x10`, `1+2x10`, `_` or `_x3`)")
}

/// `a`, `a+b` or `a-b`; a sign at the start or in an exponent is the number's own.
fn split(text: &str) -> Option<(f64, Option<f64>)> {
    let bytes = text.as_bytes();
    let sign = (1..bytes.len())
        .find(|at| matches!(bytes[*at], b'+' | b'-') && !matches!(bytes[at - 1], b'e' | b'E'));
    let finite = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
    match sign {
        None => Some((finite(text)?, None)),
        Some(at) => Some((finite(&text[..at])?, Some(finite(&text[at..])?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[f64]) {
        let values: Vec<f64> =
            expand(text).expect("a series").into_iter().map(|value| value.unwrap_or(f64::MIN)).collect();
        assert_eq!(values, expected, "{text}");
    }

    #[test]
    fn a_series_expands_as_promtool_expands_it() {
        check("1x4", &[1.0; 5]);
        check("1+2x3", &[1.0, 3.0, 5.0, 7.0]);
        check("1-2x2 9", &[1.0, -1.0, -3.0, 9.0]);
        check("-2+4x2", &[-2.0, 2.0, 6.0]);
        check("_ 5 _x2", &[f64::MIN, 5.0, f64::MIN, f64::MIN]);
        check("1e-3 2.5E+1x1", &[0.001, 25.0, 25.0]);
        check("", &[]);
    }

    #[test]
    fn what_is_no_series_is_named() {
        for text in ["1 two", "1x", "x3", "1+2", "nan", "infx2", "1x-1", "1x99999999"] {
            let error = expand(text).expect_err("no series");
            assert!(error.contains('`'), "{text}: {error}");
        }
    }
}
