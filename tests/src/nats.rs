//! A real nats-server with JetStream, on a port and in a folder of its own.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use crate::process::{Process, find_program, free_port, pause};

/// A running nats-server; it ends and its files go when this is dropped.
pub struct Nats {
    directory: TempDir,
    port: u16,
    configuration: String,
    process: Mutex<Option<Process>>,
}

impl Nats {
    /// Starts one that asks nobody who they are.
    pub async fn start() -> Nats {
        Nats::start_with("").await
    }

    /// Starts one with more lines in its configuration, such as `authorization { … }` or `max_payload: 4096`.
    pub async fn start_with(configuration: &str) -> Nats {
        let directory = TempDir::new().expect("a temporary folder can be made");
        let mut nats = Nats {
            directory,
            port: free_port(),
            configuration: configuration.to_owned(),
            process: Mutex::default(),
        };
        for _ in 0..20 {
            match nats.try_start().await {
                Ok(()) => return nats,
                Err(output) if output.contains("address already in use") => nats.port = free_port(),
                Err(output) => panic!("{output}"),
            }
        }
        panic!("nats-server found no free port in twenty tries")
    }

    /// A configuration for a port on which nothing listens yet; [`Nats::restart`] starts it.
    pub fn stopped() -> Nats {
        let directory = TempDir::new().expect("a temporary folder can be made");
        Nats { directory, port: free_port(), configuration: String::new(), process: Mutex::default() }
    }

    async fn try_start(&self) -> Result<(), String> {
        let program = find_program("nats-server")
            .expect("nats-server is installed (Debian: apt-get install nats-server)");
        let folder = self.directory.path();
        let file = folder.join("nats.conf");
        let text = format!(
            "listen: 127.0.0.1:{}\njetstream {{ store_dir: \"{}\", max_mem: 64MB, max_file: 512MB }}\n{}\n",
            self.port,
            folder.join("store").display(),
            self.configuration
        );
        std::fs::write(&file, text).expect("the temporary folder can be written");
        let mut command = Command::new(program);
        command.arg("-c").arg(file);
        let mut process = Process::spawn("nats-server", command);
        process.line("Server is ready").await?;
        *self.process() = Some(process);
        Ok(())
    }

    /// `nats://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// `127.0.0.1:…`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A connection to it.
    pub async fn client(&self) -> async_nats::Client {
        async_nats::ConnectOptions::new()
            .connection_timeout(crate::process::DEADLINE)
            .connect(self.url())
            .await
            .expect("nats-server takes connections")
    }

    /// `kill -9`.
    pub fn kill(&self) {
        let process = self.process().take();
        drop(process);
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
                Err(output) if output.contains("address already in use") => {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                Err(output) => panic!("{output}"),
            }
        }
        panic!("port {} never became free again", self.port)
    }

    /// It still holds its connections, and does nothing.
    pub fn pause(&self) {
        if let Some(process) = &*self.process() {
            pause(&[process.id()]);
        }
    }

    /// It goes on.
    pub fn resume(&self) {
        if let Some(process) = &*self.process() {
            process.signal("CONT");
        }
    }
}
