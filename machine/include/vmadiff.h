/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The C interface of a vmadiff machine, version 4.
 *
 * A machine is a model of the kernel's address spaces. It performs operations, such as mmap() or
 * fork(), and shows the state that follows. A shared library that defines the seven functions at
 * the end of this file is a machine. vmadiff calls it `lib:PATH`, and runs it in lockstep with
 * another machine. examples/machine.c is a complete example.
 *
 * Rules:
 * - The caller owns every buffer. Buffers have the fixed capacities below. A library writes into
 *   them and keeps no pointer to them after the call.
 * - No pointer that vmadiff passes is null. Calls come from one thread.
 * - vmadiff checks everything that a library writes. An observation that breaks a rule below is
 *   reported as a finding that names the field.
 * - The same calls must give the same observations. A machine must not use the time, addresses or
 *   random numbers.
 *
 * Units: a page number counts pages from the start of the arena, which is page VMADIFF_ARENA_START
 * of the address space. Lengths are pages. Offsets (vm_pgoff) are pages. Counters are pages;
 * map_count counts VMAs. The rules on which all machines agree are
 * at the top of machine/src/lib.rs.
 */
#ifndef VMADIFF_H
#define VMADIFF_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMADIFF_ABI_VERSION 4

/* Capacities. */
#define VMADIFF_MAX_OPERANDS 7   /* operands of an operation */
#define VMADIFF_MAX_PROCESSES 8  /* processes at one time; indices are 0 to 7 */
#define VMADIFF_ARENA_PAGES 64   /* pages that an operand can name */
#define VMADIFF_END_PAGES 128    /* one past the last page that can be mapped */
#define VMADIFF_MAX_VMAS 128     /* VMAs of an address space */
#define VMADIFF_MAX_CHAIN 8192   /* anon_vma_chain entries of an address space */
#define VMADIFF_MAX_PAGES 1024   /* anonymous pages, and page table entries that map them */
#define VMADIFF_MAX_ANON_VMAS 4096 /* anon_vmas */
#define VMADIFF_MAX_REFERENCES 4096 /* objects with a counter of references */
#define VMADIFF_MAX_EVENTS 1088  /* events of one operation */
#define VMADIFF_MAX_MESSAGES 256 /* messages of one operation to monitors of userfaultfd */
#define VMADIFF_MAX_OBJECT 65535 /* the largest number of an object */
#define VMADIFF_NAME_BYTES 64    /* bytes of a machine's name, with the NUL */
#define VMADIFF_FUNCTION_BYTES 64 /* bytes of a kernel function's name, with the NUL */
#define VMADIFF_TEXT_BYTES 128   /* bytes of a field or condition, with the NUL */

/* The page of the address space at which the arena starts. A private anonymous mapping made at
 * page p has vm_pgoff VMADIFF_ARENA_START + p (do_mmap()). */
#define VMADIFF_ARENA_START 0x100000

/* Operations: `opcode` of struct vmadiff_op. */
enum vmadiff_opcode {
	VMADIFF_MMAP = 0,
	VMADIFF_MUNMAP = 1,
	VMADIFF_MPROTECT = 2,
	VMADIFF_MREMAP = 3,
	VMADIFF_MADVISE = 4,
	VMADIFF_MLOCK = 5,
	VMADIFF_MUNLOCK = 6,
	VMADIFF_MBIND = 7,
	VMADIFF_TOUCH = 8,
	VMADIFF_UFFD_REGISTER = 9,
	VMADIFF_UFFD_UNREGISTER = 10,
	VMADIFF_FORK = 11,
	VMADIFF_EXIT = 12,
	VMADIFF_COPY = 13,    /* process_vm_mmap() */
	VMADIFF_COPY_VMA = 14, /* a direct call of copy_vma() */
	VMADIFF_SHMAT = 15,    /* attaches the SysV shared memory segment of the program */
	VMADIFF_SHMDT = 16,
	VMADIFF_SHM_RMID = 17, /* shmctl(IPC_RMID) of the segment */
	VMADIFF_MLOCKALL = 18,
	VMADIFF_MUNLOCKALL = 19,
	VMADIFF_MSEAL = 20, /* Linux 5.2.1 answers ENOSYS */
	VMADIFF_CLEAR_REFS = 21, /* 4 is written to /proc/PID/clear_refs */
	VMADIFF_FTRUNCATE = 22,
	VMADIFF_PRLIMIT = 23,
	VMADIFF_MEMORY_MERGE = 24, /* PR_SET_MEMORY_MERGE; Linux 5.2.1 answers EINVAL */
	VMADIFF_UFFD_OPEN = 25, /* closes the context first, if it is open */
	VMADIFF_UFFD_REGISTER_WP = 26, /* Linux 5.2.1 answers EINVAL */
	VMADIFF_UFFD_WRITEPROTECT = 27 /* Linux 5.2.1 answers EINVAL */
};

/* prot: the kernel's PROT_READ, PROT_WRITE and PROT_EXEC. */
#define VMADIFF_PROT_READ 1
#define VMADIFF_PROT_WRITE 2
#define VMADIFF_PROT_EXEC 4

/* kind: the kind of memory that mmap maps. */
enum vmadiff_kind {
	VMADIFF_ANON_PRIVATE = 0,
	VMADIFF_ANON_SHARED = 1,  /* a new shmem object, as long as the mapping */
	VMADIFF_FILE0_PRIVATE = 2, /* the first memfd */
	VMADIFF_FILE0_SHARED = 3,
	VMADIFF_FILE1_PRIVATE = 4, /* the second memfd */
	VMADIFF_FILE1_SHARED = 5,
	VMADIFF_READONLY_SHARED = 6, /* a third memfd, opened for reading only */
	/* A device: VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP, with vm_ops->close. */
	VMADIFF_SPECIAL = 7
};

/* flags of mmap: MAP_FIXED is always given, except with MAP_FIXED_NOREPLACE. */
#define VMADIFF_MAP_NORESERVE 1
#define VMADIFF_MAP_LOCKED 2
#define VMADIFF_MAP_FIXED_NOREPLACE 4
#define VMADIFF_MAP_POPULATE 8

/* flags of mlockall: the kernel's values. */
#define VMADIFF_MCL_CURRENT 1
#define VMADIFF_MCL_FUTURE 2
#define VMADIFF_MCL_ONFAULT 4

/* features of uffd_open: UFFD_FEATURE_EVENT_…, numbered anew. */
#define VMADIFF_UFFD_FORK 1
#define VMADIFF_UFFD_REMAP 2
#define VMADIFF_UFFD_REMOVE 4
#define VMADIFF_UFFD_UNMAP 8

/* mode of uffd_register_wp: UFFDIO_REGISTER_MODE_…, numbered anew. */
#define VMADIFF_UFFD_MODE_WP 0
#define VMADIFF_UFFD_MODE_MISSING_WP 1

/* mode of uffd_writeprotect: UFFDIO_WRITEPROTECT_MODE_…, numbered anew. */
#define VMADIFF_WRITEPROTECT_MODE_WP 0
#define VMADIFF_WRITEPROTECT_MODE_NONE 1

/* flags of copy: without a flag, dst_page is a hint. */
#define VMADIFF_COPY_FIXED 1
#define VMADIFF_COPY_FIXED_NOREPLACE 2

/* flags of shmat. */
#define VMADIFF_SHM_RDONLY 1
#define VMADIFF_SHM_EXEC 2
#define VMADIFF_SHM_REMAP 4
/* The length of the segment, in pages. */
#define VMADIFF_SHM_PAGES 4

/* flags of mremap: an index, not a set of bits. */
enum vmadiff_mremap_flags {
	VMADIFF_MREMAP_IN_PLACE = 0,
	VMADIFF_MREMAP_MAYMOVE_FIXED = 1, /* MREMAP_MAYMOVE | MREMAP_FIXED */
	VMADIFF_MREMAP_MAYMOVE = 2, /* MREMAP_MAYMOVE alone: the kernel may choose the page */
	VMADIFF_MREMAP_MAYMOVE_DONTUNMAP = 3, /* MREMAP_MAYMOVE | MREMAP_DONTUNMAP */
	VMADIFF_MREMAP_MAYMOVE_FIXED_DONTUNMAP = 4 /* all three flags */
};

/* advice of madvise: an index, not the kernel's number. */
enum vmadiff_advice {
	VMADIFF_MADV_NORMAL = 0,
	VMADIFF_MADV_RANDOM = 1,
	VMADIFF_MADV_SEQUENTIAL = 2,
	VMADIFF_MADV_WILLNEED = 3,
	VMADIFF_MADV_DONTNEED = 4,
	VMADIFF_MADV_FREE = 5,
	VMADIFF_MADV_DONTFORK = 6,
	VMADIFF_MADV_DOFORK = 7,
	VMADIFF_MADV_MERGEABLE = 8,
	VMADIFF_MADV_UNMERGEABLE = 9,
	VMADIFF_MADV_HUGEPAGE = 10,
	VMADIFF_MADV_NOHUGEPAGE = 11,
	VMADIFF_MADV_DONTDUMP = 12,
	VMADIFF_MADV_DODUMP = 13,
	VMADIFF_MADV_WIPEONFORK = 14,
	VMADIFF_MADV_KEEPONFORK = 15,
	VMADIFF_MADV_COLD = 16, /* this and the following: refused by Linux 5.2.1 */
	VMADIFF_MADV_PAGEOUT = 17,
	VMADIFF_MADV_POPULATE_READ = 18,
	VMADIFF_MADV_POPULATE_WRITE = 19,
	VMADIFF_MADV_DONTNEED_LOCKED = 20,
	VMADIFF_MADV_REMOVE = 21 /* Linux 5.2.1 has it */
};

/* mode of mbind, and policy of a VMA: the kernel's numbers. */
enum vmadiff_mode {
	VMADIFF_MPOL_DEFAULT = 0,
	VMADIFF_MPOL_PREFERRED = 1,
	VMADIFF_MPOL_BIND = 2,
	VMADIFF_MPOL_INTERLEAVE = 3
};

/* file of ftruncate. */
enum vmadiff_fd {
	VMADIFF_FD_FILE0 = 0, /* the first memfd */
	VMADIFF_FD_FILE1 = 1, /* the second memfd */
	VMADIFF_FD_READONLY = 2,
	VMADIFF_FD_SPECIAL = 3 /* the device */
};

/* resource of prlimit. */
enum vmadiff_resource {
	VMADIFF_RLIMIT_AS = 0,
	VMADIFF_RLIMIT_MEMLOCK = 1
};

/* The last page of the longest file. A mapping of a memfd that would end past it answers EOVERFLOW. */
#define VMADIFF_TOP_PAGE ((1ull << 51) - 1)

/* The operands of each operation. Values are in range: process and src are below
 * VMADIFF_MAX_PROCESSES; page, new_page, dst_page and every length are below VMADIFF_ARENA_PAGES;
 * pgoff names a page of the file: 0 to 239 is that page, and 240 to 255 is the page
 * VMADIFF_TOP_PAGE - (255 - pgoff). The process is the caller. */
struct vmadiff_mmap { uint8_t process, page, len, prot, kind, flags, pgoff; };
struct vmadiff_munmap { uint8_t process, page, len; };
struct vmadiff_mprotect { uint8_t process, page, len, prot; };
struct vmadiff_mremap { uint8_t process, page, old_len, new_len, flags, new_page; };
struct vmadiff_madvise { uint8_t process, page, len, advice; };
struct vmadiff_mlock { uint8_t process, page, len, onfault; }; /* onfault: 1 for MLOCK_ONFAULT */
struct vmadiff_munlock { uint8_t process, page, len; };
struct vmadiff_mbind { uint8_t process, page, len, mode; };
/* access: 0 reads, 1 writes. Every page begins with the value 0. A write gives it the value n % 255 + 1,
 * where n is the number of accesses that wrote before it in the program, in all processes. */
struct vmadiff_touch { uint8_t process, page, access; };
struct vmadiff_uffd { uint8_t process, page, len, ctx; }; /* ctx: 0 or 1 */
struct vmadiff_fork { uint8_t process; };
struct vmadiff_exit { uint8_t process; };
/* The caller is the destination; page and len are a range of the process src. */
struct vmadiff_copy { uint8_t process, page, len, src, dst_page, flags; };
struct vmadiff_copy_vma { uint8_t process, page, len, src, dst_page, clear_flags_ctx; };
struct vmadiff_shmat { uint8_t process, page, flags; };
struct vmadiff_shmdt { uint8_t process, page; };
struct vmadiff_shm_rmid { uint8_t process; };
struct vmadiff_mlockall { uint8_t process, flags; };
struct vmadiff_munlockall { uint8_t process; };
struct vmadiff_mseal { uint8_t process, page, len; };
struct vmadiff_clear_refs { uint8_t process; };
struct vmadiff_ftruncate { uint8_t process, file, length; }; /* length: 0 to 255 pages */
struct vmadiff_prlimit { uint8_t process, resource, max; }; /* max: 0 to 255 pages */
struct vmadiff_memory_merge { uint8_t process, merge; }; /* merge: 0 or 1 */
struct vmadiff_uffd_open { uint8_t process, ctx, features; };
struct vmadiff_uffd_register_wp { uint8_t process, page, len, ctx, mode; };
struct vmadiff_uffd_writeprotect { uint8_t process, page, len, ctx, mode; };

/* One operation. */
struct vmadiff_op {
	uint8_t opcode; /* enum vmadiff_opcode */
	union {
		uint8_t operands[VMADIFF_MAX_OPERANDS]; /* in the order of the structs above */
		uint8_t process; /* the caller, of any operation */
		struct vmadiff_mmap mmap;
		struct vmadiff_munmap munmap;
		struct vmadiff_mprotect mprotect;
		struct vmadiff_mremap mremap;
		struct vmadiff_madvise madvise;
		struct vmadiff_mlock mlock;
		struct vmadiff_munlock munlock;
		struct vmadiff_mbind mbind;
		struct vmadiff_touch touch;
		struct vmadiff_uffd uffd_register;
		struct vmadiff_uffd uffd_unregister;
		struct vmadiff_fork fork;
		struct vmadiff_exit exit;
		struct vmadiff_copy copy;
		struct vmadiff_copy_vma copy_vma;
		struct vmadiff_shmat shmat;
		struct vmadiff_shmdt shmdt;
		struct vmadiff_shm_rmid shm_rmid;
		struct vmadiff_mlockall mlockall;
		struct vmadiff_munlockall munlockall;
		struct vmadiff_mseal mseal;
		struct vmadiff_clear_refs clear_refs;
		struct vmadiff_ftruncate ftruncate;
		struct vmadiff_prlimit prlimit;
		struct vmadiff_memory_merge memory_merge;
		struct vmadiff_uffd_open uffd_open;
		struct vmadiff_uffd_register_wp uffd_register_wp;
		struct vmadiff_uffd_writeprotect uffd_writeprotect;
	} u;
};

/* A limit that a program does not set: the kernel's default, which no program reaches. */
#define VMADIFF_NO_LIMIT UINT32_MAX

/* The limits of a program. They apply to the arena. */
struct vmadiff_limits {
	uint32_t map_count;     /* VMAs of a process (sysctl_max_map_count) */
	uint32_t address_space; /* pages mapped by a process (RLIMIT_AS) */
	uint32_t lock;          /* pages locked by a process (RLIMIT_MEMLOCK); if set, the process
	                         * lacks CAP_IPC_LOCK */
	uint32_t processes;     /* processes at one time */
	uint32_t fail;          /* the allocation of the program that fails, counted from 1; 0: none. A
	                         * machine that cannot let one fail does not look at it. */
};

/* vm_flags: the kernel's values on x86-64 (include/linux/mm.h, 5.2). No other bit may be set. */
#define VMADIFF_VM_READ 0x00000001u
#define VMADIFF_VM_WRITE 0x00000002u
#define VMADIFF_VM_EXEC 0x00000004u
#define VMADIFF_VM_SHARED 0x00000008u
#define VMADIFF_VM_MAYREAD 0x00000010u
#define VMADIFF_VM_MAYWRITE 0x00000020u
#define VMADIFF_VM_MAYEXEC 0x00000040u
#define VMADIFF_VM_MAYSHARE 0x00000080u
#define VMADIFF_VM_UFFD_MISSING 0x00000200u
#define VMADIFF_VM_PFNMAP 0x00000400u
#define VMADIFF_VM_UFFD_WP 0x00001000u
#define VMADIFF_VM_LOCKED 0x00002000u
#define VMADIFF_VM_IO 0x00004000u
#define VMADIFF_VM_SEQ_READ 0x00008000u
#define VMADIFF_VM_RAND_READ 0x00010000u
#define VMADIFF_VM_DONTCOPY 0x00020000u
#define VMADIFF_VM_DONTEXPAND 0x00040000u
#define VMADIFF_VM_LOCKONFAULT 0x00080000u
#define VMADIFF_VM_ACCOUNT 0x00100000u
#define VMADIFF_VM_NORESERVE 0x00200000u
#define VMADIFF_VM_HUGETLB 0x00400000u
#define VMADIFF_VM_WIPEONFORK 0x02000000u
#define VMADIFF_VM_DONTDUMP 0x04000000u
#define VMADIFF_VM_SOFTDIRTY 0x08000000u
#define VMADIFF_VM_SEALED 0x10000000u /* mseal(); not in 5.2 */
#define VMADIFF_VM_MERGEABLE 0x80000000u

/* The number of an object (anon_vma, file or userfaultfd context): 0 is no object; an
 * object has a number from 1 to VMADIFF_MAX_OBJECT. In one observation, equal numbers mean the same
 * object and different numbers mean different objects. Observations are compared up to
 * renumbering. A file keeps its number for a whole program. */
typedef uint32_t vmadiff_object;

/* A VMA. */
struct vmadiff_vma {
	uint64_t pgoff;          /* vm_pgoff, in pages */
	uint32_t flags;          /* vm_flags: VMADIFF_VM_… */
	vmadiff_object anon_vma; /* 0 before the first fault */
	vmadiff_object file;     /* vm_file */
	vmadiff_object uffd;     /* vm_userfaultfd_ctx */
	uint32_t chain_count;    /* entries of its anon_vma_chain, in `chain` of the address space */
	uint8_t start;           /* the first page */
	uint8_t end;             /* one past the last page; at most VMADIFF_END_PAGES */
	uint8_t policy;          /* mode of vm_policy: enum vmadiff_mode */
	uint8_t close;           /* 1 if vm_ops->close exists, else 0 */
};

/* An address space. */
struct vmadiff_space {
	/* The counters of the mm. They are negative if a buggy kernel counts below zero. */
	int64_t total_vm;  /* pages */
	int64_t locked_vm; /* pages */
	int64_t data_vm;   /* pages */
	int64_t map_count; /* VMAs */
	/* The pages whose page table entry maps an anonymous page: page n is bit n % 64 of word
	 * n / 64. */
	uint64_t anon_pages[2];
	/* The pages whose page table entry maps the zero page: private anonymous memory that was
	 * read and not written. */
	uint64_t zero_pages[2];
	/* The pages of anon_pages whose page table entry has its write bit. */
	uint64_t writable_ptes[2];
	uint32_t alive;       /* 1, or 0 where no process has this index: then the rest is 0 */
	uint32_t vma_count;   /* at most VMADIFF_MAX_VMAS */
	uint32_t chain_count; /* the sum of chain_count of the VMAs; at most VMADIFF_MAX_CHAIN */
	uint32_t reserved;    /* 0 */
	/* The anonymous page that each page of anon_pages maps; vmadiff does not read the others. A
	 * page keeps its number for as long as it is mapped. The number of a page that an operation
	 * frees is free for another page from the next operation on. */
	vmadiff_object page_ids[VMADIFF_END_PAGES];
	struct vmadiff_vma vmas[VMADIFF_MAX_VMAS]; /* in address order, without overlap */
	/* The anon_vma of each anon_vma_chain entry: the entries of the first VMA, newest first,
	 * then the entries of the second VMA, and so on. No entry is 0. */
	vmadiff_object chain[VMADIFF_MAX_CHAIN];
};

/* The kinds of memory that an operation asks for and does not get (`fail` of vmadiff_limits). */
enum vmadiff_allocation {
	VMADIFF_FAILED_VM_AREA_STRUCT = 1,
	VMADIFF_FAILED_ANON_VMA = 2,
	VMADIFF_FAILED_ANON_VMA_CHAIN = 3,
	VMADIFF_FAILED_MEMPOLICY = 4,
	VMADIFF_FAILED_PAGE_TABLE = 5,
	VMADIFF_FAILED_CHARGE = 6, /* security_vm_enough_memory_mm() */
	VMADIFF_FAILED_USERFAULTFD_CTX = 7,
	VMADIFF_FAILED_MM_STRUCT = 8,
	VMADIFF_FAILED_FILE = 9 /* an open file */
};

/* The kinds of failures that a correct kernel never shows. The kernel does not survive the first
 * two kinds, nor a deadlock, so they end the program. */
enum vmadiff_event_kind {
	VMADIFF_USE_AFTER_FREE = 0, /* `function` reads the field `text` of a freed `object` */
	VMADIFF_BUG_ON = 1,         /* VM_BUG_ON(text) in `function` */
	VMADIFF_WARN_ON = 2,        /* VM_WARN_ON(text) in `function` */
	VMADIFF_UNREACHABLE_PAGE = 3, /* a reverse-map walk does not find `page` of `process` */
	VMADIFF_DEADLOCK = 4,       /* `function` takes the lock `text`, which it holds already */
	VMADIFF_LOCK_HELD = 5       /* `function` took the lock `text`, which is still held at the end */
};

enum vmadiff_freed {
	VMADIFF_FREED_VMA = 0,
	VMADIFF_FREED_ANON_VMA = 1,
	VMADIFF_FREED_MM = 2,
	VMADIFF_FREED_FILE = 3,
	VMADIFF_FREED_POLICY = 4,
	VMADIFF_FREED_CONTEXT = 5
};

/* An event. vmadiff does not read the fields that the event's kind does not use. */
struct vmadiff_event {
	uint32_t kind;   /* enum vmadiff_event_kind */
	uint32_t object; /* enum vmadiff_freed */
	uint32_t process;
	uint32_t page;   /* a page number */
	char function[VMADIFF_FUNCTION_BYTES]; /* UTF-8 without control characters, then a NUL */
	char text[VMADIFF_TEXT_BYTES];         /* the same */
};

/* The kinds of messages to the monitor of a userfaultfd context (UFFD_EVENT_…). */
enum vmadiff_message_kind {
	VMADIFF_MESSAGE_FORK = 1,   /* `child` is the context of the child; 0 if the fork failed */
	VMADIFF_MESSAGE_REMAP = 2,  /* the pages from `start` on are now at `to`; `end` is `start` and the
	                             * old length of the call */
	VMADIFF_MESSAGE_REMOVE = 3, /* the pages from `start` up to `end` were dropped */
	VMADIFF_MESSAGE_UNMAP = 4   /* `start` and `end` are the range of the whole call */
};

/* A message to the monitor of a userfaultfd context. Fields that the kind does not use are not read. */
struct vmadiff_message {
	uint32_t kind;  /* enum vmadiff_message_kind */
	uint32_t ctx;   /* the object number of the context */
	uint32_t child; /* the object number of a context, or 0 */
	uint32_t start; /* a page, 0 to 128 */
	uint32_t end;   /* a page, 0 to 128 */
	uint32_t to;    /* a page, 0 to 128 */
};

/* `copy` of an observation: the answer of copy_vma(). */
#define VMADIFF_COPIED 1            /* copy_vma() ran to its end; if not, no other bit is set */
#define VMADIFF_COPY_MERGED 2       /* the new range was merged with a neighbour */
#define VMADIFF_COPY_NEED_LOCKS 4   /* *need_rmap_locks after the call */
#define VMADIFF_COPY_HONOURED 8     /* the caller took the rmap locks if *need_rmap_locks says so */
#define VMADIFF_COPY_REDIRECTED 16  /* the source pointer was redirected to the merged VMA */

/* `attached` of an observation: the segment was destroyed. */
#define VMADIFF_DESTROYED INT64_MAX

/* `read` of an observation: a touch has read the value in the low 8 bits. */
#define VMADIFF_READ 256

/* The state after an operation. Each call of vmadiff_step() writes the first ten fields, the
 * first message_count messages and event_count events, and the address spaces named in `changed`. */
struct vmadiff_observation {
	uint32_t error;   /* 0, or the kernel's positive errno (524 for ENOTSUPP, 1000 for SIGBUS) */
	uint32_t value;   /* without an error: 0, or the page that mmap, mremap and copy return, or
	                   * the index of the child that fork returns */
	uint32_t copy;    /* VMADIFF_COPIED … */
	uint32_t changed; /* bit n: spaces[n] is written; the others are unchanged */
	int64_t committed; /* pages charged by the VM_ACCOUNT mappings of all processes */
	int64_t attached;  /* shm_nattch: VMAs of all processes that map the segment of SysV shared
	                    * memory; VMADIFF_DESTROYED once the segment is destroyed */
	uint32_t event_count; /* at most VMADIFF_MAX_EVENTS */
	uint32_t opens;       /* calls of vm_ops->open by the operation; mmap and shmat
	                       * call none */
	uint32_t closes;      /* calls of vm_ops->close by the operation */
	uint32_t read;        /* VMADIFF_READ and the value, if a touch has read one; else 0 */
	uint32_t failed;      /* enum vmadiff_allocation, if an allocation of the operation failed; else 0 */
	uint32_t message_count; /* at most VMADIFF_MAX_MESSAGES */
	struct vmadiff_message messages[VMADIFF_MAX_MESSAGES]; /* in the order in which they are sent */
	struct vmadiff_event events[VMADIFF_MAX_EVENTS]; /* in the order in which they happened */
	struct vmadiff_space spaces[VMADIFF_MAX_PROCESSES];
};

/* A count of objects that the machine does not keep. */
#define VMADIFF_NOT_COUNTED UINT32_MAX
/* A counter that the machine does not model. */
#define VMADIFF_NOT_MODELLED INT64_MIN

/* An anonymous page. */
struct vmadiff_anon_page {
	uint64_t index;          /* page->index, in pages */
	vmadiff_object number;   /* a number that no other page has at this time */
	vmadiff_object anon_vma; /* page->mapping; 0 where that anon_vma was freed */
	uint32_t map_count;      /* page table entries that map it, as the machine counts them */
	uint32_t reserved;       /* 0 */
};

/* A page table entry that maps an anonymous page. */
struct vmadiff_pte {
	uint32_t process;
	uint32_t page;       /* a page number */
	vmadiff_object maps; /* the number of the anonymous page; 0 where that page was freed */
};

/* An anon_vma. */
struct vmadiff_anon_vma {
	int64_t degree;        /* degree: VMAs that have it as their own, and children; a root is its
	                        * own child */
	int64_t active_vmas;   /* num_active_vmas: those VMAs alone; or VMADIFF_NOT_MODELLED */
	int64_t references;    /* refcount, or VMADIFF_NOT_MODELLED */
	vmadiff_object id;     /* as in the last observation */
	vmadiff_object parent; /* a root is its own; 0 where the parent was freed */
	vmadiff_object root;   /* a root is its own; 0 where the root was freed */
	uint32_t vmas;         /* VMAs whose chain has it (the entries of rb_root) */
};

/* The kinds of objects with a counter of references. */
enum vmadiff_counted {
	VMADIFF_COUNTED_FILE = 0,     /* f_count of an open file */
	VMADIFF_COUNTED_POLICY = 1,   /* refcnt of a policy that is not the default one */
	VMADIFF_COUNTED_CONTEXT = 2,  /* refcount of a userfaultfd context */
	VMADIFF_COUNTED_MM_USERS = 3, /* mm_users */
	VMADIFF_COUNTED_MM = 4        /* mm_count */
};

/* The references to an object that is allocated. */
struct vmadiff_references {
	int64_t counter; /* the references, as the object's counter says */
	int64_t others;  /* the references that are there and belong to no VMA: those of descriptors,
	                  * processes and other objects. vmadiff counts those of VMAs: each has one to
	                  * its file and one to its policy, and none to its context. */
	uint32_t kind;   /* enum vmadiff_counted */
	uint32_t object; /* the number of a file or a context, as in the last observation (all open
	                  * files of one inode have one number); the mode of a policy; or 0 */
};

/* The objects that no observation shows. vmadiff recounts them. */
struct vmadiff_hidden {
	uint32_t shown;          /* 1; or 0: the library shows none, and the rest is not read */
	uint32_t page_count;     /* at most VMADIFF_MAX_PAGES */
	uint32_t pte_count;      /* at most VMADIFF_MAX_PAGES */
	uint32_t anon_vma_count; /* at most VMADIFF_MAX_ANON_VMAS */
	uint32_t vmas;           /* vm_area_structs allocated, or VMADIFF_NOT_COUNTED */
	uint32_t chain_entries;  /* anon_vma_chain entries allocated, or VMADIFF_NOT_COUNTED */
	uint32_t mms;            /* mm_structs that have users, or VMADIFF_NOT_COUNTED */
	uint32_t reference_count; /* at most VMADIFF_MAX_REFERENCES, or VMADIFF_NOT_COUNTED */
	struct vmadiff_anon_page pages[VMADIFF_MAX_PAGES];
	struct vmadiff_pte ptes[VMADIFF_MAX_PAGES];
	struct vmadiff_anon_vma anon_vmas[VMADIFF_MAX_ANON_VMAS];
	struct vmadiff_references references[VMADIFF_MAX_REFERENCES];
};

/* The state of one machine, of a type that the library chooses. */
struct vmadiff_machine;

/* Returns VMADIFF_ABI_VERSION. */
uint32_t vmadiff_abi_version(void);

/* Returns a machine at the start of a program without limits, or a null pointer. */
struct vmadiff_machine *vmadiff_new(void);

/* Frees a machine. */
void vmadiff_free(struct vmadiff_machine *machine);

/* Writes the machine's name: UTF-8 without control characters, then a NUL. */
void vmadiff_name(const struct vmadiff_machine *machine, char name[VMADIFF_NAME_BYTES]);

/* Returns the set of operations that the machine has: bit n for the operation with opcode n. The
 * lockstep leaves out the others. A machine answers ENOSYS to them. */
uint64_t vmadiff_operations(const struct vmadiff_machine *machine);

/* Goes back to the start of a program: process 0 exists, and nothing is mapped in the arena. */
void vmadiff_reset(struct vmadiff_machine *machine, const struct vmadiff_limits *limits);

/* Performs one operation and writes the state that follows. After an event that ends the program
 * only vmadiff_reset() or vmadiff_free() is called. */
void vmadiff_step(struct vmadiff_machine *machine, const struct vmadiff_op *op,
		  struct vmadiff_observation *seen);

/* Optional. Writes the objects that no observation shows, as they are after the last operation.
 * Without this function, the invariants of hidden state are not checked. */
void vmadiff_hidden(struct vmadiff_machine *machine, struct vmadiff_hidden *hidden);

#ifdef __cplusplus
}
#endif

#endif
