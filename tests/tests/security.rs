//! Secrets and who holds them, in whole programs: TLS with certificates of both sides and credentials from one homeostat to
//! the next; health checks; and that no secret of a configuration is ever printed.

use std::path::Path;

use homeostat_tests::backend::Backend;
use homeostat_tests::client::{Sender, TRACES, get};
use homeostat_tests::homeostat::{Homeostat, command, write};
use homeostat_tests::process::{Process, eventually, free_port};
use homeostat_tests::telemetry::{Spans, now, traces};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Writes `ca.pem`, and a certificate with its key for localhost.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).expect("a root needs no name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("there is randomness");
    write(folder, "ca.pem", &params.self_signed(&key).expect("the root signs itself").pem());
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("there is randomness");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("localhost is a name");
    write(folder, "cert.pem", &params.signed_by(&key, &issuer).expect("the root signs").pem());
    write(folder, "key.pem", &key.serialize_pem());
}

fn spans() -> bytes::Bytes {
    let spans = Spans {
        count: 3,
        req: String::new(),
        node: ("", ""),
        duration: std::time::Duration::from_millis(5),
        is_error: false,
    };
    traces(&spans, now())
}

const GATEWAY: &str = r#"
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 0.0.0.0:0
        tls: { cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem }
        auth: { authenticator: bearertokenauth }
      http:
        endpoint: 0.0.0.0:0
        tls: { cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem, min_version: "1.3" }
        auth: { authenticator: basicauth }
exporters: { otlp/backend: { endpoint: "http://BACKEND" } }
extensions:
  bearertokenauth: { filename: token.txt }
  basicauth: { htpasswd: { file: .htpasswd } }
  health_check: { endpoint: 127.0.0.1:HEALTH, path: /health }
service:
  storage: none
  telemetry: { metrics: { endpoint: 127.0.0.1:0 } }
  extensions: [bearertokenauth, basicauth, health_check]
  pipelines: { traces: { receivers: [otlp], exporters: [otlp/backend] } }
"#;

const SIDECAR: &str = r#"
receivers: { otlp: { protocols: { grpc: { endpoint: 127.0.0.1:0 }, http: { endpoint: 127.0.0.1:0 } } } }
exporters:
  otlp:
    endpoint: https://127.0.0.1:GRPC
    tls: { ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem, server_name_override: localhost }
    auth: { authenticator: bearertokenauth }
  otlphttp:
    endpoint: https://localhost:HTTP
    tls: { ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem }
    auth: { authenticator: basicauth/client }
extensions:
  bearertokenauth: { token: "${env:CANARY_TOKEN}" }
  basicauth/client: { client_auth: { username: me, password: "${env:CANARY_PASSWORD}" } }
service:
  storage: none
  telemetry: { metrics: { endpoint: 127.0.0.1:0 } }
  extensions: [bearertokenauth, basicauth/client]
  pipelines: { traces: { receivers: [otlp], exporters: [otlp, otlphttp] } }
"#;

const TOKEN: &str = "canary-token";
const PASSWORD: &str = "canary-password";

/// bcrypt's of it, by crypt(3).
const HASHED_PASSWORD: &str = "$2y$05$Vd1oWjLqjPnQKkL9iKkQyu3C4u3UEKCLSUHTxSUerNR/1vJP5EfO2";

async fn sidecar(folder: &Path, token: &str) -> Homeostat {
    let environment = [("CANARY_TOKEN", token), ("CANARY_PASSWORD", PASSWORD), ("RUST_LOG", "debug")];
    Homeostat::try_start(folder, &environment).await.expect("the sidecar starts")
}

#[tokio::test]
async fn what_one_sends_with_tls_and_credentials_the_next_takes_and_nobody_prints_a_secret() {
    let backend = Backend::start().await;
    let (server, client) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    certificates(server.path());
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        std::fs::copy(server.path().join(name), client.path().join(name)).expect("the file is there");
    }
    let health = free_port();
    write(server.path(), "token.txt", TOKEN);
    write(server.path(), ".htpasswd", &format!("me:{HASHED_PASSWORD}\n"));
    let config =
        GATEWAY.replace("BACKEND", &backend.address.to_string()).replace("HEALTH", &health.to_string());
    write(server.path(), "config.yaml", &config);
    let gateway =
        Homeostat::try_start(server.path(), &[("RUST_LOG", "debug")]).await.expect("the gateway starts");
    eventually("the health check says yes", async || {
        (get(([127, 0, 0, 1], health).into(), "/health").await.0 == 200).then_some(())
    })
    .await;
    let ports = [("GRPC", gateway.grpc.port()), ("HTTP", gateway.http.port())];
    let config = ports.iter().fold(SIDECAR.to_owned(), |text, (word, port)| {
        text.replace(&format!(":{word}"), &format!(":{port}"))
    });
    write(client.path(), "config.yaml", &config);

    let body = spans();
    let good = sidecar(client.path(), TOKEN).await;
    let answer = Sender::default().http(good.http, TRACES.1, "identity", body.clone()).await;
    assert!(
        answer.as_ref().is_ok_and(|answer| answer.is_ok()),
        "{answer:?}\n{}\n{}",
        good.process.output(),
        gateway.process.output()
    );
    let received = backend.received();
    assert!(received.iter().all(|one| one.frame == body) && !received.is_empty(), "{received:?}");

    let (_, output) = good.stop().await;
    let wrong = sidecar(client.path(), "canary-wrong").await;
    let answer =
        Sender::default().http(wrong.http, TRACES.1, "identity", spans()).await.expect("there is an answer");
    assert_eq!(answer.status, 400, "{answer:?}");
    let printed = [
        output,
        wrong.metrics().await,
        gateway.metrics().await,
        String::from_utf8_lossy(&answer.body).into_owned(),
        wrong.stop().await.1,
        gateway.stop().await.1,
    ];
    for text in printed {
        assert!(!text.contains("canary"), "a secret was printed:\n{text}");
    }
}

/// A configuration with a canary in every setting that is a secret, and with mistakes beside them.
const CANARIES: &str = r#"
receivers:
  otlp: { protocols: { grpc: { endpoint: 127.0.0.1:0, auth: { authenticator: bearer } } } }
exporters:
  otlp: { endpoint: "http://me:canary-1@127.0.0.1:1", headers: { authorization: "canary-2", "bad name": "canary-3" } }
  otlphttp: { endpoint: "ftp://canary-4@127.0.0.1:1", auth: { authenticator: bearertokenath } }
  nats: { servers: ["nats://me:canary-5@127.0.0.1:1"], oops: 1 }
  postgres: { url: "postgres://me:canary-6@127.0.0.1:1/x", oops: 1 }
extensions:
  bearertokenauth: { token: "canary-7\u0007" }
  basicauth: { htpasswd: { inline: "canary-8" } }
  basicauth/client: { client_auth: { username: "a:b", password: "canary-9" } }
  basicauth/hashed: { htpasswd: { inline: "me:$2y$10$canary" } }
  helth_check: {}
service:
  storage: none
  extensions: [bearertokenauth, basicauth, basicauth/client, basicauth/hashed]
  pipelines: { traces: { receivers: [otlp], exporters: [otlp, otlphttp] } }
"#;

#[tokio::test]
async fn validate_names_every_mistake_beside_a_secret_and_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "a.yaml", CANARIES);
    for format in ["text", "json"] {
        let arguments = ["validate", "--config", "a.yaml", "--format", format];
        let mut process = Process::spawn("homeostat", command(folder.path(), &arguments));
        assert_eq!(process.exit().await.code(), Some(1));
        let output = process.all_output().await;
        for expected in [
            "no authenticator `bearer` is in `service.extensions`",
            "no authenticator `bearertokenath`",
            "bearertokenauth",
            "the endpoint has credentials in it",
            "is no header's name",
            "line 1 is not `user:password`",
            "have no colon in it",
            "is no hash of it: copy the whole line",
            "unknown extension type `helth_check`",
            "health_check",
        ] {
            assert!(output.contains(expected), "`{expected}` is not in:\n{output}");
        }
        assert!(!output.contains("canary"), "a secret was printed:\n{output}");
    }
}

/// A configuration that is good, with a canary in every place where a secret can stand.
const GOOD: &str = r#"
receivers: { otlp: { protocols: { http: { endpoint: "127.0.0.1:${env:PORT}", auth: { authenticator: bearertokenauth } } } } }
processors: { tag: {}, homeostasis: { model: model.yml } }
exporters:
  otlp: { endpoint: "http://127.0.0.1:1/canary-path", headers: { x-key: "canary-1", other: "a${env:CANARY_PASSWORD}$$" } }
  nats: { servers: ["nats://me:canary-2@127.0.0.1:1"], auth: { token: "${file:token.txt}" }, source: "http://me:canary-3@here" }
  postgres: { url: "postgres://me:canary-4@127.0.0.1:1/x" }
  kg: { endpoint: "http://127.0.0.1:1", headers: { authorization: "Bearer canary-5" } }
extensions:
  bearertokenauth: { token: "${env:CANARY_TOKEN}" }
  basicauth: { htpasswd: { inline: "me:canary-6" } }
  basicauth/client: { client_auth: { username: me, password: canary-7 } }
service:
  storage: none
  extensions: [bearertokenauth]
  telemetry:
    traces:
      processors:
        - batch: { exporter: { otlp: { endpoint: "http://127.0.0.1:1/canary-path", headers: [{ name: x-key, value: canary-8 }] } } }
  pipelines:
    feedback: { receivers: [otlp], processors: [tag, homeostasis], exporters: [otlp, nats, postgres, kg] }
"#;

#[tokio::test]
async fn what_is_printed_of_a_configuration_is_one_again_but_for_its_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "token.txt", TOKEN);
    write(folder.path(), "model.yml", homeostat_config::MODEL);
    write(folder.path(), "a.yaml", GOOD);
    let run = async |arguments: &[&str]| {
        let mut command = command(folder.path(), arguments);
        command.envs([("CANARY_TOKEN", TOKEN), ("CANARY_PASSWORD", PASSWORD), ("PORT", "0")]);
        let mut process = Process::spawn("homeostat", command);
        let code = process.exit().await.code();
        (code, process.all_output().await)
    };
    for more in [&[][..], &["--defaults"], &["--format", "json"], &["--defaults", "--format", "json"]] {
        let (code, output) = run(&[&["print-config", "--config", "a.yaml"], more].concat()).await;
        assert_eq!(code, Some(0), "{output}");
        assert!(!output.contains("canary") && output.contains("[REDACTED]"), "{output}");
        assert!(output.contains("127.0.0.1:0") && !output.contains("${env"), "{output}");
        if more.contains(&"json") {
            continue;
        }
        let (_, shown) = output.split_once("receivers:").expect("it begins with them");
        // What a secret stands for has to be written again.
        let shown = format!("receivers:{shown}")
            .replace("endpoint: \"[REDACTED]\"", "endpoint: http://127.0.0.1:1")
            .replace("servers: [\"[REDACTED]\"]", "servers: [nats://127.0.0.1:1]")
            .replace("url: \"[REDACTED]\"", "url: postgres://me@127.0.0.1:1/x")
            .replace("inline: \"[REDACTED]\"", "inline: me:x");
        write(folder.path(), "b.yaml", &shown);
        let (code, said) = run(&["validate", "--config", "b.yaml"]).await;
        assert_eq!(code, Some(0), "{said}\n{shown}");
    }
    write(folder.path(), "a.yaml", CANARIES);
    let (code, output) = run(&["print-config", "--config", "a.yaml"]).await;
    assert!(code == Some(1) && !output.contains("canary"), "{output}");
    for name in [&["schema"][..], &["schema", "config"]] {
        let (code, output) = run(name).await;
        assert!(code == Some(0) && !output.contains("canary"), "{output}");
    }
}

#[tokio::test]
async fn beyond_loopback_both_tls_and_credentials_are_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    write(folder.path(), "token.txt", TOKEN);
    write(folder.path(), ".htpasswd", &format!("me:{HASHED_PASSWORD}\n"));
    let whole = GATEWAY.replace("BACKEND", "127.0.0.1:1").replace("HEALTH", "0");
    let without = |part: &str| {
        assert!(whole.contains(part), "{part}");
        whole.replacen(part, "", 1)
    };
    for (text, code) in [
        (whole.clone(), 0),
        (without("auth: { authenticator: bearertokenauth }"), 1),
        (without("tls: { cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem }"), 1),
        (without("auth: { authenticator: bearertokenauth }").replacen("0.0.0.0:0", "127.0.0.1:0", 1), 0),
        (whole.replacen("cert.pem", "nothing.pem", 1), 1),
    ] {
        write(folder.path(), "a.yaml", &text);
        let mut process =
            Process::spawn("homeostat", command(folder.path(), &["validate", "--config", "a.yaml"]));
        let status = process.exit().await;
        let output = process.all_output().await;
        assert_eq!(status.code(), Some(code), "{output}\n{text}");
    }
}
