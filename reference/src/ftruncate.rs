//! `ftruncate` of the memfds (`fs/open.c`, `shmem_setattr()` of `mm/shmem.c`).

use vmadiff_machine::Errno;
use vmadiff_machine::operand::{File, FileLength, Process};

use crate::function::Function;
use crate::range::Range;
use crate::refusal::{Refusal, Rule};
use crate::shmem::MEMFDS;
use crate::world::World;

impl World {
    /// Gives a memfd another length. Past a lower end no process keeps a page of a mapping of the file,
    /// not even a private copy. Pages up to a higher end are new.
    ///
    /// # Errors
    /// `EINVAL` for a file that is open for reading only, and for the device.
    pub(crate) fn ftruncate(
        &mut self,
        process: Process,
        file: File,
        length: FileLength,
    ) -> Result<u8, Refusal> {
        let call = self.call(process)?;
        let file = match file {
            File::File0 => MEMFDS[0],
            File::File1 => MEMFDS[1],
            File::Readonly => {
                return call.refuse(Errno::EINVAL, Function::DoSysFtruncate, Rule::FileReadOnly);
            }
            File::Special => {
                return call.refuse(Errno::EINVAL, Function::DoSysFtruncate, Rule::NoRegularFile);
            }
        };
        let length = u64::from(length.0);
        self.shmem.set_length(file, length);
        for process in 0..self.mms.len() {
            let mut call = self.syscall(Process(process as u8));
            for at in 0..call.mm.vmas().len() {
                let vma = call.mm.vmas()[at];
                let past = |page: &_| vma.pgoff_of(*page).0 >= length;
                if vma.file == Some(file)
                    && let Some(start) = vma.range.pages().find(past)
                {
                    call.zap(Range { start, end: vma.range.end });
                }
            }
        }
        Ok(0)
    }
}
