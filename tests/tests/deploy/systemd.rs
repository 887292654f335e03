//! The unit: read directive by directive, and by systemd itself where it is installed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use homeostat_tests::homeostat::write;
use homeostat_tests::process::find_program;

use super::{CONFIGURATION, DATA, read, yaml};

/// The most exposure that `systemd-analyze security` may see, in tenths; the unit has 12 with systemd 252.
const EXPOSURE_MAX: &str = "25";

/// Section and directive → values, in order.
type Unit = BTreeMap<(String, String), Vec<String>>;

/// What hardens the unit.
const HARDENING: [(&str, &str); 26] = [
    ("DynamicUser", "yes"),
    ("NoNewPrivileges", "yes"),
    ("CapabilityBoundingSet", ""),
    ("AmbientCapabilities", ""),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "yes"),
    ("ProtectProc", "invisible"),
    ("ProtectClock", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectControlGroups", "yes"),
    ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"),
    ("PrivateUsers", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ("RemoveIPC", "yes"),
    ("LockPersonality", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallErrorNumber", "EPERM"),
    ("UMask", "0077"),
];

/// What else the unit says; systemd itself only warns of a word that it does not know, so a word misspelt would harden nothing.
const OTHERS: [&str; 23] = [
    "Description",
    "Documentation",
    "Wants",
    "After",
    "StartLimitIntervalSec",
    "StartLimitBurst",
    "RestartSec",
    "TimeoutStopSec",
    "KillMode",
    "StateDirectoryMode",
    "ConfigurationDirectory",
    "LimitNOFILE",
    "LimitCORE",
    "TasksMax",
    "SystemCallFilter",
    "ExecStart",
    "ExecReload",
    "Type",
    "Restart",
    "StateDirectory",
    "WorkingDirectory",
    "EnvironmentFile",
    "WantedBy",
];

fn unit() -> Unit {
    let mut unit = Unit::new();
    let mut section = String::new();
    for line in read("deploy/systemd/homeostat.service").lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
            continue;
        }
        assert!(!line.ends_with('\\'), "no directive needs two lines: {line}");
        let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("`{line}` is no directive"));
        assert!(name.chars().all(|letter| letter.is_ascii_alphanumeric()), "{line}");
        unit.entry((section.clone(), name.to_owned())).or_default().push(value.to_owned());
    }
    unit
}

fn check(unit: &Unit, section: &str, name: &str, expected: &[&str]) {
    let found = unit.get(&(section.to_owned(), name.to_owned()));
    assert_eq!(
        found.map(|values| values.iter().map(String::as_str).collect::<Vec<_>>()),
        Some(expected.to_vec()),
        "{name}"
    );
}

#[test]
fn the_unit_says_what_hardens_it() {
    let unit = unit();
    for (name, expected) in HARDENING {
        check(&unit, "Service", name, &[expected]);
    }
    check(&unit, "Service", "SystemCallFilter", &["@system-service", "~@privileged @resources"]);
    for (_, name) in unit.keys() {
        let is_known = HARDENING.iter().any(|(own, _)| own == name) || OTHERS.contains(&name.as_str());
        assert!(is_known, "no test knows the directive {name}");
    }
}

#[test]
fn the_unit_agrees_with_the_configuration_and_restarts_what_fails() {
    let unit = unit();
    check(&unit, "Service", "ExecStart", &[&format!("/usr/bin/homeostat run --config {CONFIGURATION}")]);
    check(&unit, "Service", "ExecReload", &["/bin/kill -HUP $MAINPID"]);
    check(&unit, "Service", "Type", &["exec"]);
    check(&unit, "Service", "Restart", &["on-failure"]);
    check(&unit, "Service", "StateDirectory", &[DATA.rsplit('/').next().expect("it has a name")]);
    check(&unit, "Service", "WorkingDirectory", &["%S/homeostat"]);
    check(&unit, "Service", "EnvironmentFile", &["-/etc/homeostat/environment"]);
    check(&unit, "Install", "WantedBy", &["multi-user.target"]);
    let number = |name: &str, ending: &str| -> u64 {
        let value = &unit[&("Service".to_owned(), name.to_owned())][0];
        value.trim_end_matches(ending).parse().unwrap_or_else(|_| panic!("{name}={value}"))
    };
    // Each of the two listeners takes 1,024 connections (docs/otlp.md), and `service.shutdown` is 10 s.
    assert!(number("LimitNOFILE", "") >= 4 * 1_024);
    assert!(number("TimeoutStopSec", "s") > 10);
    let configuration = yaml("homeostat.yaml", &read("deploy/debian/homeostat.yaml"));
    assert_eq!(configuration["service"]["storage"]["directory"], DATA);
}

fn analyze(program: &Path, folder: &Path, arguments: &[&str]) -> Output {
    let run = Command::new(program).args(arguments).current_dir(folder).output();
    run.unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The version of systemd, where it is installed at all; from 250 on it judges units without a running system.
fn systemd() -> Option<std::path::PathBuf> {
    let program = find_program("systemd-analyze")?;
    let version = said(&analyze(&program, Path::new("/"), &["--version"]));
    let number = version.split_whitespace().nth(1)?.split('.').next()?.parse::<u32>().ok()?;
    (number >= 250).then_some(program)
}

#[test]
fn systemd_itself_takes_the_unit_and_finds_it_hardened() {
    let text = read("deploy/systemd/homeostat.service");
    assert_eq!(text.matches("/usr/bin/homeostat").count(), 1);
    // What the two tests above say holds without systemd as well; with it, it is asked.
    let Some(program) = systemd() else { return };
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    // The program is not installed here, and `verify` wants one that can be run.
    write(folder.path(), "homeostat.service", &text.replace("/usr/bin/homeostat", "/bin/sh"));
    let verified = analyze(
        &program,
        folder.path(),
        &["verify", "--man=no", "--recursive-errors=no", "./homeostat.service"],
    );
    assert!(verified.status.success(), "{}", said(&verified));
    assert!(!said(&verified).contains("homeostat.service:"), "{}", said(&verified));
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let judged = analyze(
        &program,
        folder.path(),
        &["security", "--no-pager", "--offline=true", &threshold, "./homeostat.service"],
    );
    assert!(judged.status.success(), "{}", said(&judged));
}
