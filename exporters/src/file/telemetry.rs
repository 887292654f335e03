//! Telemetry as a recording: every request whole, one after the other.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use homeostat_pipeline::batch::Telemetry;
use homeostat_pipeline::contract::{Taken, TelemetryExporter};
use homeostat_pipeline::otlp::json;
use homeostat_pipeline::refusal::Refusal;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::lines::whole_bytes;
use super::rolling::Rolling;
use super::{Compression, Format};

/// zstd's own default, and the Collector's.
const LEVEL: i32 = 3;
/// A length beyond this is none: no receiver takes such a request.
const FRAME_BYTES_MAX: u32 = 256 << 20;
const LENGTH_BYTES: u64 = 4;

/// How requests are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub format: Format,
    pub compression: Option<Compression>,
}

impl Form {
    /// Whether lengths tell one request from the next; else newlines do.
    pub fn is_framed(self) -> bool {
        self.format == Format::Proto || self.compression.is_some()
    }

    /// A request with what tells it from the next one.
    fn message(self, telemetry: &Telemetry) -> io::Result<Vec<u8>> {
        let mut content = match self.format {
            Format::Proto => Cow::Borrowed(&telemetry.body[..]),
            Format::Json => {
                let mut text = Vec::with_capacity(2 * telemetry.body.len());
                json::write(telemetry.signal, &telemetry.body, &mut text);
                Cow::Owned(text)
            }
        };
        if let Some(Compression::Zstd) = self.compression {
            content = Cow::Owned(zstd::bulk::compress(&content, LEVEL)?);
        }
        if !self.is_framed() {
            let mut line = content.into_owned();
            line.push(b'\n');
            return Ok(line);
        }
        let length = u32::try_from(content.len()).ok().filter(|length| *length <= FRAME_BYTES_MAX);
        let Some(length) = length else {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the request is longer than 256 MiB"));
        };
        Ok([&length.to_be_bytes()[..], &content].concat())
    }
}

/// A file that is recorded to; nobody else writes it.
#[derive(Debug)]
pub(super) struct Recorder {
    rolling: Rolling,
    /// Of the newest full file.
    number: u64,
}

impl Recorder {
    /// Goes on where the file ends. Half a request that a crash left there was never taken, and is cut; what is written otherwise than
    /// it would be now is set aside as a full file.
    ///
    /// # Errors
    /// It cannot be read or written, or somebody else writes it.
    pub fn over(rolling: Rolling, is_framed: bool) -> anyhow::Result<Recorder> {
        lock(&rolling)?;
        let number = rolling.backups()?.last().map_or(0, |(number, _)| *number);
        let mut recorder = Recorder { rolling, number };
        let whole = whole(&recorder.rolling, is_framed);
        let path = recorder.rolling.path().display().to_string();
        match whole.with_context(|| format!("cannot read `{path}`"))? {
            Some(bytes) => recorder.rolling.cut(bytes)?,
            None => {
                tracing::warn!(path, "the file holds something in another format and is set aside");
                recorder.rotate()?;
            }
        }
        Ok(recorder)
    }

    fn write(&mut self, message: &[u8]) -> anyhow::Result<()> {
        if self.rolling.is_full_for(message) {
            self.rotate()?;
        }
        Ok(self.rolling.append(message)?)
    }

    fn rotate(&mut self) -> anyhow::Result<()> {
        self.rolling.rotate(self.number + 1)?;
        self.number += 1;
        lock(&self.rolling)
    }
}

fn lock(rolling: &Rolling) -> anyhow::Result<()> {
    match rolling.file().try_lock() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!("`{}` is written by another exporter (give each its own file)", rolling.path().display())
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Where the last whole request ends; none when the file holds something else.
fn whole(rolling: &Rolling, is_framed: bool) -> io::Result<Option<u64>> {
    let bytes = rolling.bytes();
    if bytes == 0 {
        return Ok(Some(0));
    }
    let mut first = [0];
    rolling.file().read_exact_at(&mut first, 0)?;
    // As a length this would be two gibibytes.
    if (first == *b"{") == is_framed {
        return Ok(None);
    }
    if !is_framed {
        return whole_bytes(rolling.file(), bytes).map(Some);
    }
    let mut end = 0;
    while end + LENGTH_BYTES <= bytes {
        let mut length = [0; LENGTH_BYTES as usize];
        rolling.file().read_exact_at(&mut length, end)?;
        let length = u32::from_be_bytes(length);
        if length > FRAME_BYTES_MAX {
            return Ok(None);
        }
        let next = end + LENGTH_BYTES + u64::from(length);
        if next > bytes {
            break;
        }
        end = next;
    }
    Ok(Some(end))
}

/// Where requests go.
#[derive(Debug)]
pub(super) enum Target {
    Stdout,
    File(Recorder),
}

impl Target {
    fn write(&mut self, message: &[u8]) -> anyhow::Result<()> {
        match self {
            Target::File(recorder) => recorder.write(message),
            Target::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(message)?;
                Ok(out.flush()?)
            }
        }
    }
}

/// Records requests.
pub(super) struct Exporter {
    form: Form,
    target: Arc<Mutex<Target>>,
}

impl Exporter {
    pub fn new(form: Form, target: Target) -> Exporter {
        Exporter { form, target: Arc::new(Mutex::new(target)) }
    }

    /// One request at a time is in memory once more, as it is written.
    async fn record(&self, telemetry: Telemetry) -> anyhow::Result<()> {
        let form = self.form;
        let mut target = Arc::clone(&self.target).lock_owned().await;
        let write = move || target.write(&form.message(&telemetry)?);
        tokio::task::spawn_blocking(write).await?
    }
}

#[async_trait]
impl TelemetryExporter for Exporter {
    async fn export(&self, telemetry: &Telemetry, deadline: Instant) -> Result<Taken, Refusal> {
        match timeout_at(deadline, self.record(telemetry.clone())).await {
            Ok(Ok(())) => Ok(Taken::default()),
            Ok(Err(error)) => Err(Refusal::busy(format!("the request cannot be recorded: {error:#}"))),
            Err(_) => Err(Refusal::busy("the request was not recorded in time")),
        }
    }

    fn is_queued(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use bytes::Bytes;
    use homeostat_pipeline::batch::{self, Content, Frame, Signal};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use prost::Message as _;

    use super::*;

    const FORMS: [Form; 4] = [
        Form { format: Format::Json, compression: None },
        Form { format: Format::Json, compression: Some(Compression::Zstd) },
        Form { format: Format::Proto, compression: None },
        Form { format: Format::Proto, compression: Some(Compression::Zstd) },
    ];

    fn request(name: &str) -> ExportTraceServiceRequest {
        let span = Span { trace_id: vec![7; 16], name: name.to_owned(), kind: 2, ..Span::default() };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }],
        }
    }

    fn telemetry(name: &str) -> Telemetry {
        let body = Bytes::from(request(name).encode_to_vec());
        let (content, compression) = (Content::Protobuf, batch::Compression::None);
        let frame = Frame { content, compression, bytes: body.clone() };
        Telemetry { signal: Signal::Traces, frame, body, records: 1 }
    }

    fn recorder(path: &Path, form: Form, bytes_max: u64) -> anyhow::Result<Recorder> {
        Recorder::over(Rolling::open(path, bytes_max, 2)?, form.is_framed())
    }

    async fn record(path: &Path, form: Form, names: &[&str]) {
        let target = Target::File(recorder(path, form, 1 << 20).expect("it opens"));
        let exporter = Exporter::new(form, target);
        for name in names {
            let deadline = Instant::now() + Duration::from_secs(60);
            assert_eq!(exporter.export(&telemetry(name), deadline).await, Ok(Taken::default()));
        }
    }

    /// The requests in a recording, by a reader that knows only the Collector's words.
    fn names(path: &Path, form: Form) -> Vec<String> {
        let bytes = fs::read(path).expect("readable");
        let mut contents = Vec::new();
        if form.format == Format::Json && form.compression.is_none() {
            contents.extend(
                bytes
                    .split_inclusive(|byte| *byte == b'\n')
                    .map(|line| line.strip_suffix(b"\n").expect("a line is whole").to_vec()),
            );
        } else {
            let mut rest = &bytes[..];
            while let Some((length, after)) = rest.split_first_chunk() {
                let (content, after) = after.split_at(u32::from_be_bytes(*length) as usize);
                let is_zstd = form.compression.is_some();
                contents.push(if is_zstd {
                    zstd::decode_all(content).expect("zstd")
                } else {
                    content.to_vec()
                });
                rest = after;
            }
        }
        let read = |content: &Vec<u8>| match form.format {
            Format::Proto => ExportTraceServiceRequest::decode(&content[..]).expect("protobuf"),
            Format::Json => serde_json::from_slice(content).expect("OTLP/JSON"),
        };
        let name = |one: ExportTraceServiceRequest| {
            assert_eq!(one, request(&one.resource_spans[0].scope_spans[0].spans[0].name));
            one.resource_spans[0].scope_spans[0].spans[0].name.clone()
        };
        contents.iter().map(read).map(name).collect()
    }

    #[tokio::test]
    async fn requests_are_recorded_whole_in_every_form_and_a_restart_goes_on() {
        for form in FORMS {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("recording");
            record(&path, form, &["one", "two\n\"2\""]).await;
            record(&path, form, &["three"]).await;
            assert_eq!(names(&path, form), ["one", "two\n\"2\"", "three"], "{form:?}");
        }
    }

    #[tokio::test]
    async fn half_a_request_that_a_crash_left_is_cut() {
        for form in FORMS {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("recording");
            record(&path, form, &["one", "two"]).await;
            let whole = fs::read(&path).expect("readable");
            for left_out in [1, whole.len() / 2 - 2] {
                fs::write(&path, &whole[..whole.len() - left_out]).expect("cut");
                record(&path, form, &["three"]).await;
                assert_eq!(names(&path, form), ["one", "three"], "{form:?} without {left_out} bytes");
            }
        }
    }

    #[tokio::test]
    async fn what_was_recorded_in_another_form_is_set_aside() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("recording.otlp");
        for (number, form) in FORMS.into_iter().step_by(2).cycle().take(4).enumerate() {
            record(&path, form, &["one"]).await;
            assert_eq!(names(&path, form), ["one"]);
            if number >= 1 {
                let aside = dir.path().join(format!("recording-{number:020}.otlp"));
                assert_eq!(names(&aside, FORMS[2 * ((number + 1) % 2)]), ["one"]);
            }
        }
    }

    #[test]
    fn a_full_file_is_renamed_by_number_and_the_oldest_go() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("recording.jsonl");
        let message = FORMS[0].message(&telemetry("one")).expect("short");
        for _ in 0..9 {
            let mut recorder = recorder(&path, FORMS[0], 2 * message.len() as u64).expect("it opens");
            recorder.write(&message).expect("written");
        }
        let mut found: Vec<String> = fs::read_dir(dir.path())
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        found.sort();
        let backup = |number: u64| format!("recording-{number:020}.jsonl");
        assert_eq!(found, [backup(3), backup(4), "recording.jsonl".to_owned()]);
        assert_eq!(names(&path, FORMS[0]), ["one"]);
    }

    #[test]
    fn two_exporters_never_write_one_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("recording.jsonl");
        let first = recorder(&path, FORMS[0], 1 << 20).expect("it opens");
        let second = recorder(&path, FORMS[0], 1 << 20).expect_err("it is taken");
        assert!(second.to_string().contains("another exporter"), "{second}");
        drop(first);
        recorder(&path, FORMS[0], 1 << 20).expect("it is free again");
    }
}
