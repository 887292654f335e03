//! Protobuf's wire format, read from a slice without copying (protobuf.dev, "Encoding").

/// What can be wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A value ends beyond the message that holds it.
    Truncated,
    /// A varint of more than 64 bits.
    Varint,
    /// A field number of 0 or of more than 29 bits.
    Key,
    /// A wire type that does not exist, or not the one that the field has.
    WireType,
    /// A group that ends without having begun, or as another group.
    Group,
    /// A string that is not UTF-8.
    Text,
    /// Messages nested too deeply.
    Depth,
}

/// One field's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1: fixed64, sfixed64 and double.
    Fixed64(u64),
    /// Wire type 2: strings, bytes, messages and packed numbers.
    Bytes(&'a [u8]),
    /// Wire types 3 and 4, skipped: nothing in OTLP is a group.
    Group,
    /// Wire type 5.
    Fixed32(u32),
}

impl<'a> Field<'a> {
    /// The bytes of a string, of bytes or of a message; nothing of any other.
    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Field::Bytes(bytes) => bytes,
            Field::Varint(_) | Field::Fixed64(_) | Field::Fixed32(_) | Field::Group => &[],
        }
    }

    /// The number of any other; 0 of bytes.
    pub(super) fn number(self) -> u64 {
        match self {
            Field::Varint(number) | Field::Fixed64(number) => number,
            Field::Fixed32(number) => u64::from(number),
            Field::Bytes(_) | Field::Group => 0,
        }
    }
}

/// Reads a varint at `at` and moves `at` behind it; leaves `at` where it is on a fault.
#[inline(always)]
pub(super) fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, Fault> {
    match bytes.get(*at..) {
        Some([byte @ ..0x80, ..]) => {
            *at += 1;
            Ok(u64::from(*byte))
        }
        // The length of a span, mostly.
        Some([low, high @ ..0x80, ..]) => {
            *at += 2;
            Ok(two_bytes(*low, *high))
        }
        Some([_, ..]) => long_varint(bytes, at),
        Some([]) | None => Err(Fault::Truncated),
    }
}

/// The number of a varint of two bytes.
#[inline(always)]
fn two_bytes(low: u8, high: u8) -> u64 {
    u64::from(low & 0x7f) | u64::from(high) << 7
}

fn long_varint(bytes: &[u8], at: &mut usize) -> Result<u64, Fault> {
    let mut number = 0;
    for index in 0..10 {
        let Some(&byte) = bytes.get(*at + index) else { return Err(Fault::Truncated) };
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            if index == 9 && byte > 1 {
                break;
            }
            *at += index + 1;
            return Ok(number);
        }
    }
    Err(Fault::Varint)
}

/// Reads a field's number and wire type.
#[inline(always)]
pub(super) fn key(bytes: &[u8], at: &mut usize) -> Result<(u32, u8), Fault> {
    let start = *at;
    let key = varint(bytes, at)?;
    match u32::try_from(key) {
        Ok(key) if key >= 8 => Ok((key >> 3, (key & 7) as u8)),
        Ok(_) | Err(_) => {
            *at = start;
            Err(Fault::Key)
        }
    }
}

/// Reads a length and moves `at` to the first byte behind what has that length.
#[inline(always)]
pub(super) fn delimited<'a>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], Fault> {
    let start = *at;
    let length = varint(bytes, at)?;
    let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length));
    match end.and_then(|end| bytes.get(*at..end)) {
        Some(value) => {
            *at += value.len();
            Ok(value)
        }
        None => {
            *at = start;
            Err(Fault::Truncated)
        }
    }
}

/// Skips a value of `width` bytes.
#[inline(always)]
pub(super) fn fixed(bytes: &[u8], at: &mut usize, width: usize) -> Result<(), Fault> {
    if bytes.len() - *at < width {
        return Err(Fault::Truncated);
    }
    *at += width;
    Ok(())
}

/// Skips the value of an unknown field; groups may nest `levels` deep.
pub(super) fn skip(bytes: &[u8], at: &mut usize, tag: u32, wire: u8, levels: u32) -> Result<(), Fault> {
    if levels == 0 {
        return Err(Fault::Depth);
    }
    match wire {
        0 => varint(bytes, at).map(|_| ()),
        1 => fixed(bytes, at, 8),
        2 => delimited(bytes, at).map(|_| ()),
        3 => loop {
            let (inner, wire) = key(bytes, at)?;
            if wire == 4 {
                return if inner == tag { Ok(()) } else { Err(Fault::Group) };
            }
            skip(bytes, at, inner, wire, levels - 1)?;
        },
        4 => Err(Fault::Group),
        5 => fixed(bytes, at, 4),
        _ => Err(Fault::WireType),
    }
}

/// The next field of a message, for the views: `None` at the end and at the first fault.
#[inline(always)]
pub(super) fn next<'a>(rest: &mut &'a [u8]) -> Option<(u32, Field<'a>)> {
    let bytes = *rest;
    let (tag, wire, value) = match bytes {
        [key @ 0x08..=0x7f, value @ ..] => (u32::from(key >> 3), key & 7, value),
        _ => {
            let mut at = 0;
            let (tag, wire) = key(bytes, &mut at).ok()?;
            (tag, wire, bytes.get(at..)?)
        }
    };
    let field;
    (field, *rest) = match wire {
        0 => {
            let (number, rest) = number(value)?;
            (Field::Varint(number), rest)
        }
        1 => {
            let (number, rest) = value.split_first_chunk()?;
            (Field::Fixed64(u64::from_le_bytes(*number)), rest)
        }
        2 => {
            let (length, rest) = number(value)?;
            let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (Field::Bytes(bytes), rest)
        }
        5 => {
            let (number, rest) = value.split_first_chunk()?;
            (Field::Fixed32(u32::from_le_bytes(*number)), rest)
        }
        _ => (Field::Group, skipped(value, tag, wire)?),
    };
    Some((tag, field))
}

/// A varint and what follows it.
#[inline(always)]
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    match bytes {
        [byte @ ..0x80, rest @ ..] => Some((u64::from(*byte), rest)),
        [low, high @ ..0x80, rest @ ..] => Some((two_bytes(*low, *high), rest)),
        _ => {
            let mut at = 0;
            let number = long_varint(bytes, &mut at).ok()?;
            Some((number, bytes.get(at..)?))
        }
    }
}

/// What follows a group.
#[cold]
fn skipped(bytes: &[u8], tag: u32, wire: u8) -> Option<&[u8]> {
    let mut at = 0;
    skip(bytes, &mut at, tag, wire, super::LEVELS_MAX).ok()?;
    bytes.get(at..)
}

/// The key and the `AnyValue` of a `KeyValue` as every encoder writes it: short, each once, nothing else. Whatever is
/// written otherwise is read field by field.
#[inline(always)]
pub(super) fn pair(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, length @ ..0x80, rest @ ..] = bytes else { return None };
    let (key, rest) = rest.split_at_checked(usize::from(*length))?;
    match rest {
        [0x12, length @ ..0x80, any @ ..] if any.len() == usize::from(*length) => Some((key, any)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Result<u64, Fault>) {
        let mut at = 0;
        assert_eq!(varint(bytes, &mut at), expected, "{bytes:x?}");
        assert_eq!(at, if expected.is_ok() { bytes.len() } else { 0 }, "{bytes:x?}");
    }

    #[test]
    fn a_varint_is_at_most_sixty_four_bits_and_never_cut() {
        check(&[0], Ok(0));
        check(&[0x96, 0x01], Ok(150));
        check(&[0x80, 0x00], Ok(0));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Ok(u64::MAX));
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], Err(Fault::Varint));
        check(&[0x80; 11], Err(Fault::Varint));
        check(&[0x80], Err(Fault::Truncated));
        check(&[], Err(Fault::Truncated));
    }
}
