//! The Debian package, really built of the binary under test, unpacked and looked at; and its scripts, run among programs that only
//! write down how they were called.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::read::GzDecoder;
use homeostat_tests::homeostat::{command, write};
use homeostat_tests::process::{Process, homeostat_binary};

use super::{CONFIGURATION, DATA, Environment, Listening, check_configuration, read, root, version, yaml};

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

/// What a command prints; it must end well.
fn printed(command: &mut Command) -> String {
    let output = run(command);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).expect("it is text")
}

fn build(output: &Path) -> PathBuf {
    let mut build = Command::new(root().join("deploy/debian/build"));
    build.arg("--binary").arg(homeostat_binary()).arg("--output").arg(output);
    // Debug binaries are large; what the package holds is the same.
    build.args(["--compression", "none"]).env("SOURCE_DATE_EPOCH", "1764547200");
    PathBuf::from(printed(&mut build).trim())
}

fn control(package: &Path) -> BTreeMap<String, String> {
    let text = printed(Command::new("dpkg-deb").arg("--field").arg(package));
    let fields = text.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_once(": "));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Path → (mode, owner) of all files and folders in the package, as `dpkg-deb --contents` lists them.
fn contents(package: &Path) -> BTreeMap<String, (String, String)> {
    let listing = printed(Command::new("dpkg-deb").arg("--contents").arg(package));
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, _, _, _, path] = words.as_slice() else { panic!("{line}") };
        (path.trim_start_matches('.').to_owned(), ((*mode).to_owned(), (*owner).to_owned()))
    };
    listing.lines().map(line).collect()
}

fn gunzipped(file: &Path) -> String {
    let mut text = String::new();
    let packed = fs::File::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    GzDecoder::new(packed).read_to_string(&mut text).expect("it is gzip");
    text
}

fn check_control(package: &Path) {
    let fields = control(package);
    let architecture = printed(Command::new("dpkg").arg("--print-architecture"));
    assert_eq!(fields["Package"], "homeostat");
    assert_eq!(fields["Version"], version());
    assert_eq!(fields["Architecture"], architecture.trim());
    assert!(fields["Depends"].starts_with("libc6 (>= 2."), "{}", fields["Depends"]);
    assert!(fields["Installed-Size"].parse::<u64>().is_ok_and(|size| size > 1_000), "{fields:?}");
    assert!(fields.values().all(|value| !value.contains('@') || value.contains("<")), "{fields:?}");
    let name = format!("homeostat_{}_{}.deb", version(), architecture.trim());
    assert_eq!(package.file_name().and_then(|name| name.to_str()), Some(name.as_str()));
}

fn check_contents(contents: &BTreeMap<String, (String, String)>) {
    for (path, mode) in [
        ("/usr/bin/homeostat", "-rwxr-xr-x"),
        ("/usr/lib/systemd/system/homeostat.service", "-rw-r--r--"),
        (CONFIGURATION, "-rw-r--r--"),
        ("/etc/homeostat/model.yml", "-rw-r--r--"),
        ("/etc/homeostat/environment", "-rw-------"),
        ("/usr/share/doc/homeostat/copyright", "-rw-r--r--"),
        ("/usr/share/doc/homeostat/deploy.md", "-rw-r--r--"),
        ("/usr/share/man/man8/homeostat.8.gz", "-rw-r--r--"),
    ] {
        assert_eq!(contents.get(path).map(|(mode, _)| mode.as_str()), Some(mode), "{path}");
    }
    for (path, (mode, owner)) in contents {
        assert_eq!(owner, "root/root", "{path}");
        assert_ne!(mode.chars().nth(8), Some('w'), "everybody may write {path}");
        assert!(!path.starts_with("/var/lib"), "systemd makes the state directory, not the package: {path}");
    }
}

/// What is unpacked works: the binary runs, and takes the configuration that comes with it.
async fn check_unpacked(root: &Path) {
    let mut version_command = Command::new(root.join("usr/bin/homeostat"));
    assert_eq!(printed(version_command.arg("--version")).trim(), format!("homeostat {}", version()));
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("it is unpacked");
    let (configuration, model) = (read("etc/homeostat/homeostat.yaml"), read("etc/homeostat/model.yml"));
    check_configuration("the package", &configuration, &model, &Environment::new()).await;
    let manual = gunzipped(&root.join("usr/share/man/man8/homeostat.8.gz"));
    assert!(!manual.contains('@'), "something was not filled in:\n{manual}");
    for path in [CONFIGURATION, "/etc/homeostat/model.yml", "/etc/homeostat/environment", DATA] {
        assert!(manual.contains(path), "the manual does not explain {path}");
    }
    let help = printed(command(root, &["--help"]).arg("--help"));
    let (_, commands) = help.split_once("Commands:\n").expect("there are commands");
    let commands: Vec<&str> = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        assert!(manual.contains(&format!(".TP\n.B {command}\n")), "the manual does not name {command}");
    }
}

#[tokio::test]
async fn the_package_is_built_and_holds_what_works() {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let package = build(folder.path());
    check_control(&package);
    let contents = contents(&package);
    check_contents(&contents);
    let unpacked = folder.path().join("unpacked");
    printed(Command::new("dpkg-deb").arg("--raw-extract").arg(&package).arg(&unpacked));
    check_unpacked(&unpacked).await;
    // Everything below /etc is the administrator's.
    let conffiles = fs::read_to_string(unpacked.join("DEBIAN/conffiles")).expect("it has conffiles");
    let settings: Vec<&str> = contents
        .keys()
        .filter(|path| path.starts_with("/etc/") && !path.ends_with('/'))
        .map(String::as_str)
        .collect();
    assert_eq!(conffiles.lines().collect::<Vec<_>>(), settings);
    let sums =
        printed(Command::new("md5sum").args(["--check", "--quiet", "DEBIAN/md5sums"]).current_dir(&unpacked));
    assert_eq!(sums, "");
    for script in ["postinst", "prerm", "postrm"] {
        let mode =
            fs::metadata(unpacked.join("DEBIAN").join(script)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{script}");
    }
}

#[test]
fn a_package_of_nothing_is_refused_with_the_remedy() {
    let mut build = Command::new(root().join("deploy/debian/build"));
    let output = run(build.args(["--binary", "nowhere/homeostat"]));
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("no binary nowhere/homeostat") && said.contains("cargo build --profile dist"),
        "{said}"
    );
}

#[test]
fn what_the_package_configures_is_loopback_only() {
    let configuration = yaml("homeostat.yaml", &read("deploy/debian/homeostat.yaml"));
    let listening = Listening::of(&configuration);
    assert_eq!(listening.endpoints.len(), 3);
    assert!(listening.endpoints.values().all(|endpoint| endpoint.starts_with("127.0.0.1:")));
    // Its variables are only proposed.
    for line in read("deploy/debian/environment").lines() {
        assert!(line.starts_with('#'), "{line}");
    }
}

/// How a script of the package calls the machine's programs.
async fn calls(script: &str, arguments: &[&str], was_enabled: bool) -> String {
    let folder = tempfile::tempdir().expect("there is a temporary directory");
    let log = folder.path().join("calls");
    for program in ["deb-systemd-helper", "deb-systemd-invoke", "systemctl"] {
        let refuses = if was_enabled { "" } else { "case \"$*\" in *was-enabled*) exit 1 ;; esac\n" };
        let text = format!("#!/bin/sh\necho {program} \"$@\" >>{}\n{refuses}", log.display());
        let file = write(folder.path(), program, &text);
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let mut sh = Command::new("sh");
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    sh.arg(root().join("deploy/debian").join(script)).args(arguments).env("PATH", path);
    let mut process = Process::spawn(script, sh);
    let status = process.exit().await;
    assert!(status.success(), "{script} {arguments:?}: {}", process.all_output().await);
    let calls = fs::read_to_string(log).unwrap_or_default();
    // Where systemd does not run, nothing is started or stopped; both are right.
    let of_helper: Vec<&str> = calls.lines().filter(|line| line.starts_with("deb-systemd-helper")).collect();
    of_helper.join("\n")
}

#[tokio::test]
async fn the_scripts_enable_once_and_forget_at_the_purge() {
    assert_eq!(
        calls("postinst", &["configure", ""], true).await,
        "deb-systemd-helper unmask homeostat.service\n\
         deb-systemd-helper --quiet was-enabled homeostat.service\n\
         deb-systemd-helper enable homeostat.service"
    );
    let disabled = calls("postinst", &["configure", "0.0.9"], false).await;
    assert!(disabled.ends_with("deb-systemd-helper update-state homeostat.service"), "{disabled}");
    assert_eq!(calls("prerm", &["remove"], true).await, "");
    assert_eq!(calls("prerm", &["upgrade", "0.0.9"], true).await, "");
    assert_eq!(calls("postrm", &["remove"], true).await, "");
    assert_eq!(
        calls("postrm", &["purge"], true).await,
        "deb-systemd-helper purge homeostat.service\ndeb-systemd-helper unmask homeostat.service"
    );
    assert!(!read("deploy/debian/postrm").contains("rm -"), "the ledger is an audit trail");
}
