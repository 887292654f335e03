//! What is logged while a test runs: all of it, down to the finest level, of homeostat and of its libraries.

use std::cell::RefCell;
use std::io;
use std::sync::Once;

use tracing::Level;

thread_local! {
    /// None until the thread listens, so that other tests cost nothing.
    static HEARD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

static GLOBAL: Once = Once::new();

/// All that is logged by the current thread, on which the whole runtime of a `#[tokio::test]` runs.
pub struct Log(());

/// Where the one subscriber of the process writes: to the thread that speaks.
struct Here;

impl io::Write for Here {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        HEARD.with_borrow_mut(|heard| heard.as_mut().map(|heard| heard.extend_from_slice(bytes)));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Begins to listen on this thread. One subscriber serves the whole process: those of single threads confuse each other's
    /// idea of what is of interest.
    pub fn begin() -> Log {
        GLOBAL.call_once(|| {
            let subscriber =
                tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false).with_writer(|| Here);
            tracing::subscriber::set_global_default(subscriber.finish())
                .expect("nobody else sets one in a test");
        });
        HEARD.set(Some(Vec::new()));
        Log(())
    }

    /// What was said so far.
    pub fn text(&self) -> String {
        HEARD.with_borrow(|heard| String::from_utf8_lossy(heard.as_deref().unwrap_or_default()).into_owned())
    }

    /// The lines that hold `needle`.
    pub fn lines_with(&self, needle: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(needle)).map(ToOwned::to_owned).collect()
    }
}
