//! The walk of the reverse map: writing to the bitmap of `page_idle` makes the kernel find every
//! mapping of a page from the page's anon_vma, as reclaim and migration do.
//!
//! A reverse map that is wrong shows itself only when it is walked. Under KASAN the walk reports an
//! anon_vma that was freed while a page points to it.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;

use crate::error::KernelError;
use crate::proc::PageEntry;
use crate::worker::drain;

/// The open bitmap of `page_idle`: a bit for each page frame.
#[derive(Debug)]
pub(crate) struct Walk(File);

impl Walk {
    /// Opens the bitmap. Kernels need `CONFIG_IDLE_PAGE_TRACKING`, and the caller has to be root.
    pub(crate) fn open() -> Result<Walk, KernelError> {
        let what = "opening /sys/kernel/mm/page_idle/bitmap";
        OpenOptions::new()
            .write(true)
            .open("/sys/kernel/mm/page_idle/bitmap")
            .map(Walk)
            .map_err(|source| KernelError::Controller { what, error: source })
    }

    /// Lets the kernel walk the reverse map of the anonymous pages of these page tables.
    pub(crate) fn walk(&self, entries: impl IntoIterator<Item = PageEntry>, zero_page: u64) {
        let frames = entries
            .into_iter()
            .filter(|entry| entry.is_anonymous() && entry.frame() != zero_page)
            .map(PageEntry::frame);
        // The kernel takes 64 frames at a time. It skips the frames that are no pages of a process.
        let words: BTreeSet<u64> = frames.map(|frame| frame / 64).collect();
        if words.is_empty() {
            return;
        }
        // The kernel skips new pages too, which wait in a batch.
        drain();
        for word in words {
            // A frame beyond the end of memory is an error, and no page.
            let _ = self.0.write_at(&[u8::MAX; 8], word * 8);
        }
    }
}
