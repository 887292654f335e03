//! Who may send: the lines of an `htpasswd`, and what of them is known to be right.
//!
//! A hash that is slow enough to be worth having costs more than all that homeostat does with a request. So what was right once is
//! remembered for as long as its line stands, one credential a line, by a keyed hash and never as it was sent; what was wrong is
//! never remembered, and is checked again each time. Checks run beside the runtime's workers, few at once, and few more may wait:
//! beyond them a sender is told to come back, while those that are known get through as ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use blake3::Hash;
use futures::FutureExt;
use homeostat_pipeline::extension::{Verdict, basic};
use homeostat_pipeline::refusal::Refusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::password::{Hashed, Password};

/// Each keeps a core busy.
const CHECKS_MAX: usize = 2;
/// Those that run and those that wait.
const PLACES_MAX: usize = 64;

/// Everybody of one version of the lines.
pub struct Users {
    /// Differs in each process and version, so that what is remembered says nothing elsewhere.
    key: [u8; 32],
    /// User name → their lines; a password is rotated by writing a second one.
    lines: BTreeMap<String, Vec<Arc<Line>>>,
    /// Checked in place of a user that is not there, so that the time does not tell who is.
    decoy: Option<Hashed>,
}

/// One `user:password`.
struct Line {
    /// None in plain text, for then the right credential is known from the start.
    hashed: Option<Hashed>,
    /// The credential that was found right last.
    right: Mutex<Option<Hash>>,
}

impl Line {
    fn is_known(&self, credential: &Hash) -> bool {
        // Hashes are compared in constant time.
        self.right.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(credential)
    }
}

/// How many checks may run, and how many senders may wait for one.
#[derive(Clone)]
pub struct Checks {
    running: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl Default for Checks {
    fn default() -> Checks {
        Checks::new(CHECKS_MAX, PLACES_MAX)
    }
}

impl Checks {
    fn new(running: usize, places: usize) -> Checks {
        Checks { running: Arc::new(Semaphore::new(running)), places: Arc::new(Semaphore::new(places)) }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| busy("too many are being checked"))
    }
}

fn busy(why: &str) -> Refusal {
    Refusal::busy(format!("credentials cannot be checked now: {why}"))
}

impl Users {
    /// Reads texts of `user:password` lines and `#` comments.
    ///
    /// # Errors
    /// Names the line, and never quotes what is secret of it. There is nobody.
    pub fn read(texts: &[&str]) -> anyhow::Result<Users> {
        let mut users = Users { key: rand::random(), lines: BTreeMap::new(), decoy: None };
        let numbered = texts.iter().flat_map(|text| text.lines().map(str::trim).zip(1..));
        for (line, number) in numbered.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
            users.add(line, number)?;
        }
        anyhow::ensure!(!users.lines.is_empty(), "there is no `user:password` in it");
        Ok(users)
    }

    fn add(&mut self, text: &str, number: usize) -> anyhow::Result<()> {
        let pair = text.split_once(':').filter(|(user, password)| !user.is_empty() && !password.is_empty());
        let Some((user, password)) = pair else { anyhow::bail!("line {number} is not `user:password`") };
        let line = match Password::read(password) {
            Ok(Password::Plain) => {
                let right = blake3::keyed_hash(&self.key, text.as_bytes());
                Line { hashed: None, right: Mutex::new(Some(right)) }
            }
            Ok(Password::Hashed(hashed)) => Line { hashed: Some(hashed), right: Mutex::default() },
            Err(error) => anyhow::bail!("the password of `{user}` in line {number} {error}"),
        };
        self.decoy = self.decoy.take().or(line.hashed.clone());
        self.lines.entry(user.to_owned()).or_default().push(Arc::new(line));
        Ok(())
    }

    /// What is to be said to `authorization`.
    pub fn judge(&self, authorization: Option<&[u8]>, checks: &Checks) -> Verdict {
        let Some(pair) = authorization.and_then(basic) else { return Verdict::Refused };
        let at = pair.iter().position(|byte| *byte == b':').unwrap_or(pair.len());
        let credential = blake3::keyed_hash(&self.key, &pair);
        let user = std::str::from_utf8(&pair[..at]).unwrap_or_default();
        let lines = self.lines.get(user).map(Vec::as_slice).unwrap_or_default();
        if lines.iter().fold(false, |is_known, line| line.is_known(&credential) | is_known) {
            return Verdict::Admitted;
        }
        let hashed: Vec<_> = lines.iter().filter(|line| line.hashed.is_some()).cloned().collect();
        let decoy = self.decoy.clone().filter(|_| lines.is_empty());
        if hashed.is_empty() && decoy.is_none() {
            return Verdict::Refused;
        }
        let password = pair.get(at + 1..).unwrap_or_default().to_vec();
        let checks = checks.clone();
        let check = async move {
            // Both are held until the check is over, even when its sender has gone by then.
            let place = checks.place()?;
            let running = Arc::clone(&checks.running).acquire_owned().await;
            let running = running.map_err(|_| busy("homeostat is stopping"))?;
            let check = move || {
                let _held = (place, running);
                let is_right = find(&hashed, &password, &credential);
                std::hint::black_box(decoy.is_some_and(|decoy| decoy.is_of(&password)));
                is_right
            };
            tokio::task::spawn_blocking(check).await.map_err(|_| busy("homeostat is stopping"))
        };
        Verdict::Pending(check.boxed())
    }
}

/// Whether one of `lines` is of `password`; remembers the credential there.
fn find(lines: &[Arc<Line>], password: &[u8], credential: &Hash) -> bool {
    lines.iter().any(|line| {
        // Senders that came together wait for one check, not for one each.
        let is_right =
            line.is_known(credential) || line.hashed.as_ref().is_some_and(|hashed| hashed.is_of(password));
        if is_right {
            *line.right.lock().unwrap_or_else(PoisonError::into_inner) = Some(*credential);
        }
        is_right
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// bcrypt's of `hunter2`, by crypt(3), and of `password`, by htpasswd.
    const LINES: &str = "# us\nplain:a:b\n\nme:$2b$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm\n\
                         me:$2y$05$nC6nErr9XZJuMJ57WyCob.EuZEjylDt2KaHfbfOtyb.EgL1I2jCVa\n";

    fn header(pair: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(pair)).into_bytes()
    }

    fn is_known(users: &Users, pair: &str) -> bool {
        matches!(users.judge(Some(&header(pair)), &Checks::default()), Verdict::Admitted)
    }

    async fn admits(users: &Users, pair: &str) -> bool {
        users.judge(Some(&header(pair)), &Checks::default()).known().await.is_ok()
    }

    #[tokio::test]
    async fn a_right_password_is_checked_once_and_a_wrong_one_each_time() {
        let users = Users::read(&[LINES]).unwrap();
        assert!(is_known(&users, "plain:a:b"));
        for (pair, is_right) in [
            ("me:hunter2", true),
            ("me:password", true),
            ("me:hunter3", false),
            ("me:", false),
            ("me", false),
            ("you:hunter2", false),
            ("plain:hunter2", false),
            ("plain:a", false),
        ] {
            assert!(!is_known(&users, pair), "{pair}");
            assert_eq!(admits(&users, pair).await, is_right, "{pair}");
            assert_eq!(is_known(&users, pair), is_right, "{pair}");
        }
        // The two lines remember one each.
        assert!(is_known(&users, "me:hunter2") && is_known(&users, "me:password"));
        assert!(!is_known(&Users::read(&[LINES]).unwrap(), "me:hunter2"), "new lines know nobody");
    }

    #[tokio::test]
    async fn beyond_the_bound_nobody_is_checked_and_those_who_are_known_get_through() {
        let users = Users::read(&[LINES]).unwrap();
        let checks = Checks::new(1, 1);
        assert!(admits(&users, "me:hunter2").await);
        let held = checks.place().unwrap();
        let outcome = users.judge(Some(&header("me:password")), &checks).known().await;
        assert!(outcome.is_err_and(|refusal| refusal.is_retryable()));
        assert!(users.judge(Some(&header("me:hunter2")), &checks).known().await.is_ok());
        drop(held);
        assert!(users.judge(Some(&header("me:password")), &checks).known().await.is_ok());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_check_that_nobody_waits_for_keeps_its_place_until_it_is_over() {
        let users = Users::read(&[LINES]).unwrap();
        let checks = Checks::new(1, 1);
        let Verdict::Pending(mut check) = users.judge(Some(&header("me:wrong")), &checks) else {
            panic!("it has to be checked")
        };
        assert!(futures::poll!(&mut check).is_pending());
        drop(check);
        // Its permits are in the closure that runs beside the runtime.
        let place = async {
            while checks.place().is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), place).await.expect("the check ends");
    }

    #[test]
    fn lines_are_named_when_they_are_wrong_and_never_quoted() {
        for bad in ["hunter2", ":hunter2", "me:", "me:$2y$10$hunter2", "me:{SHA}hunter2", "me:$6$a$hunter2"] {
            let Err(error) = Users::read(&["", bad]) else { panic!("{bad} is no line") };
            let error = error.to_string();
            assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
        }
        assert!(Users::read(&["#\n", ""]).is_err());
    }
}
