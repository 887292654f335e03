//! The image and `compose.yaml`, read by a small parser: instructions, sources, users, ports; and the image's configuration and probe
//! at work.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use homeostat_tests::homeostat::{Homeostat, write};
use homeostat_tests::process::{Process, eventually, find_program};
use serde_json::Value;

use super::{
    CONFIGURATION, DATA, Environment, Listening, check_configuration, check_image, list, read, root, text,
    version, yaml,
};

/// One instruction: its name and all that follows.
type Instruction = (String, String);

const KNOWN: [&str; 17] = [
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
    "ONBUILD",
    "ADD",
];

fn instructions() -> Vec<Instruction> {
    let text = read("deploy/Dockerfile");
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let instructions: Vec<Instruction> = joined
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.trim().split_once(' ').unwrap_or_else(|| panic!("`{line}` says nothing")))
        .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
        .collect();
    for (name, rest) in &instructions {
        assert!(KNOWN.contains(&name.as_str()), "no instruction: {name} {rest}");
    }
    instructions
}

/// The stages: image, name, instructions.
fn stages() -> Vec<(String, Option<String>, Vec<Instruction>)> {
    let mut stages: Vec<(String, Option<String>, Vec<Instruction>)> = Vec::new();
    for (name, rest) in instructions() {
        if name == "FROM" {
            let mut words = rest.split_whitespace();
            let image = words.next().expect("FROM names an image").to_owned();
            let alias =
                (words.next() == Some("AS")).then(|| words.next().expect("AS names a stage").to_owned());
            stages.push((image, alias, Vec::new()));
        } else {
            stages.last_mut().expect("FROM is the first instruction").2.push((name, rest));
        }
    }
    stages
}

/// What an instruction of the last stage says; there is exactly one of it.
fn only(name: &str) -> String {
    let stages = stages();
    let (_, _, last) = stages.last().expect("there is a stage");
    let found: Vec<&String> = last.iter().filter(|(own, _)| own == name).map(|(_, rest)| rest).collect();
    assert_eq!(found.len(), 1, "{name} of the last stage");
    found[0].clone()
}

/// An instruction in exec form: no shell stands between the engine's signals and homeostat.
fn exec(rest: &str) -> Vec<String> {
    serde_json::from_str(rest).unwrap_or_else(|error| panic!("{rest} is no list of words: {error}"))
}

/// A COPY: its flags, its sources, its destination.
fn copy(rest: &str) -> (Vec<&str>, Vec<&str>, &str) {
    let (flags, mut paths): (Vec<&str>, Vec<&str>) =
        rest.split_whitespace().partition(|word| word.starts_with("--"));
    let to = paths.pop().expect("COPY has a destination");
    (flags, paths, to)
}

#[test]
fn the_dockerfile_builds_from_what_is_there_and_names_no_registry() {
    let ignore = read("deploy/Dockerfile.dockerignore");
    let admitted: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignore.lines().any(|line| line == "*"), "the context is what is admitted, nothing else");
    let mut copied = BTreeSet::new();
    let mut earlier = BTreeSet::new();
    for (image, alias, body) in stages() {
        check_image(&image);
        for (name, rest) in &body {
            assert!(!["ADD", "ONBUILD"].contains(&name.as_str()), "{name} hides what it does");
            if name != "COPY" {
                continue;
            }
            let (flags, sources, _) = copy(rest);
            if let Some(stage) = flags.iter().find_map(|flag| flag.strip_prefix("--from=")) {
                assert!(earlier.contains(stage), "no stage before is called {stage}");
                continue;
            }
            for source in sources {
                assert!(root().join(source).exists(), "COPY {source}: it does not exist");
                let is_admitted =
                    admitted.iter().any(|path| source == *path || source.starts_with(&format!("{path}/")));
                assert!(is_admitted, "COPY {source}: Dockerfile.dockerignore keeps it out");
                copied.insert(source.to_owned());
            }
        }
        earlier.extend(alias);
    }
    for path in admitted {
        let is_used = copied.iter().any(|source| source == path || source.starts_with(&format!("{path}/")));
        assert!(is_used, "Dockerfile.dockerignore admits {path}, which nothing copies");
    }
    let manifest = read("Cargo.toml");
    let members =
        manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("there are members");
    for member in exec(members).into_iter().chain(["src", "Cargo.toml", "Cargo.lock"].map(str::to_owned)) {
        let is_copied =
            copied.iter().any(|source| member == *source || member.starts_with(&format!("{source}/")));
        assert!(is_copied, "the workspace needs {member}, which is not copied");
    }
}

#[test]
fn the_image_is_built_by_our_rust_and_profile_for_the_debian_it_runs_on() {
    let stages = stages();
    let [(builder, _, body), (runtime, _, _)] = stages.as_slice() else { panic!("a builder and a runtime") };
    let manifest = read("Cargo.toml");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("it is there");
    let codename = runtime.trim_start_matches("debian:").trim_end_matches("-slim");
    assert_eq!(builder, &format!("rust:{}-{codename}", rust.trim_matches('"')), "one C library for both");
    assert!(body.contains(&("ARG".to_owned(), "PROFILE=dist".to_owned())));
    assert!(manifest.contains("[profile.dist]"));
    let build = body.iter().find(|(name, rest)| name == "RUN" && rest.contains("cargo build"));
    let (_, build) = build.expect("something runs cargo build");
    assert!(build.contains("--locked") && build.contains("--profile \"$PROFILE\""), "{build}");
}

#[test]
fn the_image_runs_as_nobody_and_agrees_with_its_configuration() {
    let user = only("USER");
    let ids: Vec<u32> = user.split(':').map(|id| id.parse().expect("ids are numbers")).collect();
    assert!(ids.len() == 2 && ids.iter().all(|id| *id > 0), "USER {user}");
    let stages = stages();
    let (_, _, last) = stages.last().expect("there is a stage");
    assert!(last.iter().all(|(name, _)| name != "RUN"), "nothing of the runtime stage runs as root");
    let copies: Vec<_> = last.iter().filter(|(name, _)| name == "COPY").map(|(_, rest)| copy(rest)).collect();
    let arrives = |path: &str| copies.iter().find(|(_, _, to)| *to == path);
    assert_eq!(exec(&only("ENTRYPOINT")), ["/usr/bin/homeostat"]);
    assert_eq!(exec(&only("CMD")), ["run", "--config", CONFIGURATION]);
    assert_eq!(arrives(CONFIGURATION).expect("it is copied").1, ["deploy/docker/homeostat.yaml"]);
    assert_eq!(
        arrives("/etc/homeostat/model.yml").expect("it is copied").1,
        ["config/homeostasis_model.yml"]
    );
    assert_eq!(only("VOLUME"), DATA);
    assert_eq!(only("STOPSIGNAL"), "SIGTERM");
    let configuration = yaml("homeostat.yaml", &read("deploy/docker/homeostat.yaml"));
    assert_eq!(configuration["service"]["storage"]["directory"], DATA);
    let ports = Listening::of(&configuration).ports();
    let exposed: BTreeSet<u64> =
        only("EXPOSE").split(' ').map(|port| port.parse().expect("ports are numbers")).collect();
    assert_eq!(exposed, ports.values().copied().collect::<BTreeSet<u64>>());
    let health = only("HEALTHCHECK");
    let (_, probe) = health.split_once("CMD ").expect("the health check is a command");
    assert_eq!(
        exec(probe),
        ["/usr/bin/homeostat-probe", &format!("127.0.0.1:{}", ports["metrics"]), "/readyz"]
    );
    let (flags, sources, _) = arrives("/usr/bin/homeostat-probe").expect("the probe is copied");
    assert_eq!((flags.as_slice(), sources.as_slice()), (&["--chmod=0755"][..], &["deploy/docker/probe"][..]));
}

async fn probe(admin: &str, path: &str) -> (i32, String) {
    let mut bash = Command::new("bash");
    bash.arg(root().join("deploy/docker/probe")).args([admin, path]);
    let mut process = Process::spawn("homeostat-probe", bash);
    let code = process.exit().await.code().unwrap_or(-1);
    (code, process.all_output().await)
}

#[tokio::test]
async fn the_images_configuration_runs_and_its_probe_tells_ready_from_not() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let configuration = read("deploy/docker/homeostat.yaml");
    let ports = Listening::of(&yaml("homeostat.yaml", &configuration)).ports();
    let mut here = configuration.replace(DATA, "data");
    for port in ports.values() {
        here = here.replace(&format!("0.0.0.0:{port}"), "127.0.0.1:0");
    }
    assert!(!here.contains("endpoint: 0.0.0.0"), "{here}");
    write(folder.path(), "config.yaml", &here);
    write(folder.path(), "model.yml", &read("config/homeostasis_model.yml"));
    let homeostat = Homeostat::start(folder.path()).await;
    homeostat.is_ready().await;
    let admin = homeostat.admin.to_string();
    assert_eq!(probe(&admin, "/readyz").await, (0, String::new()));
    assert_eq!(probe(&admin, "/healthz").await, (0, String::new()));
    assert_eq!(probe(&admin, "/nowhere").await, (1, format!("/nowhere of {admin} answers 404")));
    // The dashboard reads quantiles, so histograms must be served as summaries.
    eventually("the journal's quantiles are served", async || {
        homeostat
            .metrics()
            .await
            .contains("homeostat_journal_commit_seconds{quantile=\"0.99\"}")
            .then_some(())
    })
    .await;
    let (status, output) = homeostat.stop().await;
    assert!(status.success(), "{output}");
}

#[tokio::test]
async fn the_probe_fails_where_nobody_answers() {
    // A port that is held by something that hangs up: a free one could be another test's a moment later.
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let hangs_up = std::thread::spawn(move || drop(listener.accept()));
    let (code, output) = probe(&address, "/readyz").await;
    assert_ne!(code, 0, "{output}");
    hangs_up.join().expect("somebody called");
}

#[tokio::test]
async fn the_images_configuration_is_valid_as_it_is() {
    let (configuration, model) = (read("deploy/docker/homeostat.yaml"), read("config/homeostasis_model.yml"));
    check_configuration("deploy/docker/homeostat.yaml", &configuration, &model, &Environment::new()).await;
}

fn compose() -> Value {
    yaml("compose.yaml", &read("deploy/compose.yaml"))
}

/// `${NAME:-default}` of compose as its default, which is what holds on a machine that sets nothing.
fn interpolated(value: &str) -> String {
    let mut text = value.to_owned();
    while let Some(start) = text.find("${") {
        let end = start + text[start..].find('}').expect("a reference ends");
        let (_, default) = text[start + 2..end].split_once(":-").expect("a reference has a default");
        text = format!("{}{default}{}", &text[..start], &text[end + 1..]);
    }
    text
}

#[test]
fn compose_mounts_publishes_and_waits_for_what_there_is() {
    let compose = compose();
    let services = compose["services"].as_object().expect("there are services");
    let volumes = compose["volumes"].as_object().expect("there are volumes");
    for (name, service) in services {
        check_image(text(service, "/image"));
        for volume in list(service, "/volumes") {
            let volume = volume.as_str().expect("volumes are in the short form");
            let (from, to) = volume.split_once(':').expect("a volume has two sides");
            assert!(to.starts_with('/'), "{name} mounts {volume}");
            if from.starts_with('.') {
                assert!(
                    root().join("deploy").join(from).is_file(),
                    "{name} mounts {from}, which is not there"
                );
                assert!(to.ends_with(":ro"), "{name} may write {from}");
            } else {
                assert!(volumes.contains_key(from), "{name} mounts {from}, which is not declared");
            }
        }
        for port in service.pointer("/ports").and_then(Value::as_array).into_iter().flatten() {
            let port = port.as_str().expect("ports are texts");
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port} to everybody");
        }
        for (awaited, how) in service.pointer("/depends_on").and_then(Value::as_object).into_iter().flatten()
        {
            let awaited = services.get(awaited).unwrap_or_else(|| panic!("{name} waits for {awaited}"));
            assert_eq!(how["condition"], "service_healthy", "{name}");
            // homeostat's health check is in its image.
            assert!(awaited.get("healthcheck").is_some() || awaited.get("build").is_some(), "{awaited:#}");
        }
    }
    let build = &services["homeostat"]["build"];
    let context = root().join("deploy").join(text(build, "/context"));
    assert!(context.join(text(build, "/dockerfile")).is_file());
    assert_eq!(services["homeostat"]["image"], format!("homeostat:{}", version()));
}

#[tokio::test]
async fn the_gateway_of_compose_finds_its_sinks_and_the_collector_finds_it() {
    let compose = compose();
    let services = &compose["services"];
    let environment: Environment = services["homeostat"]["environment"]
        .as_object()
        .expect("homeostat has an environment")
        .iter()
        .map(|(name, value)| (name.clone(), interpolated(value.as_str().expect("it is text"))))
        .collect();
    let configuration = read("deploy/compose/homeostat.yaml");
    let model = read("config/homeostasis_model.yml");
    check_configuration("deploy/compose/homeostat.yaml", &configuration, &model, &environment).await;

    let password = interpolated(text(services, "/postgres/environment/POSTGRES_PASSWORD"));
    let (user, database) = (
        text(services, "/postgres/environment/POSTGRES_USER"),
        text(services, "/postgres/environment/POSTGRES_DB"),
    );
    assert_eq!(environment["DATABASE_URL"], format!("postgres://{user}:{password}@postgres:5432/{database}"));
    let nats = read("deploy/compose/nats.conf");
    let listen = nats.lines().find_map(|line| line.strip_prefix("listen: 0.0.0.0:")).expect("it listens");
    assert_eq!(environment["NATS_URL"], format!("nats://nats:{listen}"));

    let configuration = yaml("homeostat.yaml", &configuration);
    let ports = Listening::of(&configuration).ports();
    assert_eq!(configuration["service"]["storage"]["directory"], DATA);
    let mounts = list(services, "/homeostat/volumes");
    assert!(mounts.iter().any(|mount| mount == &format!("homeostat-data:{DATA}")), "{mounts:?}");
    assert!(mounts.iter().any(|mount| mount == &format!("./compose/homeostat.yaml:{CONFIGURATION}:ro")));
    let published = list(services, "/homeostat/ports");
    assert_eq!(published, [format!("127.0.0.1:{0}:{0}", ports["metrics"])]);

    let collector = yaml("collector.yaml", &read("deploy/compose/collector.yaml"));
    let exporter = &collector["exporters"]["otlp/homeostat"];
    assert_eq!(exporter["endpoint"], format!("homeostat:{}", ports["otlp-grpc"]));
    let pipelines = collector["service"]["pipelines"].as_object().expect("there are pipelines");
    assert_eq!(pipelines.keys().collect::<BTreeSet<_>>().len(), 3);
    for (signal, pipeline) in pipelines {
        assert!(["traces", "metrics", "logs"].contains(&signal.as_str()), "{signal}");
        for section in ["receivers", "processors", "exporters"] {
            for id in list(pipeline, &format!("/{section}")) {
                let id = id.as_str().expect("ids are texts");
                assert!(collector[section].get(id).is_some(), "{signal}: no {section} {id}");
            }
        }
        assert_eq!(pipeline["processors"][0], "memory_limiter", "the Collector wants it first");
        assert_eq!(list(pipeline, "/exporters"), ["otlp/homeostat"]);
    }
    let collector_ports: BTreeSet<&str> = list(services, "/collector/ports")
        .iter()
        .filter_map(|port| port.as_str()?.rsplit(':').next())
        .collect();
    let listens =
        |protocol: &str| text(&collector, &format!("/receivers/otlp/protocols/{protocol}/endpoint"));
    let own = ["grpc", "http"].map(|protocol| listens(protocol).trim_start_matches("0.0.0.0:"));
    assert_eq!(collector_ports, BTreeSet::from(own));
}

#[tokio::test]
async fn a_real_nats_server_takes_the_configuration_of_compose() {
    let server =
        find_program("nats-server").expect("nats-server is installed (Debian: apt-get install nats-server)");
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    // The path of the volume is the container's; a test's is its own.
    let store = format!("store_dir: {}", folder.path().join("store").display());
    let configuration = read("deploy/compose/nats.conf");
    assert!(configuration.contains("store_dir: /data"), "the volume is at /data");
    let file = write(folder.path(), "nats.conf", &configuration.replace("store_dir: /data", &store));
    let mut command = Command::new(server);
    command.arg("-t").arg("-c").arg(Path::new(&file));
    let mut process = Process::spawn("nats-server -t", command);
    let status = process.exit().await;
    assert!(status.success(), "{}", process.all_output().await);
}
