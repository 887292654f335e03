//! Bodies that no encoder would write but any sender may send.

use super::super::schema::{Kind, Schema};

/// Decisions, drawn from the bytes that proptest makes and shrinks; zeros when they have run out.
pub(super) struct Source<'a>(pub(super) &'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    fn number(&mut self) -> u64 {
        let digits = [self.byte(), self.byte(), self.byte(), self.byte()];
        let number = u64::from(u32::from_le_bytes(digits));
        if self.below(3) == 0 { number.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { number }
    }

    fn text(&mut self) -> &'static str {
        const TEXTS: [&str; 7] = [
            "",
            "req",
            "service.name",
            "REQ-NFR-PERF-001",
            "Grüße an alle, die dies lesen",
            "日本語",
            "a text of more than one and of more than two words of eight bytes",
        ];
        TEXTS[self.below(TEXTS.len())]
    }
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_bytes(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(u64::from(tag) << 3 | 2, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_number(source: &mut Source<'_>, tag: u32, wire: u64, out: &mut Vec<u8>) {
    put_varint(u64::from(tag) << 3 | wire, out);
    let number = source.number();
    match wire {
        0 => put_varint(number, out),
        1 => out.extend_from_slice(&number.to_le_bytes()),
        _ => out.extend_from_slice(&(number as u32).to_le_bytes()),
    }
}

fn put_unknown(source: &mut Source<'_>, tag: u32, out: &mut Vec<u8>) {
    match source.below(5) {
        0 => put_number(source, tag, 0, out),
        1 => put_number(source, tag, 1, out),
        2 => put_number(source, tag, 5, out),
        3 => put_bytes(tag, source.text().as_bytes(), out),
        _ => {
            put_varint(u64::from(tag) << 3 | 3, out);
            put_number(source, 1, 0, out);
            put_bytes(2, source.text().as_bytes(), out);
            put_varint(u64::from(tag) << 3 | 4, out);
        }
    }
}

/// A message of this schema, with fields in any order and any number.
pub(super) fn arbitrary(source: &mut Source<'_>, schema: &Schema, levels: u32) -> Vec<u8> {
    let known: Vec<u32> = (1..=16).filter(|tag| !matches!(schema.field(*tag), Kind::Unknown)).collect();
    let mut out = Vec::new();
    for _ in 0..source.below(if known.len() > 4 { 12 } else { 5 }) {
        let tag =
            if source.below(12) == 0 { 1 + source.byte() as u32 } else { known[source.below(known.len())] };
        match schema.field(tag) {
            Kind::Unknown => put_unknown(source, tag, &mut out),
            Kind::Varint => put_number(source, tag, 0, &mut out),
            Kind::Fixed32 => put_number(source, tag, 5, &mut out),
            Kind::Fixed64 => put_number(source, tag, 1, &mut out),
            Kind::Text => put_bytes(tag, source.text().as_bytes(), &mut out),
            Kind::Bytes => {
                let length = [8, 16, 0, 5][source.below(4)];
                let bytes: Vec<u8> = (0..length).map(|_| source.byte()).collect();
                put_bytes(tag, &bytes, &mut out);
            }
            Kind::Message(inner) | Kind::Record(inner) => {
                let message = if levels == 0 { vec![] } else { arbitrary(source, inner, levels - 1) };
                put_bytes(tag, &message, &mut out);
            }
            Kind::Varints if source.below(2) == 0 => put_number(source, tag, 0, &mut out),
            Kind::Fixed64s if source.below(2) == 0 => put_number(source, tag, 1, &mut out),
            Kind::Varints => put_bytes(tag, &[1, 0x96, 1, 7][..source.below(2) * 4], &mut out),
            Kind::Fixed64s => put_bytes(tag, &[7; 32][..source.below(5) * 8], &mut out),
        }
    }
    out
}

pub(super) fn mutate(source: &mut Source<'_>, body: &mut Vec<u8>) {
    for _ in 0..=source.below(3) {
        let at = (source.number() as usize) % (body.len() + 1);
        match source.below(4) {
            0 => body.truncate(at),
            1 => body.insert(at, source.byte()),
            2 if at < body.len() => body[at] = source.byte(),
            _ if at < body.len() => body[at] ^= 1 << source.below(8),
            _ => {}
        }
    }
}
