//! Free space of a file system.

use std::io;
use std::path::Path;

/// Bytes that this process may still write to the file system that holds `path`.
///
/// # Errors
/// The path is not there.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path).map_err(io::Error::from)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
