//! A real Postgres, on a port and in a folder of its own.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError, Weak};

use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};

use crate::process::{Process, children, find_program, free_port, is_root, pause, signal};

/// The superuser, and the owner of every database.
pub const USER: &str = "homeostat";
/// Its password, which the server asks for; tests look for it in what is said.
pub const PASSWORD: &str = "correct-horse-battery";
/// The oldest version that homeostat is tried with.
const VERSION_MIN: u32 = 14;

static SHARED: Mutex<Weak<Postgres>> = Mutex::const_new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A running Postgres; it ends and its files go when this is dropped.
pub struct Postgres {
    directory: TempDir,
    programs: PathBuf,
    port: u16,
    process: StdMutex<Option<Process>>,
}

impl Postgres {
    /// Starts one of its own, for tests that stop, pause or restart it.
    pub async fn start() -> Postgres {
        let directory = TempDir::new().expect("a temporary folder can be made");
        let mut postgres =
            Postgres { directory, programs: programs(), port: free_port(), process: StdMutex::default() };
        postgres.initialise().await;
        for _ in 0..20 {
            match postgres.try_start().await {
                Ok(()) => return postgres,
                Err(output) if output.contains("Address already in use") => postgres.port = free_port(),
                Err(output) => panic!("{output}"),
            }
        }
        panic!("postgres found no free port in twenty tries")
    }

    /// The one that all tests of this process use at the same time, each with its own [`Postgres::database`].
    pub async fn shared() -> Arc<Postgres> {
        let mut shared = SHARED.lock().await;
        if let Some(postgres) = shared.upgrade() {
            return postgres;
        }
        let postgres = Arc::new(Postgres::start().await);
        *shared = Arc::downgrade(&postgres);
        postgres
    }

    async fn initialise(&self) {
        let folder = self.directory.path();
        let password = folder.join("password");
        std::fs::write(&password, PASSWORD).expect("the temporary folder can be written");
        let mut command = self.command("initdb");
        command
            .arg("--pgdata")
            .arg(folder.join("data"))
            .arg("--pwfile")
            .arg(&password)
            .args(["--username", USER, "--auth-local", "trust", "--auth-host", "scram-sha-256"])
            .args(["--no-locale", "--encoding", "UTF8", "--no-sync", "--wal-segsize", "1"]);
        if let Some((user, group)) = server_user() {
            for path in [folder, &password] {
                std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root may give files away");
            }
        }
        let mut process = Process::spawn("initdb", command);
        let status = process.exit().await;
        assert!(status.success(), "initdb failed:\n{}", process.output());
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env("LC_ALL", "C").env("TZ", "UTC").current_dir(self.directory.path());
        if let Some((user, group)) = server_user() {
            command.uid(user).gid(group);
        }
        command
    }

    async fn try_start(&self) -> Result<(), String> {
        let folder = self.directory.path();
        let mut command = self.command("postgres");
        command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder);
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            "shared_buffers=16MB".to_owned(),
            "max_connections=100".to_owned(),
            "max_wal_size=64MB".to_owned(),
            "min_wal_size=4MB".to_owned(),
            "max_parallel_workers_per_gather=0".to_owned(),
            "dynamic_shared_memory_type=mmap".to_owned(),
            "timezone=UTC".to_owned(),
        ];
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        let mut process = Process::spawn("postgres", command);
        process.line("database system is ready to accept connections").await?;
        *self.process() = Some(process);
        Ok(())
    }

    /// A fresh, empty database, in which the schema `homeostat` needs no name.
    pub async fn database(&self) -> Database {
        let name = format!("test_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        let client = self.client("postgres").await;
        for step in [
            format!("CREATE DATABASE {name}"),
            format!("ALTER DATABASE {name} SET search_path TO homeostat, public"),
        ] {
            client.batch_execute(&step).await.expect("a superuser makes databases");
        }
        Database { name, port: self.port }
    }

    /// A connection to the database of that name.
    pub async fn client(&self, database: &str) -> Client {
        connect(&url(USER, PASSWORD, self.port, database)).await
    }

    /// Ends it as a crash would: every connection is cut, and the next start recovers.
    pub fn kill(&self) {
        self.end("QUIT");
    }

    /// Ends it in order: every connection is ended.
    pub fn stop(&self) {
        self.end("INT");
    }

    fn end(&self, name: &str) {
        self.resume();
        let process = self.process().take();
        if let Some(mut process) = process {
            process.end_by(name);
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it again, on the same port and with the same files.
    pub async fn restart(&self) {
        self.kill();
        for _ in 0..100 {
            match self.try_start().await {
                Ok(()) => return,
                Err(output)
                    if output.contains("Address already in use") || output.contains("still in use") =>
                {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                Err(output) => panic!("{output}"),
            }
        }
        panic!("port {} never became free again", self.port)
    }

    /// It and all its backends hold their connections, and do nothing.
    pub fn pause(&self) {
        if let Some(process) = &*self.process() {
            pause(&[process.id()]);
            pause(&children(process.id()));
        }
    }

    /// They go on.
    pub fn resume(&self) {
        if let Some(process) = &*self.process() {
            signal(&children(process.id()), "CONT");
            process.signal("CONT");
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A database of its own.
pub struct Database {
    name: String,
    port: u16,
}

impl Database {
    /// For the superuser.
    pub fn url(&self) -> String {
        self.url_as(USER, PASSWORD)
    }

    /// For another role.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        url(user, password, self.port, &self.name)
    }

    /// A connection of the superuser.
    pub async fn client(&self) -> Client {
        connect(&self.url()).await
    }

    /// Its name, unique in this run.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn url(user: &str, password: &str, port: u16, database: &str) -> String {
    format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
}

/// A connection to `url`, driven in the background.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("postgres takes connections");
    tokio::spawn(connection);
    client
}

/// The folder of the newest Postgres that is installed and new enough.
fn programs() -> PathBuf {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    folders.extend(find_program("postgres").and_then(|file| Some(file.parent()?.to_owned())));
    let version_of = |folder: &Path| {
        let said = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
        let text = String::from_utf8(said.stdout).ok()?;
        let number = text.split(' ').find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        number.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok()
    };
    let is_whole = |folder: &Path| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    folders
        .into_iter()
        .filter(|folder| is_whole(folder))
        .filter_map(|folder| Some((version_of(&folder)?, folder)))
        .filter(|(version, _)| *version >= VERSION_MIN)
        .max_by_key(|(version, _)| *version)
        .map(|(_, folder)| folder)
        .expect("Postgres 14 or newer is installed (Debian: apt-get install postgresql)")
}

/// Postgres refuses to run as root: then it runs as `postgres`, else as `nobody`.
fn server_user() -> Option<(u32, u32)> {
    if !is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("there is a user `postgres` or `nobody`"))
}
