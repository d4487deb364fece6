//! The first process of a machine that runs one command: `ci/kernel` boots kernels with it as
//! `/init`.
//!
//! It mounts `/proc` and `/sys` and runs `/vmadiff`. It passes on its own arguments, which are the
//! words after `--` on the kernel's command line. Then it prints the exit status and turns the
//! machine off.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    use std::process::{Command, Stdio, exit, id};

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
    println!("vmadiff-init: begin");
    // Messages go through a pipe, because `vmadiff` shows no progress bar if standard error is no
    // terminal.
    let vmadiff = Command::new("/vmadiff")
        .args(std::env::args().skip(1))
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
