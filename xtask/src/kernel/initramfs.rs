//! The initramfs of `ci/kernel`: a cpio archive in the format that the kernel unpacks ("newc",
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use anyhow::{Context, Result};

const FOLDER: u32 = 0o40755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// The list of the known differences of User Mode Linux, in the archive.
pub(crate) const KNOWN_OF_UML: &str = "known-uml.txt";

/// Returns an archive with a program as /init, `vmadiff` beside it, and a list of known differences.
pub(crate) fn archive(init: &[u8], vmadiff: &[u8], known: &[u8]) -> Result<Vec<u8>> {
    let entries = [
        ("proc", FOLDER, &[][..]),
        ("sys", FOLDER, &[]),
        ("init", PROGRAM, init),
        ("vmadiff", PROGRAM, vmadiff),
        (KNOWN_OF_UML, FILE, known),
        ("TRAILER!!!", 0, &[]),
    ];
    let mut archive = Vec::new();
    for ((name, mode, content), inode) in entries.into_iter().zip(1..) {
        entry(&mut archive, inode, name, mode, content)?;
    }
    Ok(archive)
}

/// Returns an archive with more files and their folders. The kernel unpacks several archives, one
/// after the other, from one file.
pub(crate) fn files(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let (mut archive, mut inode, mut folders) = (Vec::new(), 1000, Vec::new());
    for (name, content) in files {
        for (at, _) in name.match_indices('/') {
            let folder = &name[..at];
            if !folders.contains(&folder) {
                folders.push(folder);
                entry(&mut archive, inode, folder, FOLDER, &[])?;
                inode += 1;
            }
        }
        entry(&mut archive, inode, name, FILE, content)?;
        inode += 1;
    }
    entry(&mut archive, inode, "TRAILER!!!", 0, &[])?;
    Ok(archive)
}

fn entry(archive: &mut Vec<u8>, inode: u32, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    let size = u32::try_from(content.len()).with_context(|| format!("{name}: over 4 GiB"))?;
    let name_size = u32::try_from(name.len() + 1)?;
    // Fields: inode, mode, uid, gid, links, mtime, size, device (2), its own device (2), name,
    // checksum.
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    archive.extend(b"070701");
    archive.extend(fields.iter().flat_map(|field| format!("{field:08X}").into_bytes()));
    archive.extend(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend(content);
    pad(archive);
    Ok(())
}

/// Pads the archive: headers and contents begin at a multiple of four bytes.
fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use duct::cmd;

    use super::*;
    use crate::scratch::Scratch;
    use crate::shell;

    #[test]
    fn an_entry_is_a_header_a_name_and_a_content_all_padded() -> Result<()> {
        let mut bytes = Vec::new();
        entry(&mut bytes, 3, "init", PROGRAM, b"hello")?;
        let header = "070701\
             00000003000081ED00000000000000000000000100000000\
             0000000500000000000000000000000000000000\
             0000000500000000";
        let expected = [header.as_bytes(), b"init\0\0", b"hello\0\0\0"].concat();
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&expected));
        Ok(())
    }

    #[test]
    fn cpio_unpacks_the_archive() -> Result<()> {
        // If there is no cpio, only the bytes above are checked.
        if shell::find("cpio").is_none() {
            return Ok(());
        }
        let scratch = Scratch::new()?;
        cmd!("cpio", "--quiet", "-id")
            .dir(scratch.path())
            .stdin_bytes(archive(b"first", b"second one", b"third")?)
            .run()?;
        let read = |name| std::fs::read(scratch.path().join(name));
        assert_eq!(read("init")?, b"first");
        assert_eq!(read(KNOWN_OF_UML)?, b"third");
        assert_eq!(read("vmadiff")?, b"second one");
        let more = files(&[("a/b/c.txt".into(), b"third".to_vec()), ("a/d".into(), Vec::new())])?;
        cmd!("cpio", "--quiet", "-id").dir(scratch.path()).stdin_bytes(more).run()?;
        assert_eq!(read("a/b/c.txt")?, b"third");
        assert_eq!(read("a/d")?, b"");
        assert!(scratch.path().join("proc").is_dir() && scratch.path().join("sys").is_dir());
        Ok(())
    }
}
