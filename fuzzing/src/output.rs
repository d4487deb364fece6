//! Writes files completely or not at all, and overwrites a file only on request.

use std::io::{Error, ErrorKind, Write as _};
use std::path::Path;

/// Writes a file: first under a temporary name, then moved to `path`.
///
/// # Errors
/// `AlreadyExists` if the file exists and `force` is not given; the error of the system if writing
/// fails. After an error the folder is as before.
pub fn write(path: &Path, bytes: &[u8], force: bool) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(Error::new(
            ErrorKind::IsADirectory,
            "it is a folder: expected the name of a file",
        ));
    }
    let exists = || Error::new(ErrorKind::AlreadyExists, "it exists: --force overwrites it");
    if !force && path.exists() {
        return Err(exists());
    }
    let mut file = tempfile::Builder::new().prefix(".vmadiff-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    #[cfg(unix)]
    {
        // A temporary file can be read by its owner only. The finished file has the usual mode.
        use std::os::unix::fs::PermissionsExt as _;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    let moved = if force { file.persist(path) } else { file.persist_noclobber(path) };
    moved.map(drop).map_err(|e| match e.error.kind() {
        ErrorKind::AlreadyExists => exists(),
        _ => e.error,
    })
}
