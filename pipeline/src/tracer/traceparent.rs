//! `traceparent` of W3C Trace Context, level 1 (section 3.2): where a request belongs in its sender's trace.

use crate::finding::hex;

/// A span as its children know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Never all zero.
    pub trace_id: [u8; 16],
    /// Never all zero.
    pub span_id: [u8; 8],
    /// Whether whoever made it keeps it.
    pub is_sampled: bool,
}

impl Parent {
    /// Reads `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`; none where it is none, and then the trace begins anew. Of a
    /// version that is not known yet, what stands behind a further dash is not looked at.
    pub fn read(header: &[u8]) -> Option<Parent> {
        let (known, rest) = header.trim_ascii().split_at_checked(55)?;
        let is_whole = match bytes::<1>(&known[..2])? {
            [0xff] => false,
            [0] => rest.is_empty(),
            [_] => rest.first().is_none_or(|next| *next == b'-'),
        };
        if !is_whole || [2, 35, 52].iter().any(|at| known[*at] != b'-') {
            return None;
        }
        let (trace_id, span_id) = (bytes::<16>(&known[3..35])?, bytes::<8>(&known[36..52])?);
        let [flags] = bytes::<1>(&known[53..])?;
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Parent {
            trace_id,
            span_id,
            is_sampled: flags & 1 == 1,
        })
    }

    /// As [`Parent::read`] reads it.
    pub fn write(&self) -> String {
        format!("00-{}-{}-{:02x}", hex(&self.trace_id), hex(&self.span_id), u8::from(self.is_sampled))
    }
}

/// Lower-case hexadecimal; the specification has no other.
fn bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |letter: u8| match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_written_is_read_and_unknown_versions_as_far_as_they_are_known() {
        let parent = Parent::read(GOOD.as_bytes()).unwrap();
        assert_eq!((parent.trace_id[0], parent.span_id[7], parent.is_sampled), (0x4b, 0xb7, true));
        assert_eq!(parent.write(), GOOD);
        let not_sampled = Parent::read(GOOD.replace("-01", "-02").as_bytes()).unwrap();
        assert!(!not_sampled.is_sampled);
        for later in [GOOD.replacen("00", "cc", 1), GOOD.replacen("00", "cc", 1) + "-what-the-future-will-be"]
        {
            assert_eq!(Parent::read(later.as_bytes()), Some(parent), "{later}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &(GOOD.to_owned() + "-"),
            &(GOOD.replacen("00", "cc", 1) + "x"),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.to_uppercase(),
            &GOOD.replace('-', "_"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ü-00f067aa0ba902b-01",
        ] {
            assert_eq!(Parent::read(bad.as_bytes()), None, "{bad}");
        }
    }
}
