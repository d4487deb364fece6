//! Writes files completely or not at all, and overwrites a file only on request.
//!
//! A regular file is replaced at once by a finished temporary file. A device, a FIFO or a socket is
//! not replaced: the bytes are written to it. A symbolic link stays, and its target is written.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The largest number of symbolic links that lead to one file. Linux has the same limit.
const MAX_LINKS: usize = 40;

/// The error of writing a file.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The file exists, and nobody has asked to overwrite it.
    #[error("the file exists: use --force to overwrite it")]
    Exists,
    /// The path is a folder.
    #[error("this is a folder: expected the name of a file")]
    IsFolder,
    /// The folder of the file is missing, or no file can be made in it.
    #[error("cannot make a file in {}: {error}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// The file to which a path leads.
enum Target {
    /// A regular file at this path, with the metadata of the present file if there is one.
    Regular(PathBuf, Option<Metadata>),
    /// A device, a FIFO, or a file that another process has open: it is written where it is.
    Stream,
}

/// Checks that a file can be written: [`write()`] would not refuse it now. Nothing is left behind.
///
/// # Errors
/// [`OutputError`] as for [`write()`].
pub fn check(path: &Path, force: bool) -> Result<(), OutputError> {
    match target(path, force)? {
        Target::Stream => Ok(()),
        Target::Regular(path, old) => temporary(&path, old.as_ref()).map(drop),
    }
}

/// Writes a file. A regular file is written under a temporary name, then moved to `path`. It keeps
/// the mode and the owner of the file that it replaces; a new file has the usual mode (umask).
///
/// # Errors
/// [`OutputError::Exists`] if a regular file exists and `force` is not given, and the error of the
/// system if writing fails. After an error a regular file is as before.
pub fn write(path: &Path, bytes: &[u8], force: bool) -> Result<(), OutputError> {
    write_by(path, force, |out| out.write_all(bytes))
}

/// Writes a file as [`write()`] does. `put` writes the bytes, which need not be in memory all at once.
///
/// # Errors
/// [`OutputError`] as for [`write()`], and the error of `put`.
pub fn write_by(
    path: &Path,
    force: bool,
    put: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), OutputError> {
    let buffered = |file: &mut File| {
        let mut out = BufWriter::with_capacity(1 << 16, file);
        put(&mut out)?;
        out.flush()
    };
    let (path, old) = match target(path, force)? {
        Target::Stream => {
            // What a shell appends to (`-o /proc/self/fd/1 >> log`) is not overwritten.
            let mut stream = OpenOptions::new().append(true).open(path)?;
            return Ok(buffered(&mut stream)?);
        }
        Target::Regular(path, old) => (path, old),
    };
    let mut file = temporary(&path, old.as_ref())?;
    // The methods of the temporary file would show its name in errors.
    buffered(file.as_file_mut())?;
    if force {
        file.persist(&path).map_err(|e| e.error)?;
    } else {
        file.persist_noclobber(&path).map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => OutputError::Exists,
            _ => OutputError::Write(e.error),
        })?;
    }
    Ok(())
}

/// Follows the symbolic links at `path` to the file that is to be written.
fn target(path: &Path, force: bool) -> Result<Target, OutputError> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Target::Regular(path, None));
            }
            Err(error) => return Err(error.into()),
        };
        if found.is_dir() {
            return Err(OutputError::IsFolder);
        }
        if found.is_file() {
            return if force {
                Ok(Target::Regular(path, Some(found)))
            } else {
                Err(OutputError::Exists)
            };
        }
        if !found.is_symlink() {
            return Ok(Target::Stream);
        }
        let folder = folder(&path);
        // A link in /proc/PID/fd is an open file, whose name may be gone.
        if fs::canonicalize(folder).is_ok_and(|folder| folder.starts_with("/proc")) {
            return match fs::metadata(&path)?.is_dir() {
                true => Err(OutputError::IsFolder),
                false => Ok(Target::Stream),
            };
        }
        path = folder.join(fs::read_link(&path)?);
    }
    let error = fs::metadata(&path).err();
    Err(error.unwrap_or_else(|| io::Error::other("too many symbolic links")).into())
}

/// Returns the folder of a file.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the temporary file that is to become the file at `path`, in the same folder. It has the
/// mode and, if the system allows it, the owner of the present file.
fn temporary(path: &Path, old: Option<&Metadata>) -> Result<tempfile::NamedTempFile, OutputError> {
    let folder = folder(path);
    // `make_in` is given the code that makes the file, so errors do not show the temporary name.
    let made = tempfile::Builder::new()
        .prefix(".vmadiff-")
        .make_in(folder, |path| OpenOptions::new().write(true).create_new(true).open(path));
    let made = match made {
        Ok(made) => made,
        Err(error) => return Err(OutputError::Folder { folder: folder.to_owned(), error }),
    };
    if let Some(old) = old {
        keep(made.as_file(), old)?;
    }
    Ok(made)
}

/// Gives a file the owner and the mode of the file that it replaces.
fn keep(file: &File, old: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
        let new = file.metadata()?;
        let other = (new.uid(), new.gid()) != (old.uid(), old.gid());
        // Only root can give a file away. A file that gets a new owner loses set-user-ID.
        let given = !other || fchown(file, Some(old.uid()), Some(old.gid())).is_ok();
        let bits = if given { 0o7777 } else { 0o777 };
        file.set_permissions(Permissions::from_mode(old.permissions().mode() & bits))
    }
    #[cfg(not(unix))]
    {
        let (_, _): (&File, &Metadata) = (file, old);
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::Command;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a file").permissions().mode() & 0o7777
    }

    #[test]
    fn a_regular_file_is_replaced_on_request_and_keeps_its_mode() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        write(&file, b"one", false).expect("a new file");
        let usual = folder.path().join("usual");
        File::create(&usual).expect("a file");
        assert_eq!(mode(&file), mode(&usual), "a new file has the usual mode");
        fs::set_permissions(&file, Permissions::from_mode(0o4751)).expect("a mode");
        assert!(matches!(write(&file, b"two", false), Err(OutputError::Exists)));
        assert!(matches!(check(&file, false), Err(OutputError::Exists)));
        assert_eq!(fs::read(&file).expect("a file"), b"one");
        check(&file, true).expect("it can be overwritten");
        write(&file, b"two", true).expect("overwritten");
        assert_eq!((fs::read(&file).expect("a file"), mode(&file)), (b"two".to_vec(), 0o4751));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2, "nothing is left");
    }

    #[test]
    fn a_link_stays_and_its_target_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("below")).expect("a folder");
        symlink("below/file", at("link")).expect("a link");
        symlink("link", at("second")).expect("a link");
        write(&at("second"), b"one", false).expect("the target is new");
        assert!(matches!(write(&at("link"), b"two", false), Err(OutputError::Exists)));
        write(&at("second"), b"two", true).expect("overwritten");
        assert_eq!(fs::read(at("below/file")).expect("a file"), b"two");
        assert!(at("second").is_symlink() && at("link").is_symlink());
        symlink("loop", at("loop")).expect("a link");
        assert!(matches!(write(&at("loop"), b"", true), Err(OutputError::Write(_))));
        symlink("below", at("folder")).expect("a link");
        for force in [false, true] {
            assert!(matches!(check(&at("folder"), force), Err(OutputError::IsFolder)));
        }
    }

    #[test]
    fn a_device_and_a_fifo_are_written_to() {
        let folder = tempfile::tempdir().expect("a folder");
        for force in [false, true] {
            write(Path::new("/dev/null"), b"gone", force).expect("written");
            assert!(!fs::metadata("/dev/null").expect("a device").is_file());
            let error = write(Path::new("/dev/full"), b"lost", force).expect_err("a full device");
            assert!(error.to_string().contains("No space left"), "{error}");
        }
        let fifo = folder.path().join("fifo");
        let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo");
        assert!(made.success());
        let reader = {
            let fifo = fifo.clone();
            std::thread::spawn(move || fs::read(fifo))
        };
        write(&fifo, b"through", true).expect("written");
        assert_eq!(reader.join().expect("it ends").expect("read"), b"through");
        assert!(!fs::metadata(&fifo).expect("a FIFO").is_file());
    }

    #[test]
    fn an_error_names_the_folder_and_no_temporary_file() {
        let folder = tempfile::tempdir().expect("a folder");
        for force in [false, true] {
            let error = write(&folder.path().join("none/file"), b"", force).expect_err("no folder");
            let text = error.to_string();
            let expected =
                format!("cannot make a file in {}/none: No such file", folder.path().display());
            assert!(text.starts_with(&expected) && !text.contains(".vmadiff-"), "{text}");
            assert!(!text.contains("--force"), "{text}");
        }
    }
}
