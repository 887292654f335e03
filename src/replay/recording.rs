//! Recorded OTLP, message by message: what the Collector's `file` exporter writes.
//!
//! - JSON: one request a line (`{"resourceSpans":…}`, `resourceMetrics`, `resourceLogs`);
//! - frames: four bytes of length, big end first, then a request as protobuf or JSON, maybe compressed by itself;
//! - either of them as a whole in gzip or zstd.
//!
//! What it is is seen from its first bytes, never from its name.

use std::fmt;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
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
    name: Arc<str>,
    reader: Box<dyn BufRead>,
    is_framed: bool,
    /// The message that was read last, from 1.
    number: u64,
    line: Vec<u8>,
}

/// A line or the content of a frame, as the file has it.
pub struct Raw {
    /// The bytes; maybe compressed by themselves.
    pub content: Bytes,
    /// Where they stand.
    pub place: Place,
}

/// Where something stands in a recording.
pub struct Place {
    name: Arc<str>,
    word: &'static str,
    number: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.word, self.number)
    }
}

/// A request as protobuf; it has passed the walk.
#[derive(Debug)]
pub struct Message {
    /// Which request it is.
    pub signal: Signal,
    /// The request.
    pub body: Bytes,
    /// Spans, points and log records in it.
    pub records: u64,
}

/// From what a file has to requests. It remembers nothing, so that messages may be decoded in any order.
pub struct Decoder {
    /// Of the frames, where it was said; lines say it themselves.
    signal: Option<Signal>,
    budget: Budget,
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
    /// Opens a file, or standard input where it is `-`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path) -> anyhow::Result<Recording> {
        let name = path.display().to_string();
        let reader: Box<dyn Read> = if name == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(std::fs::File::open(path).with_context(|| format!("cannot read `{name}`"))?)
        };
        Recording::of(&name, reader).with_context(|| format!("cannot read `{name}`"))
    }

    fn of(name: &str, reader: Box<dyn Read>) -> std::io::Result<Recording> {
        let (head, reader) = peek(plain(Box::new(BufReader::with_capacity(BUFFER_BYTES, reader)))?)?;
        let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
        Ok(Recording {
            name: name.into(),
            reader: Box::new(BufReader::with_capacity(BUFFER_BYTES, reader)),
            is_framed: first.is_some_and(|byte| *byte != b'{'),
            number: 0,
            line: Vec::new(),
        })
    }

    /// The next message; none at the end.
    ///
    /// # Errors
    /// It cannot be read on from here: the disk fails, the compression is broken, or a frame is no frame.
    pub fn next(&mut self) -> anyhow::Result<Option<Raw>> {
        let content = if self.is_framed { self.frame() } else { self.line() };
        let word = if self.is_framed { "frame" } else { "line" };
        let place = Place { name: Arc::clone(&self.name), word, number: self.number };
        let content = content.with_context(|| format!("cannot read on at {place}"))?;
        Ok(content.map(|content| Raw { content, place }))
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
        let mut content = Vec::with_capacity(length.min(BUFFER_BYTES));
        if (&mut self.reader).take(length as u64).read_to_end(&mut content)? < length {
            bail!("the recording ends within the frame");
        }
        Ok(Some(content.into()))
    }
}

impl Decoder {
    /// `signal` is that of protobuf frames, which do not say it.
    pub fn new(signal: Option<Signal>) -> Decoder {
        Decoder { signal, budget: Budget::new(BUDGET_BYTES) }
    }

    /// What a line or frame says.
    ///
    /// # Errors
    /// It is no OTLP request, or may be more than one.
    pub fn decode(&self, raw: &Raw) -> anyhow::Result<Message> {
        let content = &raw.content;
        let mut account = Account::new(self.budget.clone(), Ipv4Addr::LOCALHOST.into());
        let compression = match content {
            content if content.starts_with(GZIP) => Compression::Gzip,
            content if content.starts_with(ZSTD) => Compression::Zstd,
            _ => Compression::None,
        };
        let content = inflate(compression, content, MESSAGE_BYTES_MAX, &mut account)?;
        if content.first() != Some(&b'{') {
            return self.protobuf(content);
        }
        let signal = signal_of(&content)?;
        let body = transcode(signal, &content, MESSAGE_BYTES_MAX, content.len(), &mut account)?;
        let records = walk(signal, &body).map_err(|malformed| anyhow!("{malformed}"))?;
        Ok(Message { signal, body, records })
    }

    /// Protobuf does not say which request it is; usually it fits only one.
    fn protobuf(&self, body: Bytes) -> anyhow::Result<Message> {
        if let Some(signal) = self.signal {
            let records = walk(signal, &body).map_err(|malformed| anyhow!("{malformed}"))?;
            return Ok(Message { signal, body, records });
        }
        let mut fits = Vec::new();
        for signal in Signal::ALL {
            let Ok(records) = walk(signal, &body) else { continue };
            match shows(signal, &body) {
                Some(true) => return Ok(Message { signal, body, records }),
                Some(false) => {}
                None => fits.push((signal, records)),
            }
        }
        match fits.as_slice() {
            [(signal, records)] => Ok(Message { signal: *signal, body, records: *records }),
            [] => bail!("it is no OTLP request"),
            _ => bail!(
                "it may be more than one signal (say which with `--signal traces`, `metrics` or `logs`)"
            ),
        }
    }
}

/// Whether a body that is well-formed as a request of `signal` shows that it is one, or that it is none; nothing where it does not say.
fn shows(signal: Signal, body: &[u8]) -> Option<bool> {
    match signal {
        Signal::Traces => {
            let mut spans = resource_spans(body).flat_map(|one| one.scopes()).flat_map(|one| one.spans());
            let span = spans.next()?;
            // A metric has its name where a span has its trace id.
            let is_span = span.trace_id() != [0; 16];
            (!is_span || (span.span_id() != [0; 8] && span.end() != 0)).then_some(is_span)
        }
        Signal::Metrics | Signal::Logs => None,
    }
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
        let mut recording = Recording::of("r", reader).expect("it opens");
        let decoder = Decoder::new(signal);
        let mut all = Vec::new();
        loop {
            match recording.next() {
                Ok(Some(raw)) => all.push(match decoder.decode(&raw) {
                    Ok(message) => {
                        let walked = walk(message.signal, &message.body);
                        assert!(walked.is_ok_and(|records| records == message.records), "it is whole");
                        format!("{} {}", message.signal.name(), message.records)
                    }
                    Err(error) => format!("{}: {error:#}", raw.place),
                }),
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
