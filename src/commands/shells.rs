//! Completions of shells and man pages, made from the definition of the command line.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use super::files::{name, write};
use crate::out::stdout;
use crate::status::Status;

/// Print the completion script of a shell
///
/// The script completes commands, options, machines and seeded faults. `vmadiff install` installs
/// the scripts.
#[derive(clap::Args)]
#[command(after_help = "Example:
  vmadiff completions bash > ~/.local/share/bash-completion/completions/vmadiff")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Print a man page
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff man | man -l -
  vmadiff man triage | man -l -")]
pub(crate) struct Manual {
    /// The command; by default the page is about vmadiff itself
    command: Option<String>,
}

/// Install the man pages, and the completions for bash, zsh and fish
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff install
  sudo vmadiff install --prefix /usr/local

Files of an earlier version are overwritten. Files go to PREFIX/share/man/man1,
PREFIX/share/bash-completion/completions, PREFIX/share/zsh/site-functions and
PREFIX/share/fish/vendor_completions.d.")]
pub(crate) struct Install {
    /// The folder to install to; by default .local in the home folder
    #[arg(long, value_name = "FOLDER")]
    prefix: Option<PathBuf>,
}

impl Completions {
    /// Runs the command.
    pub(crate) fn run(&self) -> anyhow::Result<Status> {
        stdout().write_all(&script(self.shell))?;
        Ok(Status::Clean)
    }
}

impl Manual {
    /// Runs the command.
    pub(crate) fn run(&self) -> anyhow::Result<Status> {
        let wanted = match &self.command {
            Some(command) => format!("vmadiff-{command}.1"),
            None => "vmadiff.1".to_owned(),
        };
        let pages = pages()?;
        let page = pages.into_iter().find(|(name, _)| *name == wanted);
        let (_, text) = page.with_context(|| {
            let command = self.command.as_deref().unwrap_or_default();
            format!("no command is called `{command}`: `vmadiff --help` lists them")
        })?;
        stdout().write_all(&text)?;
        Ok(Status::Clean)
    }
}

impl Install {
    /// Runs the command.
    pub(crate) fn run(&self) -> anyhow::Result<Status> {
        let share = match &self.prefix {
            Some(prefix) => prefix.join("share"),
            None => std::env::home_dir()
                .context("there is no home folder: expected --prefix FOLDER")?
                .join(".local/share"),
        };
        let mut files: Vec<(PathBuf, Vec<u8>)> = [
            (Shell::Bash, "bash-completion/completions/vmadiff"),
            (Shell::Zsh, "zsh/site-functions/_vmadiff"),
            (Shell::Fish, "fish/vendor_completions.d/vmadiff.fish"),
        ]
        .map(|(shell, path)| (share.join(path), script(shell)))
        .into();
        let manual = share.join("man/man1");
        files.extend(pages()?.into_iter().map(|(name, text)| (manual.join(name), text)));
        for (path, bytes) in files {
            let folder = path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder).with_context(|| name(folder))?;
            write(&path, &bytes, true)?;
            writeln!(stdout(), "{}", name(&path))?;
        }
        Ok(Status::Clean)
    }
}

/// Returns the completion script of a shell.
fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    if shell == Shell::Bash {
        // Otherwise bash takes `candidate:v2` for three words, of which none is completed.
        script.extend(b"COMP_WORDBREAKS=${COMP_WORDBREAKS//:}\n");
    }
    clap_complete::generate(shell, &mut crate::Cli::command(), "vmadiff", &mut script);
    script
}

/// Returns the man pages of vmadiff and of its commands, each with the name of its file.
fn pages() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut command = crate::Cli::command();
    command.build();
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let commands: Vec<clap::Command> = commands.cloned().collect();
    std::iter::once(command)
        .chain(commands)
        .map(|command| {
            let page = Man::new(command);
            let mut text = Vec::new();
            page.render(&mut text)?;
            Ok((page.get_filename(), text))
        })
        .collect()
}
