//! Passwords as `htpasswd` writes them: bcrypt, Apache's MD5 (`$apr1$`) and crypt's (`$1$`), SHA-1 with and without a salt, and
//! plain text.
//!
//! bcrypt is the only one of the hashes that is worth having; the others are here because files of the Collector have them.
//! Deliberately absent: SHA-crypt (`$5$`, `$6$`), which is refused by name, and DES (13 letters), which cannot be told from plain text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use homeostat_pipeline::extension::is_same;
use md5::Md5;
use sha1::{Digest, Sha1};

/// One step more takes twice the time; this one takes some four seconds.
const BCRYPT_COST_MAX: u32 = 16;
/// Of MD5-crypt, fixed since 1994.
const MD5_ROUNDS: usize = 1000;
const SHA1_BYTES: usize = 20;

/// What a line says behind the colon.
#[derive(Debug)]
pub enum Password {
    /// It is the password.
    Plain,
    /// It is a hash of the password.
    Hashed(Hashed),
}

/// A hash, to be checked against.
#[derive(Clone)]
pub enum Hashed {
    /// `$2y$10$…`, and `$2a$`, `$2b$`.
    Bcrypt(String),
    /// `$apr1$salt$…`, `$1$salt$…`.
    Md5 {
        /// `$apr1$` or `$1$`.
        magic: &'static str,
        /// Up to eight letters.
        salt: String,
        /// 22 letters.
        hash: String,
    },
    /// `{SHA}…`, and `{SSHA}…` with a salt.
    Sha1 {
        /// 20 bytes.
        hash: Vec<u8>,
        /// Empty for `{SHA}`.
        salt: Vec<u8>,
    },
}

impl std::fmt::Debug for Hashed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[REDACTED]")
    }
}

impl Password {
    /// Reads it.
    ///
    /// # Errors
    /// It begins as a hash and is none that can be checked. Never quotes it.
    pub fn read(text: &str) -> anyhow::Result<Password> {
        let hashed = if ["$2a$", "$2b$", "$2y$"].iter().any(|mark| text.starts_with(mark)) {
            bcrypt(text)?
        } else if let Some(rest) = text.strip_prefix("$apr1$") {
            md5("$apr1$", rest)?
        } else if let Some(rest) = text.strip_prefix("$1$") {
            md5("$1$", rest)?
        } else if let Some(rest) = text.strip_prefix("{SHA}") {
            sha1(rest, 0..=0)?
        } else if let Some(rest) = text.strip_prefix("{SSHA}") {
            sha1(rest, 1..=64)?
        } else {
            let is_foreign = ["$2", "$5$", "$6$", "$y$", "$argon2"].iter().any(|mark| text.starts_with(mark));
            anyhow::ensure!(
                !is_foreign,
                "is hashed in a way that is not known here: make it with `htpasswd -B`"
            );
            return Ok(Password::Plain);
        };
        Ok(Password::Hashed(hashed))
    }
}

fn bcrypt(text: &str) -> anyhow::Result<Hashed> {
    let parts: bcrypt::HashParts = text
        .parse()
        .map_err(|_| anyhow::anyhow!("begins as bcrypt's and is no hash of it: copy the whole line"))?;
    let cost = parts.get_cost();
    anyhow::ensure!(
        cost <= BCRYPT_COST_MAX,
        "has bcrypt's cost {cost}, which takes longer than a sender waits: make it with `htpasswd -B -C 10`, at most {BCRYPT_COST_MAX}"
    );
    Ok(Hashed::Bcrypt(text.to_owned()))
}

fn md5(magic: &'static str, rest: &str) -> anyhow::Result<Hashed> {
    let (salt, hash) = rest
        .split_once('$')
        .filter(|(salt, hash)| salt.len() <= 8 && hash.len() == 22)
        .ok_or_else(|| anyhow::anyhow!("begins as `{magic}` and is no hash of it: copy the whole line"))?;
    Ok(Hashed::Md5 { magic, salt: salt.to_owned(), hash: hash.to_owned() })
}

fn sha1(rest: &str, salt_bytes: std::ops::RangeInclusive<usize>) -> anyhow::Result<Hashed> {
    let mut hash = STANDARD.decode(rest).unwrap_or_default();
    let is_whole = hash.len().checked_sub(SHA1_BYTES).is_some_and(|salt| salt_bytes.contains(&salt));
    anyhow::ensure!(is_whole, "begins as SHA-1's and is no hash of it: copy the whole line");
    let salt = hash.split_off(SHA1_BYTES);
    Ok(Hashed::Sha1 { hash, salt })
}

impl Hashed {
    /// Whether it is the hash of `password`. Takes from a microsecond to seconds, and never yields.
    pub fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Hashed::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Hashed::Md5 { magic, salt, hash } => {
                is_same(md5_crypt(password, magic, salt.as_bytes()).as_bytes(), hash.as_bytes())
            }
            Hashed::Sha1 { hash, salt } => {
                is_same(&Sha1::new().chain_update(password).chain_update(salt).finalize(), hash)
            }
        }
    }
}

/// MD5-crypt of Poul-Henning Kamp (FreeBSD's `crypt-md5.c`); Apache's differs in `magic` only.
fn md5_crypt(password: &[u8], magic: &str, salt: &[u8]) -> String {
    let other = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut first = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    for piece in password.chunks(other.len()) {
        first.update(&other[..piece.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        // As the original does it, by mistake and for ever: a zero byte, or the password's first.
        first.update(if bits & 1 == 1 { &[0][..] } else { &password[..1] });
        bits >>= 1;
    }
    let mut hash = first.finalize();
    for round in 0..MD5_ROUNDS {
        let is_odd = round % 2 == 1;
        let mut next = Md5::new();
        next.update(if is_odd { password } else { &hash });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if is_odd { &hash[..] } else { password });
        hash = next.finalize();
    }
    let triple = |[high, middle, low]: [usize; 3]| {
        letters(u32::from_be_bytes([0, hash[high], hash[middle], hash[low]]), 4)
    };
    let triples = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    triples.into_iter().flat_map(triple).chain(letters(u32::from(hash[11]), 2)).collect()
}

/// crypt's own base64: the lowest six bits first.
fn letters(bits: u32, count: u32) -> impl Iterator<Item = char> {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..count).map(move |at| char::from(ALPHABET[(bits >> (6 * at)) as usize & 63]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `line` is what `htpasswd`, `openssl passwd` or crypt(3) of libxcrypt made of `password`.
    fn check(line: &str, password: &str) {
        let Password::Hashed(hashed) = Password::read(line).unwrap() else { panic!("{line} is a hash") };
        assert!(hashed.is_of(password.as_bytes()), "{line}");
        for wrong in [format!("{password}x"), password.to_uppercase() + "-", "\0".to_owned()] {
            assert!(!hashed.is_of(wrong.as_bytes()), "{line} is not of {wrong}");
        }
        assert!(!format!("{hashed:?}").contains(line));
    }

    #[test]
    fn hashes_are_of_their_passwords_and_of_no_other() {
        check("$2y$05$nC6nErr9XZJuMJ57WyCob.EuZEjylDt2KaHfbfOtyb.EgL1I2jCVa", "password");
        check("$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.", "hunter2");
        check("$2b$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm", "hunter2");
        check("$apr1$lZL6Vci0$Idx0zekuXAbMeZL1IsxfP0", "password");
        check("$apr1$ab$c4MVlg9js8mZZcx0Z6Q8u1", "a longer password than sixteen bytes: ü");
        check("$apr1$ab$S8K6Sgp3W8c9Jb6LxgywZ.", "");
        check("$1$lZL6Vci0$o3.VKoZ.ldIE1qR7Dzife1", "password");
        check("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "password");
        check("{SSHA}yI6cZwQadOA1e+/f+T+H3eCQQhRzYWx0", "password");
    }

    #[test]
    fn what_begins_as_a_hash_and_is_none_is_refused_without_being_quoted() {
        for bad in [
            "$2y$10$hunter2",
            "$2y$17$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.",
            "$2x$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.",
            "$apr1$hunter2",
            "$apr1$saltsaltsalt$Idx0zekuXAbMeZL1IsxfP0",
            "$1$hunter2$",
            "{SHA}hunter2",
            "{SHA}yI6cZwQadOA1e+/f+T+H3eCQQhRzYWx0",
            "{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
            "$5$salt$hunter2",
            "$6$salt$hunter2",
        ] {
            let error = Password::read(bad).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && !error.contains("abcdef"), "{bad}: {error}");
        }
        for plain in ["hunter2", "$", "$x$1", "{sha}", "bGVh02xkuGli2"] {
            assert!(matches!(Password::read(plain), Ok(Password::Plain)), "{plain}");
        }
    }
}
