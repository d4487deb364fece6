//! Patches of a kernel's source: diffs, and semantic patches of Coccinelle.
//!
//! A semantic patch may name its files in a comment, `// files: mm/vma.c mm/mmap.c`. Files that the
//! version does not have are left out.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use duct::{Expression, cmd};

use super::farm::Patched;
use crate::project::tail;
use crate::scratch::Scratch;
use crate::shell;

/// The files to which a semantic patch without a list of files is applied.
const USUAL: [&str; 2] = ["fs/userfaultfd.c", "kernel/fork.c"];

/// Returns the files of a source after all patches, applied in their order.
pub(crate) fn apply(source: &Path, patches: &[PathBuf]) -> Result<Patched> {
    let mut patched = Patched::new();
    for patch in patches {
        let context = || patch.display().to_string();
        let text = fs::read_to_string(patch).with_context(context)?;
        let semantic = match patch.extension().and_then(|extension| extension.to_str()) {
            Some("cocci") => true,
            Some("patch" | "diff") => false,
            _ => bail!("{}: expected a file *.patch, *.diff or *.cocci", patch.display()),
        };
        let files = if semantic {
            semantic_files(source, &text, &patched)?
        } else {
            files(&text).with_context(context)?
        };
        let scratch = Scratch::new()?;
        let mut before = Patched::new();
        for file in files {
            let content = match patched.get(&file) {
                Some(content) => content.clone(),
                None => fs::read(source.join(&file)).ok(),
            };
            if let Some(content) = &content {
                let copy = scratch.path().join(&file);
                fs::create_dir_all(copy.parent().unwrap_or(scratch.path()))
                    .with_context(context)?;
                fs::write(&copy, content).with_context(context)?;
            }
            before.insert(file, content);
        }
        let changed = if semantic {
            run_spatch(patch, scratch.path(), &before)
        } else {
            run_patch(patch, scratch.path())
        };
        changed.with_context(context)?;
        let mut changes = 0;
        for (file, content) in before {
            let after = fs::read(scratch.path().join(&file)).ok();
            if after != content {
                changes += 1;
                patched.insert(file, after);
            }
        }
        ensure!(changes > 0, "{}: it changes nothing in this source", patch.display());
    }
    Ok(patched)
}

fn need(tool: &str, package: &str) -> Result<()> {
    ensure!(
        shell::find(tool).is_some(),
        "there is no {tool}: Debian has it in the package {package}"
    );
    Ok(())
}

fn run_patch(patch: &Path, folder: &Path) -> Result<()> {
    need("patch", "patch")?;
    let patch = patch.canonicalize()?;
    run_in(
        folder,
        cmd!("patch", "-p1", "--batch", "--forward", "--no-backup-if-mismatch", "-i", patch),
        "it does not apply",
    )
}

fn run_spatch(patch: &Path, folder: &Path, files: &Patched) -> Result<()> {
    need("spatch", "coccinelle")?;
    let mut arguments = vec!["--very-quiet".into(), "--in-place".into(), "--sp-file".into()];
    arguments.push(patch.canonicalize()?.into_os_string());
    arguments.extend(files.keys().map(|file| file.clone().into_os_string()));
    run_in(folder, cmd("spatch", arguments), "spatch fails")
}

/// Runs a command in a folder. If it fails, the error is `failure` with the end of its output.
fn run_in(folder: &Path, command: Expression, failure: &str) -> Result<()> {
    let output = command.dir(folder).stderr_to_stdout().stdout_capture().unchecked().run()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{failure}:\n{}", tail(&text, 10));
    Ok(())
}

/// Returns the files that a diff changes. The first folder of a name is left out, as `patch -p1`
/// does.
fn files(diff: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for line in diff.lines() {
        let Some(name) = line.strip_prefix("--- ").or_else(|| line.strip_prefix("+++ ")) else {
            continue;
        };
        let name = name.split('\t').next().unwrap_or_default().trim();
        // A line of a mail's signature begins with two dashes, too.
        let Some((_, name)) = name.split_once('/').filter(|_| name != "/dev/null") else {
            continue;
        };
        files.push(inside(name)?);
    }
    files.sort();
    files.dedup();
    ensure!(!files.is_empty(), "expected a diff with lines `--- a/FILE` and `+++ b/FILE`");
    Ok(files)
}

/// Returns a path that stays inside the source.
fn inside(name: &str) -> Result<PathBuf> {
    let path = PathBuf::from(name);
    let stays = path.components().all(|part| matches!(part, Component::Normal(_)));
    ensure!(stays && !name.is_empty(), "{name}: expected a path inside the source");
    Ok(path)
}

/// Returns the files of a semantic patch that the source has, after the patches before it.
fn semantic_files(source: &Path, text: &str, patched: &Patched) -> Result<Vec<PathBuf>> {
    let named = text.lines().find_map(|line| line.strip_prefix("// files:"));
    let mut files = match named {
        Some(names) => names.split_whitespace().map(inside).collect::<Result<Vec<_>>>()?,
        None => {
            let mut files: Vec<PathBuf> = USUAL.iter().map(PathBuf::from).collect();
            let mm = source.join("mm");
            for entry in mm.read_dir().with_context(|| mm.display().to_string())? {
                let name = entry?.file_name();
                if Path::new(&name).extension().is_some_and(|extension| extension == "c") {
                    files.push(Path::new("mm").join(name));
                }
            }
            files
        }
    };
    files.retain(|file| match patched.get(file) {
        Some(content) => content.is_some(),
        None => source.join(file).is_file(),
    });
    files.sort();
    ensure!(!files.is_empty(), "the source has none of the files of the semantic patch");
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(scratch: &Scratch) -> Result<PathBuf> {
        let source = scratch.path().join("linux");
        fs::create_dir_all(source.join("mm"))?;
        fs::write(source.join("mm/vma.c"), "int one(int a)\n{\n\treturn a + 1;\n}\n")?;
        Ok(source)
    }

    fn text(patched: &Patched, name: &str) -> String {
        let content = patched.get(Path::new(name)).cloned().flatten().unwrap_or_default();
        String::from_utf8_lossy(&content).into_owned()
    }

    #[test]
    fn a_diff_is_applied_and_the_next_one_continues_from_it() -> Result<()> {
        if shell::find("patch").is_none() {
            println!("skipped: there is no patch");
            return Ok(());
        }
        let scratch = Scratch::new()?;
        let source = source(&scratch)?;
        let diff = |name: &str, from: u8, to: u8| -> Result<PathBuf> {
            let patch = scratch.path().join(name);
            let text = format!(
                "From: me\n---\n mm/vma.c | 2 +-\n\n--- a/mm/vma.c\n+++ b/mm/vma.c\n\
                 @@ -2,3 +2,3 @@\n {{\n-\treturn a + {from};\n+\treturn a + {to};\n }}\n-- \n2.39.5\n"
            );
            fs::write(&patch, text)?;
            Ok(patch)
        };
        let (first, second) = (diff("1.patch", 1, 2)?, diff("2.diff", 2, 3)?);
        let patched = apply(&source, &[first.clone(), second.clone()])?;
        assert!(text(&patched, "mm/vma.c").contains("a + 3;"), "{patched:?}");
        assert!(fs::read_to_string(source.join("mm/vma.c"))?.contains("a + 1;"));
        let error = apply(&source, &[second, first]).expect_err("the wrong order");
        assert!(format!("{error:#}").contains("2.diff: it does not apply"), "{error:#}");
        Ok(())
    }

    #[test]
    fn a_semantic_patch_is_applied_to_its_files_and_has_to_match() -> Result<()> {
        if shell::find("spatch").is_none() {
            println!("skipped: there is no spatch");
            return Ok(());
        }
        let scratch = Scratch::new()?;
        let source = source(&scratch)?;
        let patch = scratch.path().join("more.cocci");
        fs::write(
            &patch,
            "// files: mm/vma.c mm/not_there.c\n@@ expression a; @@\n- a + 1\n+ a + 2\n",
        )?;
        let patched = apply(&source, std::slice::from_ref(&patch))?;
        assert!(text(&patched, "mm/vma.c").contains("a + 2;"), "{patched:?}");
        // A file that an earlier patch makes.
        let (made, of_made) =
            (scratch.path().join("made.patch"), scratch.path().join("made.cocci"));
        fs::write(&made, "--- /dev/null\n+++ b/mm/made.c\n@@ -0,0 +1 @@\n+int two = 1 + 1;\n")?;
        fs::write(&of_made, "// files: mm/made.c\n@@ @@\n- 1 + 1\n+ 2\n")?;
        let patched = apply(&source, &[made, of_made.clone()])?;
        assert!(text(&patched, "mm/made.c").contains("two = 2;"), "{patched:?}");
        let error = apply(&source, &[of_made]).expect_err("no such file");
        assert!(format!("{error:#}").contains("has none of the files"), "{error:#}");
        fs::write(&patch, "@@ expression a; @@\n- a + 7\n+ a + 2\n")?;
        let error = apply(&source, &[patch]).expect_err("no match");
        assert!(format!("{error:#}").contains("it changes nothing"), "{error:#}");
        Ok(())
    }

    #[test]
    fn a_patch_that_leaves_the_source_or_is_no_patch_is_refused() -> Result<()> {
        assert!(files("--- a/../x.c\n+++ b/../x.c\n").is_err());
        assert!(files("--- a//etc/passwd\n+++ b//etc/passwd\n").is_err());
        assert!(files("no diff\n-- \n2.39\n").is_err());
        assert_eq!(files("--- /dev/null\n+++ b/mm/new.c\n")?, [PathBuf::from("mm/new.c")]);
        let scratch = Scratch::new()?;
        let source = source(&scratch)?;
        let other = scratch.path().join("a.txt");
        fs::write(&other, "")?;
        let error = apply(&source, &[other]).expect_err("no patch");
        assert!(format!("{error:#}").contains("a.txt: expected a file *.patch"), "{error:#}");
        Ok(())
    }
}
