//! Temporary folders and process groups. They go when the run ends, also if a signal ends it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use duct::cmd;
use rustix::process::{Pid, Signal, kill_process_group};

/// The scratch folders of this process, the file systems mounted in them, and the process groups
/// that it started.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static MOUNTS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A folder that is deleted when it is dropped, or when a signal ends the process.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes a folder in the system's folder for temporary files.
    pub(crate) fn new() -> Result<Scratch> {
        Scratch::within(&std::env::temp_dir())
    }

    /// Makes a folder in memory if the system has a place for that. A run of libFuzzer that begins without a
    /// corpus spends much of its time on making files.
    pub(crate) fn in_memory() -> Result<Scratch> {
        Scratch::within(Path::new("/dev/shm")).or_else(|_| Scratch::new())
    }

    /// Makes a folder inside another folder.
    pub(crate) fn within(folder: &Path) -> Result<Scratch> {
        let scratch = tempfile::Builder::new()
            .prefix("vmadiff.")
            .tempdir_in(folder)
            .with_context(|| format!("{}: expected to make a folder there", folder.display()))?;
        let path = scratch.keep();
        add(&FOLDERS, &path);
        Ok(Scratch(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&FOLDERS, &self.0);
        // The error cannot be reported here. The system deletes its temporary files sooner or
        // later.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file system in memory that is unmounted when it is dropped, or when a signal ends the process.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts a file system of `size` (in the form of `mount -o size=`) on a folder; `None` without
    /// the permission to mount.
    pub(crate) fn memory(folder: &Path, size: &str) -> Option<Mount> {
        let options = format!("size={size}");
        cmd!("mount", "-t", "tmpfs", "-o", options, "none", folder).stderr_null().run().ok()?;
        add(&MOUNTS, folder);
        Some(Mount(folder.to_owned()))
    }

    /// Makes the file system read-only.
    pub(crate) fn make_read_only(&self) -> Result<()> {
        cmd!("mount", "-o", "remount,ro", &self.0).run().context("mount -o remount,ro")?;
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        remove(&MOUNTS, &self.0);
        let _ = cmd!("umount", &self.0).run();
    }
}

/// A process group that is killed when it is dropped, or when a signal ends this process.
pub(crate) struct Group(Pid);

impl Group {
    /// Takes over the group of a process that leads one.
    pub(crate) fn new(leader: &process::Child) -> Group {
        Group::of(Pid::from_child(leader))
    }

    /// Takes over the group of the process with this number; `None` if no process can have it.
    pub(crate) fn led_by(leader: u32) -> Option<Group> {
        Some(Group::of(Pid::from_raw(leader.try_into().ok()?)?))
    }

    fn of(group: Pid) -> Group {
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner).push(group);
        Group(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        GROUPS.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != self.0);
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

fn add(list: &Mutex<Vec<PathBuf>>, path: &Path) {
    list.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
}

fn remove(list: &Mutex<Vec<PathBuf>>, path: &Path) {
    list.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other != path);
}

/// Installs handlers for SIGINT, SIGTERM and SIGHUP that kill the remaining process groups, delete
/// the remaining scratch folders and then end the process.
pub(crate) fn clean_on_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        for group in GROUPS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
        for mount in MOUNTS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = cmd!("umount", "--lazy", mount).run();
        }
        for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = fs::remove_dir_all(folder);
        }
        process::exit(130);
    })
    .context("no signal handler")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_goes_with_what_is_in_it() -> Result<()> {
        let scratch = Scratch::new()?;
        let path = scratch.path().to_owned();
        fs::create_dir_all(path.join("a/b"))?;
        drop(scratch);
        assert!(!path.exists());
        Ok(())
    }
}
