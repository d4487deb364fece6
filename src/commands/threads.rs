//! The threads that share the work of a command.

use std::num::NonZeroUsize;

/// The option `--threads`.
#[derive(clap::Args)]
pub(crate) struct Threads {
    /// The number of threads; by default one for each core. The result does not depend on it
    #[arg(long)]
    threads: Option<NonZeroUsize>,
}

impl Threads {
    /// Returns the number of threads.
    pub(crate) fn number(&self) -> NonZeroUsize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or_else(cores)
    }
}
