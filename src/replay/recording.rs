//! Recorded OTLP, message by message: what the Collector's `file` exporter writes.
//!
//! - JSON: one request a line (`{"resourceSpans":…}`, `resourceMetrics`, `resourceLogs`);
//! - frames: four bytes of length, big end first, then a request as protobuf or JSON, maybe compressed by itself;
//! - either of them as a whole in gzip or zstd.
//!
//! What it is is seen from its first bytes, never from its name.

use std::io::{BufRead, BufReader, Cursor, Read};
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use homeostat_pipeline::batch::{Compression, Signal};
use homeostat_pipeline::budget::Budget;
use homeostat_pipeline::otlp::{resource_spans, walk};
use homeostat_receivers::otlp::account::Account;
use homeostat_receivers::otlp::{inflate::inflate, json::transcode};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BUFFER_BYTES: usize = 1 << 20;
/// A line or frame that is longer is none.
const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// What one message may hold; nothing else is held at the time.
const BUDGET_BYTES: u64 = 8 << 30;

/// One file.
pub struct Recording {
    name: String,
    reader: Box<dyn BufRead>,
    is_framed: bool,
    /// Of the frames, where it was said; lines say it themselves.
    signal: Option<Signal>,
    /// Of the last frame.
    last: Option<Signal>,
    /// The message that was read last, from 1.
    number: u64,
    budget: Budget,
    line: Vec<u8>,
}

/// What a recording gives.
#[derive(Debug)]
pub enum Item {
    /// A request as protobuf.
    Message(Signal, Bytes),
    /// Something that is none, with its place.
    Unreadable(String),
}

/// The same bytes again, with the first of them at hand.
fn peek(mut reader: Box<dyn Read>) -> std::io::Result<(Vec<u8>, Box<dyn Read>)> {
    let mut head = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut head)?;
    Ok((head.clone(), Box::new(Cursor::new(head).chain(reader))))
}

fn plain(reader: Box<dyn Read>) -> std::io::Result<Box<dyn Read>> {
    let (head, reader) = peek(reader)?;
    Ok(if head.starts_with(GZIP) {
        Box::new(flate2::read::MultiGzDecoder::new(reader))
    } else if head.starts_with(ZSTD) {
        Box::new(zstd::stream::read::Decoder::new(reader)?)
    } else {
        reader
    })
}

impl Recording {
    /// Opens a file, or standard input where it is `-`. `signal` is that of protobuf frames, which do not say it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path, signal: Option<Signal>) -> anyhow::Result<Recording> {
        let name = path.display().to_string();
        let reader: Box<dyn Read> = if name == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(std::fs::File::open(path).with_context(|| format!("cannot read `{name}`"))?)
        };
        Recording::of(name.clone(), reader, signal).with_context(|| format!("cannot read `{name}`"))
    }

    fn of(name: String, reader: Box<dyn Read>, signal: Option<Signal>) -> std::io::Result<Recording> {
        let (head, reader) = peek(plain(Box::new(BufReader::with_capacity(BUFFER_BYTES, reader)))?)?;
        let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
        Ok(Recording {
            name,
            reader: Box::new(BufReader::with_capacity(BUFFER_BYTES, reader)),
            is_framed: first.is_some_and(|byte| *byte != b'{'),
            signal,
            last: None,
            number: 0,
            budget: Budget::new(BUDGET_BYTES),
            line: Vec::new(),
        })
    }

    /// The next message; none at the end.
    ///
    /// # Errors
    /// It cannot be read on from here: the disk fails, the compression is broken, or a frame is no frame.
    pub fn next(&mut self) -> anyhow::Result<Option<Item>> {
        let content = if self.is_framed { self.frame() } else { self.line() };
        let place = self.place();
        let Some(content) = content.with_context(|| format!("cannot read on at {place}"))? else {
            return Ok(None);
        };
        Ok(Some(match self.message(content) {
            Ok((signal, body)) => Item::Message(signal, body),
            Err(error) => Item::Unreadable(format!("{place}: {error:#}")),
        }))
    }

    fn place(&self) -> String {
        let word = if self.is_framed { "frame" } else { "line" };
        format!("{} {word} {}", self.name, self.number)
    }

    fn line(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            self.number += 1;
            self.line.clear();
            let limit = MESSAGE_BYTES_MAX as u64 + 1;
            if (&mut self.reader).take(limit).read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            if self.line.len() > MESSAGE_BYTES_MAX {
                bail!("the line is longer than {} MiB", MESSAGE_BYTES_MAX >> 20);
            }
            let line = self.line.trim_ascii();
            if !line.is_empty() {
                return Ok(Some(Bytes::copy_from_slice(line)));
            }
        }
    }

    fn frame(&mut self) -> anyhow::Result<Option<Bytes>> {
        self.number += 1;
        let mut head = Vec::new();
        if (&mut self.reader).take(4).read_to_end(&mut head)? == 0 {
            return Ok(None);
        }
        let Ok(head) = <[u8; 4]>::try_from(head) else { bail!("the recording ends within a length") };
        let length = u32::from_be_bytes(head) as usize;
        if length > MESSAGE_BYTES_MAX {
            bail!(
                "the frame would be {length} bytes long (is it OTLP as JSON lines, or protobuf with lengths?)"
            );
        }
        let mut content = Vec::new();
        if (&mut self.reader).take(length as u64).read_to_end(&mut content)? < length {
            bail!("the recording ends within the frame");
        }
        Ok(Some(content.into()))
    }

    fn message(&mut self, content: Bytes) -> anyhow::Result<(Signal, Bytes)> {
        let mut account = Account::new(self.budget.clone(), Ipv4Addr::LOCALHOST.into());
        let compression = match &content {
            content if content.starts_with(GZIP) => Compression::Gzip,
            content if content.starts_with(ZSTD) => Compression::Zstd,
            _ => Compression::None,
        };
        let content = inflate(compression, &content, MESSAGE_BYTES_MAX, &mut account)?;
        if content.first() != Some(&b'{') {
            return self.protobuf(content);
        }
        let signal = signal_of(&content)?;
        Ok((signal, transcode(signal, &content, MESSAGE_BYTES_MAX, content.len(), &mut account)?))
    }

    /// Protobuf does not say which request it is; usually it fits only one. Signals may be mixed: what a pipeline of all of them
    /// recorded.
    fn protobuf(&mut self, content: Bytes) -> anyhow::Result<(Signal, Bytes)> {
        if let Some(signal) = self.signal {
            return Ok((signal, content));
        }
        if let Some(signal) = self.last.filter(|signal| fits(*signal, &content)) {
            return Ok((signal, content));
        }
        let all: Vec<Signal> = Signal::ALL.into_iter().filter(|signal| fits(*signal, &content)).collect();
        match all.as_slice() {
            [signal] => {
                self.last = Some(*signal);
                Ok((*signal, content))
            }
            [] => bail!("it is no OTLP request"),
            _ => bail!(
                "it may be more than one signal (say which with `--signal traces`, `metrics` or `logs`)"
            ),
        }
    }
}

/// Whether it is well-formed as a request of this signal, and is one: a metric's name is no trace id.
fn fits(signal: Signal, content: &[u8]) -> bool {
    if walk(signal, content).is_err() {
        return false;
    }
    let mut spans = resource_spans(content).flat_map(|one| one.scopes()).flat_map(|one| one.spans());
    signal != Signal::Traces || spans.next().is_none_or(|span| span.trace_id() != [0; 16])
}

/// The first key says it.
fn signal_of(json: &[u8]) -> anyhow::Result<Signal> {
    const WORD: &[u8] = b"\"resource";
    let at = json.windows(WORD.len()).position(|window| window == WORD);
    let rest = at.map(|at| &json[at + WORD.len()..]).unwrap_or_default();
    for (word, signal) in
        [(&b"Spans\""[..], Signal::Traces), (b"Metrics\"", Signal::Metrics), (b"Logs\"", Signal::Logs)]
    {
        if rest.starts_with(word) {
            return Ok(signal);
        }
    }
    bail!("it has neither `resourceSpans` nor `resourceMetrics` nor `resourceLogs`")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const LINE: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"x","kind":2,"startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}"#;

    fn all(bytes: &[u8], signal: Option<Signal>) -> Vec<String> {
        let reader = Box::new(Cursor::new(bytes.to_vec()));
        let mut recording = Recording::of("r".to_owned(), reader, signal).expect("it opens");
        let mut all = Vec::new();
        loop {
            match recording.next() {
                Ok(Some(Item::Message(signal, body))) => {
                    all.push(format!("{} {}", signal.name(), walk(signal, &body).expect("whole")));
                }
                Ok(Some(Item::Unreadable(why))) => all.push(why),
                Ok(None) => return all,
                Err(error) => {
                    all.push(format!("{error:#}"));
                    return all;
                }
            }
        }
    }

    fn protobuf() -> Vec<u8> {
        protobuf_of(Signal::Traces, LINE)
    }

    fn protobuf_of(signal: Signal, line: &str) -> Vec<u8> {
        let mut account = Account::new(Budget::new(BUDGET_BYTES), Ipv4Addr::LOCALHOST.into());
        transcode(signal, line.as_bytes(), 1 << 20, 0, &mut account).expect("it is OTLP").to_vec()
    }

    fn framed(content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).expect("short");
        [&length.to_be_bytes()[..], content].concat()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    #[test]
    fn lines_and_frames_plain_and_compressed_are_the_same_messages() {
        let lines = format!("{LINE}\n\n{LINE}\n");
        let frames = [framed(&protobuf()), framed(LINE.as_bytes())].concat();
        let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).expect("memory");
        let inside = [framed(&zstd(&protobuf())), framed(&gzip(LINE.as_bytes()))].concat();
        for recording in [
            lines.clone().into_bytes(),
            frames.clone(),
            inside,
            gzip(lines.as_bytes()),
            zstd(lines.as_bytes()),
            zstd(&frames),
        ] {
            assert_eq!(all(&recording, None), ["traces 1", "traces 1"]);
        }
    }

    #[test]
    fn frames_of_several_signals_are_told_apart() {
        let log = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1","body":{"stringValue":"x"}}]}]}]}"#;
        let point = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"queue","gauge":{"dataPoints":[{"timeUnixNano":"1","asInt":"2"}]}}]}]}]}"#;
        let frames = [
            framed(&protobuf()),
            framed(&protobuf_of(Signal::Logs, log)),
            framed(&protobuf_of(Signal::Metrics, point)),
            framed(&protobuf()),
        ];
        assert_eq!(all(&frames.concat(), None), ["traces 1", "logs 1", "metrics 1", "traces 1"]);
    }

    #[test]
    fn what_is_no_message_is_told_with_its_place_and_what_follows_is_read() {
        let lines = format!("{{\"x\":1}}\n{LINE}\n{{\"resourceLogs\":3}}\n{LINE}");
        let told = all(lines.as_bytes(), None);
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told[0].starts_with("r line 1: it has neither"), "{told:?}");
        assert!(told[2].starts_with("r line 3: malformed OTLP/JSON"), "{told:?}");
        assert_eq!((told[1].as_str(), told[3].as_str()), ("traces 1", "traces 1"));
        let torn = framed(&protobuf());
        let told = all(&torn[..torn.len() - 1], None);
        assert!(told[0].contains("ends within the frame"), "{told:?}");
        assert!(all(&[0xff; 8], None)[0].contains("would be"), "a wild length is refused");
        assert_eq!(all(b"", None), Vec::<String>::new());
        let empty = framed(&[10, 0]);
        assert!(all(&empty, None)[0].contains("--signal"), "what may be anything has to be named");
        assert_eq!(all(&empty, Some(Signal::Logs)), ["logs 0"]);
    }
}
