//! The queue: what it accepts arrives, whatever the backend and the process go through.

mod memory;
mod term;

use std::path::Path;

use homeostat_pipeline::clock::Timestamp;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::super::spool::Store;
use super::*;
use homeostat_pipeline::drops;

/// Patient beyond what any machine needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A data directory in which the exporter `otlp/test` has its folder.
struct Disk(TempDir);

impl Disk {
    fn new() -> Disk {
        Disk(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> std::path::PathBuf {
        self.0.path().join("components/otlp-test")
    }

    /// Dead letters as JSON.
    fn letters(&self) -> Vec<serde_json::Value> {
        let path = self.0.path().join("components/dead-letters/otlp-test.jsonl");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The files of the log.
    fn segments(&self) -> Vec<std::path::PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.folder().join("spool")) else { return Vec::new() };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }
}

/// An exporter with a queue, as the registry opens it.
struct Running {
    exporter: Option<Arc<dyn TelemetryExporter>>,
    stop: CancellationToken,
    tasks: Tasks,
    folder: Option<std::path::PathBuf>,
}

impl Running {
    fn context(disk: Option<&Disk>, id: &str) -> Context {
        Context {
            id: id.to_owned(),
            directory: disk.map(Disk::folder),
            budget: homeostat_pipeline::budget::Budget::new(64 << 20),
            ..context()
        }
    }

    async fn open(
        context: Context,
        backend: &Backend,
        queue: Vec<(&str, Value)>,
        more: Vec<(&str, Value)>,
    ) -> Running {
        let protocol = if backend.protocol == Protocol::Grpc { "grpc" } else { "http/protobuf" };
        let mut fields = vec![
            ("endpoint", text(&format!("http://{}", backend.addr))),
            ("protocol", text(protocol)),
            ("timeout", text("60s")),
            ("sending_queue", map(queue)),
        ];
        if more.iter().all(|(key, _)| *key != "retry_on_failure") {
            let quick = vec![("initial_interval", text("1ms")), ("max_interval", text("20ms"))];
            fields.push(("retry_on_failure", map(quick)));
        }
        fields.extend(more);
        let [otlp, _] = registrations();
        let settings = (otlp.read)(&node(map(fields))).unwrap();
        assert!(settings.check(&context.files).is_empty());
        let (stop, tasks, folder) = (context.stop.clone(), context.tasks.clone(), context.directory.clone());
        let Component::TelemetryExporter(exporter) = settings.open(context).await.unwrap() else {
            panic!("it is a telemetry exporter");
        };
        assert!(exporter.is_queued());
        Running { exporter: Some(exporter), stop, tasks, folder }
    }

    async fn on(disk: &Disk, backend: &Backend, queue: Vec<(&str, Value)>) -> Running {
        Running::open(Running::context(Some(disk), "otlp/test"), backend, queue, vec![]).await
    }

    async fn export(&self, telemetry: &Telemetry) -> Result<Taken, Refusal> {
        self.exporter.as_ref().unwrap().export(telemetry, far()).await
    }

    /// Accepts the numbers as requests.
    async fn accept(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            assert_eq!(self.export(&numbered(number)).await, Ok(Taken::default()));
        }
    }

    /// As at the end of a process that has no time left.
    async fn end(mut self) {
        self.tasks.finish(Instant::now()).await;
        self.exporter = None;
        if let Some(folder) = &self.folder {
            until("the queue is closed", || !Store::is_open(folder)).await;
        }
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A request whose frame says its number, and whose records are two.
fn numbered(number: usize) -> Telemetry {
    let body = Bytes::from(format!("request {number:04}"));
    let frame = Frame { content: Content::Protobuf, compression: Encoded::None, bytes: body.clone() };
    Telemetry { signal: Signal::Logs, frame, body, records: 2 }
}

fn one() -> (&'static str, Value) {
    ("num_consumers", Value::Integer(1))
}

/// The messages that came, as text.
fn arrived(backend: &Backend) -> Vec<String> {
    let skip = if backend.protocol == Protocol::Grpc { 5 } else { 0 };
    let seen = backend.seen.lock().unwrap();
    seen.iter().map(|seen| String::from_utf8_lossy(&seen.body[skip..]).into_owned()).collect()
}

fn expected(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("request {number:04}")).collect()
}

fn busy(protocol: Protocol) -> Act {
    say(match protocol {
        Protocol::Http => http(503, ""),
        Protocol::Grpc => grpc(14, None),
    })
}

fn cursor(disk: &Disk) -> u64 {
    let bytes = std::fs::read(disk.folder().join("cursor")).unwrap_or_default();
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A backend at which nothing answers until the process ends.
async fn hanging(protocol: Protocol) -> Backend {
    Backend::start(protocol, (0..1_000).map(|_| Act::Hang).collect()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_goes_out_in_order_and_once() {
    for protocol in PROTOCOLS {
        let (disk, backend) = (Disk::new(), Backend::start(protocol, vec![]).await);
        backend.script.lock().unwrap().extend([busy(protocol), busy(protocol)]);
        let running = Running::on(&disk, &backend, vec![one()]).await;
        running.accept(0..30).await;
        until("all arrived", || backend.count() >= 32).await;
        let mut arrived = arrived(&backend);
        arrived.dedup();
        assert_eq!(arrived, expected(0..30), "{protocol:?}");
        until("the cursor is behind them", || cursor(&disk) == 30).await;
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_it_goes_on_where_it_was() {
    let disk = Disk::new();
    let down = hanging(Protocol::Grpc).await;
    let running = Running::on(&disk, &down, vec![]).await;
    running.accept(0..25).await;
    running.end().await;
    let backend = Backend::start(Protocol::Grpc, vec![]).await;
    let running = Running::on(&disk, &backend, vec![one()]).await;
    until("all arrived", || backend.count() >= 25).await;
    assert_eq!(arrived(&backend), expected(0..25));
    until("the cursor is behind them", || cursor(&disk) == 25).await;
    running.end().await;
    let running = Running::on(&disk, &backend, vec![one()]).await;
    running.accept(25..30).await;
    until("the rest arrived", || backend.count() >= 30).await;
    assert_eq!(arrived(&backend), expected(0..30), "nothing that was done with came again");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_tells_senders_to_come_back_and_takes_them_when_there_is_room() {
    let (disk, backend) = (Disk::new(), hanging(Protocol::Http).await);
    let queue = || vec![one(), ("queue_size", Value::Integer(3))];
    let running = Running::on(&disk, &backend, queue()).await;
    running.accept(0..3).await;
    match running.export(&numbered(3)).await {
        Err(Refusal::Unavailable { retry_after, reason }) => {
            assert!(
                (1..=5).contains(&retry_after.as_secs()) && reason.contains("the queue is full"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    running.end().await;
    // What waits counts after a restart too.
    let running = Running::on(&disk, &backend, queue()).await;
    assert!(running.export(&numbered(3)).await.is_err_and(|refusal| refusal.is_retryable()));
    running.end().await;
    let backend = Backend::start(Protocol::Http, vec![]).await;
    let running = Running::on(&disk, &backend, queue()).await;
    until("there is room", || backend.count() >= 3).await;
    until("the cursor is behind them", || cursor(&disk) == 3).await;
    running.accept(3..4).await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_block_on_overflow_a_sender_waits_for_room() {
    let (disk, backend) = (Disk::new(), Backend::start(Protocol::Http, vec![]).await);
    backend.script.lock().unwrap().extend((0..20).map(|_| busy(Protocol::Http)));
    let queue = vec![one(), ("queue_size", Value::Integer(1)), ("block_on_overflow", Value::Bool(true))];
    let running = Running::on(&disk, &backend, queue).await;
    running.accept(0..10).await;
    until("all arrived", || backend.count() >= 30).await;
    running.end().await;
    let (disk, backend) = (Disk::new(), hanging(Protocol::Http).await);
    let queue = vec![("queue_size", Value::Integer(1)), ("block_on_overflow", Value::Bool(true))];
    let running = Running::on(&disk, &backend, queue).await;
    running.accept(0..1).await;
    let soon = Instant::now() + Duration::from_millis(50);
    let refused = running.exporter.as_ref().unwrap().export(&numbered(1), soon).await;
    assert!(refused.is_err_and(|refusal| refusal.is_retryable()), "its deadline ends the wait");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backend_refuses_for_good_is_a_dead_letter_without_a_body() {
    let unstruck = drops::unstruck(&[&drops::QUEUE_REFUSED]);
    let (disk, backend) = (Disk::new(), Backend::start(Protocol::Http, vec![]).await);
    let words = Details { code: 3, message: "it is bad".to_owned(), retry_after: None };
    let partial = Answered { rejected: 1, message: "one was old".to_owned() };
    backend
        .script
        .lock()
        .unwrap()
        .extend([say(http(400, words.encode())), say(ok(Protocol::Http, &partial.encode()))]);
    let running = Running::on(&disk, &backend, vec![one()]).await;
    running.accept(0..3).await;
    until("all are done with", || cursor(&disk) == 3).await;
    assert_eq!(backend.count(), 3, "neither the refused nor the partly refused is sent again");
    let letters = disk.letters();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter["cause"].as_str(), letter["records"].as_u64()), (Some("refused"), Some(2)));
    assert_eq!((letter["signal"].as_str(), letter["body_bytes"].as_u64()), (Some("logs"), Some(12)));
    assert!(letter["reason"].as_str().unwrap().ends_with("it is bad"), "{letter}");
    assert_eq!(letter["hash"].as_str().map(str::len), Some(32));
    assert!(!letter.to_string().contains("request 0000"), "{letter}");
    running.end().await;
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_request_is_left_out_and_said_and_the_others_arrive() {
    let unstruck = drops::unstruck(&[&drops::QUEUE_DAMAGED]);
    let disk = Disk::new();
    let running = Running::on(&disk, &hanging(Protocol::Http).await, vec![]).await;
    running.accept(0..5).await;
    running.end().await;
    let path = disk.segments().pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(12).position(|window| window == b"request 0002").unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(&path, bytes).unwrap();
    let backend = Backend::start(Protocol::Http, vec![]).await;
    let queue = vec![one(), ("queue_size", Value::Integer(5))];
    let running = Running::on(&disk, &backend, queue).await;
    until("the others arrived", || cursor(&disk) == 5).await;
    assert_eq!(arrived(&backend), [expected(0..2), expected(3..5)].concat());
    let letters = disk.letters();
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!((letter["cause"].as_str(), letter["index"].as_str()), (Some("damaged"), Some("2")));
    running.accept(5..10).await;
    until("its room was given back", || cursor(&disk) == 10).await;
    running.end().await;
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cursor_costs_a_repetition_and_a_lost_log_nothing_new() {
    let (disk, backend) = (Disk::new(), Backend::start(Protocol::Http, vec![]).await);
    let running = Running::on(&disk, &backend, vec![one()]).await;
    running.accept(0..4).await;
    until("all are done with", || cursor(&disk) == 4).await;
    running.end().await;
    std::fs::remove_file(disk.folder().join("cursor")).unwrap();
    let running = Running::on(&disk, &backend, vec![one()]).await;
    until("they came again", || backend.count() >= 8).await;
    until("all are done with", || cursor(&disk) == 4).await;
    running.end().await;
    std::fs::remove_dir_all(disk.folder().join("spool")).unwrap();
    let running = Running::on(&disk, &backend, vec![one()]).await;
    running.accept(4..6).await;
    until("the new ones arrived", || cursor(&disk) == 6).await;
    assert_eq!(arrived(&backend)[8..], expected(4..6));
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_wholly_sent_are_removed() {
    let (disk, backend) = (Disk::new(), Backend::start(Protocol::Http, vec![]).await);
    let running = Running::on(&disk, &backend, vec![("max_mib", Value::Integer(1))]).await;
    let large = |number: u8| {
        let body = Bytes::from(vec![number; 100_000]);
        let frame = Frame { content: Content::Protobuf, compression: Encoded::None, bytes: body.clone() };
        Telemetry { signal: Signal::Logs, frame, body, records: 1 }
    };
    let mut accepted = 0;
    while accepted < 40 {
        match running.export(&large(accepted)).await {
            Ok(_) => accepted += 1,
            Err(refusal) => {
                assert!(refusal.is_retryable(), "{refusal}");
                sleep(Duration::from_millis(5)).await;
            }
        }
        let bytes: u64 =
            disk.segments().iter().map(|path| path.metadata().map_or(0, |file| file.len())).sum();
        assert!(bytes < 1_500_000, "{bytes} bytes on disk");
    }
    until("all are done with", || cursor(&disk) == 40).await;
    until("only the last file is left", || disk.segments().len() == 1).await;
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_keep_the_encoding_in_which_they_came() {
    let json = || {
        let bytes = Bytes::from_static(b"{}");
        let frame = Frame { content: Content::Json, compression: Encoded::None, bytes };
        Telemetry { signal: Signal::Logs, frame, body: Bytes::from_static(b"protobuf"), records: 1 }
    };
    for (protocol, kind, message) in
        [(Protocol::Http, "application/json", "{}"), (Protocol::Grpc, "application/grpc", "protobuf")]
    {
        let (disk, backend) = (Disk::new(), Backend::start(protocol, vec![]).await);
        let running = Running::on(&disk, &backend, vec![one()]).await;
        assert!(running.export(&json()).await.is_ok());
        assert!(running.export(&traces()).await.is_ok());
        until("both arrived", || backend.count() >= 2).await;
        assert_eq!(arrived(&backend), [message, "as it came"]);
        let name = if protocol == Protocol::Grpc { "grpc-encoding" } else { "content-encoding" };
        let headers: Vec<HeaderMap> =
            backend.seen.lock().unwrap().iter().map(|seen| seen.headers.clone()).collect();
        assert_eq!(
            (&headers[0]["content-type"], &headers[1][name]),
            (&HeaderValue::from_static(kind), &HeaderValue::from_static("gzip"))
        );
        running.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_setting_a_request_is_given_up_and_kept_as_a_letter() {
    let unstruck = drops::unstruck(&[&drops::QUEUE_GIVEN_UP, &drops::QUEUE_EXPIRED]);
    let disk = Disk::new();
    let backend = Backend::start(Protocol::Http, (0..1_000).map(|_| busy(Protocol::Http)).collect()).await;
    let retry = vec![("initial_interval", text("1ms")), ("max_elapsed_time", text("20ms"))];
    let more = vec![("retry_on_failure", map(retry))];
    let running = Running::open(Running::context(Some(&disk), "otlp/test"), &backend, vec![], more).await;
    running.accept(0..1).await;
    until("it is given up", || cursor(&disk) == 1).await;
    running.end().await;
    // A day later.
    let clock = homeostat_pipeline::clock::ManualClock::at(Timestamp::from_millis(1_000));
    let mut context = Running::context(Some(&disk), "otlp/test");
    context.clock = Arc::new(clock);
    let running = Running::open(context, &hanging(Protocol::Http).await, vec![], vec![]).await;
    running.accept(1..2).await;
    running.end().await;
    let running = Running::on(&disk, &backend, vec![("max_age", text("24h"))]).await;
    until("it is too old", || cursor(&disk) == 2).await;
    let causes: Vec<String> =
        disk.letters().iter().map(|letter| letter["cause"].as_str().unwrap().to_owned()).collect();
    assert_eq!(causes, ["given_up", "expired"]);
    running.end().await;
    assert_eq!(unstruck(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_disk_the_queue_is_in_memory_and_charged_to_the_budget() {
    let backend = Backend::start(Protocol::Http, vec![]).await;
    let context = Running::context(None, "otlp/memory");
    let budget = context.budget.clone();
    let running = Running::open(context, &backend, vec![one()], vec![]).await;
    running.accept(0..20).await;
    until("all arrived", || backend.count() >= 20).await;
    assert_eq!(arrived(&backend), expected(0..20));
    until("nothing is held any more", || budget.used_bytes() == 0).await;
    running.end().await;

    let mut context = Running::context(None, "otlp/memory-full");
    context.budget = homeostat_pipeline::budget::Budget::new(64 << 10);
    let running = Running::open(context, &hanging(Protocol::Http).await, vec![], vec![]).await;
    let mut number = 0;
    let refusal = loop {
        match running.export(&numbered(number)).await {
            Ok(_) => number += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(refusal.is_retryable() && number > 5, "{number}: {refusal}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exporter_that_is_opened_anew_goes_on_with_the_queue_of_the_old_one() {
    let (disk, down) = (Disk::new(), hanging(Protocol::Http).await);
    let old = Running::on(&disk, &down, vec![]).await;
    old.accept(0..5).await;
    let backend = Backend::start(Protocol::Http, vec![]).await;
    let mut context = Running::context(Some(&disk), "otlp/test");
    context.stop = CancellationToken::new();
    let new = Running::open(context, &backend, vec![one()], vec![]).await;
    new.accept(5..7).await;
    old.accept(7..8).await;
    assert_eq!(backend.count(), 0, "one of them sends");
    old.stop.cancel();
    until("the new one sends", || backend.count() >= 8).await;
    assert_eq!(arrived(&backend), expected(0..8));
    drop(old);
    new.end().await;
    assert!(!Store::is_open(Path::new("nowhere")));
}
