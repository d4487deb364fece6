//! The first process of a machine that runs one command: `ci/kernel` boots kernels with it as
//! `/init`.
//!
//! It mounts `/proc`, `/sys` and debugfs, makes `/dev/null` and `/dev/kmsg`, and runs `/vmadiff`. It passes on its own arguments, which are the
//! words after `--` on the kernel's command line. Then it prints the exit status and turns the
//! machine off.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    use std::process::{Command, Stdio, exit, id};

    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    use rustix::mount::{MountFlags, mount};
    use rustix::system::{RebootCommand, reboot};

    if id() != 1 {
        eprintln!("vmadiff-init turns the machine off: expected to run as its first process");
        exit(2);
    }
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys")] {
        let mounted = std::fs::create_dir_all(target)
            .and_then(|()| Ok(mount(kind, target, kind, MountFlags::empty(), None)?));
        if let Err(error) = mounted {
            println!("vmadiff-init: {target}: {error}");
        }
    }
    // Some kernels have no debugfs.
    let _ = mount("debugfs", "/sys/kernel/debug", "debugfs", MountFlags::empty(), None);
    for (path, device) in [("/dev/null", makedev(1, 3)), ("/dev/kmsg", makedev(1, 11))] {
        // The kernel may have made the file.
        let _ = mknodat(CWD, path, FileType::CharacterDevice, Mode::from(0o600), device);
    }
    println!("vmadiff-init: begin");
    // Messages go through a pipe, because `vmadiff` shows no progress bar if standard error is no
    // terminal.
    let vmadiff = Command::new("/vmadiff")
        // User Mode Linux appends an argument that is for the kernel.
        .args(std::env::args().skip(1).filter(|argument| argument != "console=tty0"))
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output);
    match vmadiff {
        Ok(output) => {
            print!("{}", String::from_utf8_lossy(&output.stderr));
            match output.status.code() {
                Some(code) => println!("vmadiff-init: status {code}"),
                None => println!("vmadiff-init: ended: {}", output.status),
            }
        }
        Err(error) => println!("vmadiff-init: /vmadiff: {error}"),
    }
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        println!("vmadiff-init: power off: {error}");
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {}
