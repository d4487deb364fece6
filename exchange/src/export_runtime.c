#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>
#if USES_LIMITS
#include <sys/resource.h>
#endif
#if USES_LOCK_LIMIT
#include <linux/capability.h>
#endif
#if USES_MBIND
#include <linux/mempolicy.h>
#endif
#if USES_SEGMENT
#include <sys/shm.h>
#endif
#if USES_UFFD
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#endif

#if USES_LATER_ADVICE
/* Headers of older systems lack the advice of later kernels. */
#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

#endif
#if USES_EVENTS
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* since Linux 5.3 */
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438 /* since Linux 5.6 */
#endif

#endif
#if USES_MSEAL
#ifndef SYS_mseal
#define SYS_mseal 462 /* since Linux 6.10 */
#endif

#endif
#if USES_MEMORY_MERGE
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67 /* since Linux 6.4 */
#endif

#endif
#if USES_DONTUNMAP
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4 /* since Linux 5.7 */
#endif

#endif
/* The address of page 0 in every process. */
#define ARENA 0x100000000L
#define PAGE(n) (ARENA + 4096L * (n))
#define PAGES(n) (4096L * (n))
#define ARENA_PAGES 128
#define PROCESSES 8
#define CONTEXTS 2 /* the userfaultfd contexts of a process */

/* Operations that are not one system call. They stand in place of the call's number. */
enum {
	TOUCH = -1000, FORK, EXIT, UFFD_REGISTER, UFFD_UNREGISTER, UFFD_OPEN, COPY, CLEAR_REFS, PRLIMIT,
	UFFD_WRITEPROTECT,
};

/* Results that no system call returns. */
enum {
	BUS_ERROR = -1000, /* the access raised SIGBUS */
	BLOCKED = -2000,   /* the process sleeps in the call */
	NO_UFFD = -2001,   /* this kernel allows no userfaultfd */
	DIED = -2002,      /* the process has ended */
	LACKING = -2003,   /* the call is not made: `lacking` says what is missing */
	NO_EVENTS = -2004, /* this kernel or this user lacks the events of userfaultfd */
};

typedef unsigned long long rule_set; /* a bit for each rule */

/*
 * What is expected of an operation. The memory of a process is a text: the counters in pages, a line
 * for each VMA with its first page, one past its last page and its flags as in /proc/PID/smaps, and
 * the pages whose page table entries map anonymous pages. NULL: as before the operation.
 */
struct expected {
#if USES_RULES
	rule_set with, without; /* in `later`: the rules that hold, and those that do not */
#endif
	long result;                /* negative for an error */
#if USES_SEGMENT
	long attached;              /* shm_nattch of the segment; -1: it is destroyed */
#endif
	const char *memory[PROCESSES];
#if USES_EVENTS
	const char *messages;       /* to the monitor of userfaultfd contexts, a line for each; NULL: none */
#endif
#if USES_CONTENTS
	/* At the end: the value that each page has, as runs of pages: 0-2=7 is the pages 0 and 1. */
	const char *contents[PROCESSES];
#endif
};

struct operation {
	const char *text;             /* the text form; NULL: the end of the program */
	int process;                  /* the process that makes the call */
	long call[7];                 /* the number and the arguments */
	struct expected expected;     /* what Linux 5.2.1 does */
#if USES_RULES
	const struct expected *later; /* what later kernels do, by the rules that hold */
#endif
};

struct program {
	const struct operation *operations;
#if USES_FORK
	int processes;      /* the limit on processes */
#endif
#if USES_MAP_COUNT
	long map_count;     /* the limit on VMAs in the arena; -1: none */
#endif
#if USES_ADDRESS_SPACE
	long address_space; /* the limit on pages in the arena; -1: none */
#endif
#if USES_LOCKS
	long lock;          /* the limit on locked pages; -1: none */
#endif
};

/* The combination of rules that a kernel may have, and what was expected last under these rules. */
struct kernel {
	rule_set rules;
	int agrees;                    /* no operation has differed */
	const char *memory[PROCESSES];
};

/* How a run of a program ends. It is the exit status. */
enum { AGREES, DIFFERS, CANNOT };

/* The memory of a process that has nothing mapped in the arena. */
#define NOTHING "VmSize 0, VmLck 0, VmData 0"

#if USES_RULES
/* A behaviour in which later kernels differ from 5.2.1, and the program that shows whether it holds. */
struct rule {
	const char *name, *since;
	rule_set refines; /* the rules without which it changes nothing */
	const struct program *program;
};

static const struct rule rule[RULES]; /* at the end of this file */

#if USES_RELEASES
/* The rules are too many for an expectation of each combination: these are those of the releases. */
static const rule_set releases[] = COMBINATIONS;

static int is_release(rule_set rules)
{
	for (size_t i = 0; i < sizeof(releases) / sizeof(*releases); i++)
		if (releases[i] == rules)
			return 1;
	return 0;
}

#endif
#endif

#if USES_COPY
/*
 * process_vm_mmap(pid, src_addr, len, dst_addr, flags) was proposed in May 2019 and never merged,
 * so it has no number. For a kernel with the call compile with -DSYS_PROCESS_VM_MMAP=<number>.
 */
#ifndef SYS_PROCESS_VM_MMAP
#define SYS_PROCESS_VM_MMAP -1
#endif
#define PVMMAP_FIXED 1
#define PVMMAP_FIXED_NOREPLACE 2

#endif
#if USES_FILES
/* The descriptors of the files, the same in every process, and the length of a file. */
enum { FILE0 = 100, FILE1, READONLY };
#define FILE_PAGES 4096L

#endif
#if USES_SEGMENT
/* In a call, SEGMENT stands for the id of the segment. The segment is removed at the end. */
#define SEGMENT -3000
static int segment = -1;

#endif
#if USES_NODE0
static unsigned long node0 = 1; /* the mask of node 0 */

#endif
/* Each process reads calls from its command pipe and writes results to its reply pipe. */
static int command[PROCESSES][2], reply[PROCESSES][2];
static pid_t pids[PROCESSES]; /* 0: the process does not exist */

static const char *lacking; /* why the last operation cannot be run here; NULL: it can */
#if USES_HUGE
static int huge_pages; /* this kernel has transparent huge pages */
#endif
#if USES_KSM
static int ksm; /* this kernel can merge equal pages */
#endif
#if USES_NORESERVE
static int noreserve; /* this kernel honours MAP_NORESERVE */
#endif

#if USES_EVENTS
/*
 * The controller is the monitor of the userfaultfd contexts with event features, and has a descriptor of
 * each. A system call that sends a message waits until the controller has read it.
 */
static struct monitored {
	int process, number; /* the process, and the number of the context in the program */
	int context;         /* the controller's descriptor */
	int adopted;         /* it came with a message about a fork: the process has no descriptor */
} monitored[CONTEXTS * PROCESSES];
static int monitors;

/* Closes the controller's descriptors of a process: of one context, or with -1 of all. */
static void stop_monitoring(int process, int number)
{
	for (int i = monitors - 1; i >= 0; i--)
		if (monitored[i].process == process && (number < 0 || monitored[i].number == number)) {
			close(monitored[i].context);
			monitored[i] = monitored[--monitors];
		}
}

#endif
static void end_all(void)
{
	for (int i = 0; i < PROCESSES; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGKILL);
	for (int i = 0; i < PROCESSES; i++) {
		for (int n = 0; n < 50000 && pids[i] > 0 && !kill(pids[i], 0); n++)
			usleep(200);
		pids[i] = 0;
#if USES_EVENTS
		stop_monitoring(i, -1);
#endif
	}
#if USES_SEGMENT
	if (segment >= 0)
		shmctl(segment, IPC_RMID, NULL);
	segment = -1;
#endif
}

static _Noreturn void cannot(const char *what)
{
	printf("cannot be run here: %s\n", what);
	end_all();
	exit(CANNOT);
}

/* ---- in a process of the program: this code allocates no memory ---- */

#if USES_TOUCH
static sigjmp_buf fault;

static void faulted(int signal)
{
	siglongjmp(fault, signal);
}

/* Returns the value of the page, or 0 if `write` is the value to be written. */
static long touch(volatile unsigned char *page, int write)
{
	int signal = sigsetjmp(fault, 1);

	if (signal)
		return signal == SIGBUS ? BUS_ERROR : -EFAULT;
	if (!write)
		return *page;
	*page = write;
	return 0;
}

#endif
#if USES_UFFD
static int contexts[CONTEXTS] = { -1, -1 };

static long uffd_register(long start, long length, int *context, long mode)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { .start = start, .len = length }, .mode = mode,
	};

	if (*context < 0) {
		*context = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
		if (*context < 0 || ioctl(*context, UFFDIO_API, &api))
			return NO_UFFD;
	}
	return ioctl(*context, UFFDIO_REGISTER, &range) ? -errno : 0;
}

static long uffd_unregister(long start, long length, int context)
{
	struct uffdio_range range = { .start = start, .len = length };

	return ioctl(context, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

#endif
#if USES_WRITEPROTECT
static long uffd_writeprotect(long start, long length, int context, long mode)
{
	/* Headers of older systems lack the structure and the number of this ioctl. */
	struct {
		struct uffdio_range range;
		__u64 mode;
	} protect = { .range = { .start = start, .len = length }, .mode = mode };

	return ioctl(context, _IOC(_IOC_READ | _IOC_WRITE, 0xaa, 0x06, sizeof(protect)), &protect) ? -errno : 0;
}

#endif
#if USES_EVENTS
/* Opens a context with event features, in place of one that is open. Returns the descriptor. */
static long uffd_open(int *context, long features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	if (*context >= 0)
		close(*context);
	*context = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (*context < 0)
		return NO_UFFD;
	return ioctl(*context, UFFDIO_API, &api) ? NO_EVENTS : *context;
}

#endif
#if USES_MLOCKALL
/* Unlocks the memory outside the arena, which mlockall() has locked too. The limits count the arena. */
static void unlock_outside(void)
{
	static char text[1 << 16];
	int maps = open("/proc/self/maps", O_RDONLY);
	long length = 0, more;
	unsigned long from, to;

	while ((more = read(maps, text + length, sizeof(text) - 1 - length)) > 0)
		length += more;
	close(maps);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		if (sscanf(line, "%lx-%lx", &from, &to) == 2 &&
		    (to <= (unsigned long)ARENA || from >= (unsigned long)PAGE(ARENA_PAGES)))
			munlock((void *)from, to - from);
	memset(text, 0, sizeof(text));
}

#endif
#if USES_CLEAR_REFS
/* Makes all memory of the process clean: no VMA is soft-dirty. */
static long clear_refs(void)
{
	int file = open("/proc/self/clear_refs", O_WRONLY);
	long result = file < 0 || write(file, "4", 1) != 1 ? -errno : 0;

	if (file >= 0)
		close(file);
	return result;
}

#endif
static long perform(const long *call)
{
	long result;

#if USES_TOUCH
	if (call[0] == TOUCH)
		return touch((volatile unsigned char *)call[1], call[2]);
#endif
#if USES_UFFD
	if (call[0] == UFFD_REGISTER)
		return uffd_register(call[1], call[2], &contexts[call[3]], call[4]);
	if (call[0] == UFFD_UNREGISTER)
		return uffd_unregister(call[1], call[2], contexts[call[3]]);
#endif
#if USES_WRITEPROTECT
	if (call[0] == UFFD_WRITEPROTECT)
		return uffd_writeprotect(call[1], call[2], contexts[call[3]], call[4]);
#endif
#if USES_EVENTS
	if (call[0] == UFFD_OPEN)
		return uffd_open(&contexts[call[1]], call[2]);
#endif
#if USES_CLEAR_REFS
	if (call[0] == CLEAR_REFS)
		return clear_refs();
#endif
	result = syscall(call[0], call[1], call[2], call[3], call[4], call[5], call[6]);
	result = result == -1 ? -errno : result;
#if USES_MLOCKALL
	if (call[0] == SYS_mlockall && !result && call[1] & MCL_CURRENT)
		unlock_outside();
#endif
	return result;
}

static void serve(int self)
{
	long call[7], result = 0;

	for (;;) {
		if (write(reply[self][1], &result, sizeof(result)) != sizeof(result) ||
		    read(command[self][0], call, sizeof(call)) != sizeof(call) || call[0] == EXIT)
			_exit(0);
#if USES_FORK
		if (call[0] == FORK) {
			result = fork();
			if (result < 0)
				result = -errno;
			if (result)
				continue;
			self = call[1];
#if USES_UFFD
			for (int i = 0; i < CONTEXTS; i++) {
				if (contexts[i] >= 0)
					close(contexts[i]);
				contexts[i] = -1;
			}
#endif
			continue;
		}
#endif
		result = perform(call);
	}
}

#if USES_FILES
/* Makes a file. All of its pages that a program can reach are in the page cache. */
static void make_file(const char *name, int number)
{
	int file = memfd_create(name, MFD_CLOEXEC);

	if (file < 0 || ftruncate(file, PAGES(FILE_PAGES)) || fallocate(file, 0, 0, PAGES(512)))
		cannot("no memfd");
	if (number == READONLY) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
		file = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (file < 0 || dup2(file, number) < 0)
		cannot("no memfd");
}

#endif
#if USES_MAP_COUNT
/*
 * vm.max_map_count is the same for the whole system. The process therefore gets so many mappings
 * outside the arena that only `limit` mappings are left. They are cut from a shared mapping, which
 * does not merge with other mappings.
 */
static long max_map_count;
static char *to_cut;

static void prepare_map_count(void)
{
	FILE *file = fopen("/proc/sys/vm/max_map_count", "r");

	if (!file || fscanf(file, "%ld", &max_map_count) != 1 || max_map_count > 300000)
		cannot("vm.max_map_count is not readable, or past 300000");
	fclose(file);
	to_cut = mmap(NULL, PAGES(max_map_count), PROT_NONE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (to_cut == MAP_FAILED)
		cannot("no room for the mappings that leave only the limit");
}

static void limit_map_count(long limit)
{
	long now = 0, more, page;
	char line[1024];
	FILE *file = fopen("/proc/self/maps", "r");

	while (file && fgets(line, sizeof(line), file))
		now += !strstr(line, "[vsyscall]"); /* [vsyscall] is not a VMA */
	if (file)
		fclose(file);
	more = max_map_count - limit - now;
	if (!now || more < 0)
		cannot("no room for the mappings that leave only the limit");
	/* A changed page cuts a mapping in two at its start, and in three inside. */
	for (page = more & 1 ? 0 : 1; more > 0; page += 2) {
		if (mprotect(to_cut + PAGES(page), PAGES(1), PROT_READ))
			cannot("no room for the mappings that leave only the limit");
		more -= page ? 2 : 1;
	}
}

#endif
#if USES_RLIMIT
/* Sets a limit of a process, 0 for this one. The hard limit gets no lower, so that the limit can be raised again. */
static int set_rlimit(pid_t pid, int resource, rlim_t bytes)
{
	struct rlimit limit;

	prlimit(pid, resource, NULL, &limit);
	limit.rlim_cur = bytes;
	if (limit.rlim_max < bytes)
		limit.rlim_max = bytes;
	return prlimit(pid, resource, &limit, NULL);
}

#endif
#if USES_LOCK_LIMIT
/* Sets RLIMIT_MEMLOCK and drops CAP_IPC_LOCK, with which the kernel ignores the limit. */
static void limit_lock(long pages)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	if (set_rlimit(0, RLIMIT_MEMLOCK, PAGES(pages)) || syscall(SYS_capget, &header, data))
		cannot("RLIMIT_MEMLOCK cannot be set");
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	if (syscall(SYS_capset, &header, data))
		cannot("CAP_IPC_LOCK cannot be given up");
}

#endif
#if USES_LOCK
static void allow_lock(void)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	if (!setrlimit(RLIMIT_MEMLOCK, &limit))
		return;
	getrlimit(RLIMIT_MEMLOCK, &limit);
	limit.rlim_cur = limit.rlim_max;
	if (limit.rlim_max < (rlim_t)PAGES(ARENA_PAGES) || setrlimit(RLIMIT_MEMLOCK, &limit))
		cannot("RLIMIT_MEMLOCK is too low");
}

#endif
#if USES_CHOICE
/* Maps memory outside the arena, so that the kernel can only choose addresses in the arena. */
static void fill(int file, unsigned long from, unsigned long to)
{
	if (from < to && mmap((void *)from, to - from, PROT_NONE,
			      MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, file, from) == MAP_FAILED)
		cannot("memory outside the arena cannot be mapped: is there a limit on virtual memory?");
}

static void fill_outside(void)
{
	/* Above vm.mmap_min_addr, and below the end of a process's address space. */
	unsigned long free = 0x10000, last = 0x7ffffffff000, from, to, room;
	int file = memfd_create("outside", MFD_CLOEXEC), maps = open("/proc/self/maps", O_RDONLY);
	static char text[1 << 16];
	long length = 0, more;
	char *line;

	if (file < 0 || maps < 0)
		cannot("no memfd, or no /proc");
	while ((more = read(maps, text + length, sizeof(text) - 1 - length)) > 0)
		length += more;
	close(maps);
	for (line = strtok(text, "\n"); free < last; line = line ? strtok(NULL, "\n") : NULL) {
		if (!line || sscanf(line, "%lx-%lx", &from, &to) != 2)
			from = to = last;
		/* The kernel does not choose an address close below the stack. */
		room = line && strstr(line, "[stack]") ? PAGES(64) : 0;
		if (from > last)
			from = last;
		if (to > last)
			to = last;
		if (free < (unsigned long)PAGE(0) && from - room > (unsigned long)PAGE(ARENA_PAGES)) {
			fill(file, free, PAGE(0));
			free = PAGE(ARENA_PAGES);
		}
		fill(file, free, from - room);
		if (to > free)
			free = to;
	}
	close(file);
}

#endif
static void process0(const struct program *program)
{
	(void)program;
	/* Without the controller's ends of the pipes, all processes end with the controller. */
	for (int i = 0; i < PROCESSES; i++) {
		close(command[i][1]);
		close(reply[i][0]);
		pids[i] = 0;
	}
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
#if USES_TOUCH
	struct sigaction action = { .sa_handler = faulted };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
#endif
#if USES_FILES
	make_file("file0", FILE0);
	make_file("file1", FILE1);
	make_file("readonly", READONLY);
#endif
#if USES_MAP_COUNT
	if (program->map_count >= 0)
		prepare_map_count();
#endif
#if USES_CHOICE
	free(malloc(1 << 14)); /* later allocations take this memory */
	fill_outside();
#endif
#if USES_MAP_COUNT
	if (program->map_count >= 0)
		limit_map_count(program->map_count);
#endif
#if USES_LOCK_LIMIT
	if (program->lock >= 0)
		limit_lock(program->lock);
#endif
#if USES_LOCK
	if (program->lock < 0)
		allow_lock();
#endif
	serve(0);
}

/* ---- in the controller ---- */

static int soft_dirty;          /* smaps shows VM_SOFTDIRTY */
static unsigned long zero_page; /* the frame number of the zero page; 0: it is not shown */

/* Reads from /proc/PID/pagemap the entries of `count` pages from an address on. */
static void read_pagemap(pid_t pid, long address, unsigned long *entries, int count)
{
	char path[64];
	int file;

	memset(entries, 0, count * sizeof(*entries));
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return;
	if (pread(file, entries, count * sizeof(*entries), address / PAGES(1) * 8) < 0)
		memset(entries, 0, count * sizeof(*entries));
	close(file);
}

static unsigned long frame(unsigned long entry)
{
	return entry & ((1UL << 55) - 1);
}

/* Finds out what this kernel shows. */
static void look_around(void)
{
	volatile char *page = mmap(NULL, PAGES(1), PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	FILE *file = fopen("/proc/self/smaps", "r");
	unsigned long entry;
	char line[1024];

	if (page == MAP_FAILED || !file)
		cannot("no memory, or no /proc/PID/smaps");
	while (fgets(line, sizeof(line), file))
		soft_dirty |= !strncmp(line, "VmFlags:", 8) && strstr(line, " sd");
	fclose(file);
	(void)*page;
	read_pagemap(getpid(), (long)page, &entry, 1);
	zero_page = frame(entry);
#if USES_HUGE
	huge_pages = !madvise((void *)page, PAGES(1), MADV_HUGEPAGE);
#endif
#if USES_KSM
	ksm = !madvise((void *)page, PAGES(1), MADV_MERGEABLE);
#endif
	munmap((void *)page, PAGES(1));
#if USES_NORESERVE
	file = fopen("/proc/sys/vm/overcommit_memory", "r");
	noreserve = !file || fgetc(file) != '2';
	if (file)
		fclose(file);
#endif
}

/* The observed memory of each process, in the form of `struct expected`. */
static char memory[PROCESSES][1 << 15];
static size_t length; /* of the text that is being written */

static void add(char *text, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	length += vsnprintf(text + length, sizeof(*memory) - length, format, arguments);
	va_end(arguments);
	if (length >= sizeof(*memory))
		cannot("a process has too many mappings");
}

/* The files of the program, in the order in which they appear. */
static struct file {
	unsigned long device, inode;
	int is_segment; /* its inode number is the id of the segment */
} files[ARENA_PAGES];

static int file_number(const struct file *file)
{
	int n = 0;

	while (n < ARENA_PAGES - 1 && files[n].inode &&
	       (files[n].device != file->device || files[n].inode != file->inode ||
		files[n].is_segment != file->is_segment))
		n++;
	files[n] = *file;
	return n;
}

#if USES_MBIND
/* Returns the policy of a VMA, as /proc/PID/numa_maps shows it. */
static const char *policy_of(int process, long start)
{
	static char policy[32];
	char line[1024];
	long address;
	FILE *file;

	snprintf(line, sizeof(line), "/proc/%d/numa_maps", pids[process]);
	file = fopen(line, "r");
	strcpy(policy, "default");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx %31[^:= \n]", &address, policy) == 2 && address == start)
			break;
		strcpy(policy, "default");
	}
	if (file)
		fclose(file);
	return policy;
}

#endif
/* The counters of a process, and those of process 0 when nothing is mapped in the arena. */
enum { VM_SIZE, VM_LCK, VM_DATA, COUNTERS };
static long base[COUNTERS];

static void read_counters(int process, long *counters)
{
	static const char *const names[COUNTERS] = { "VmSize:", "VmLck:", "VmData:" };
	char line[1024];
	FILE *file;

	snprintf(line, sizeof(line), "/proc/%d/status", pids[process]);
	file = fopen(line, "r");
	while (file && fgets(line, sizeof(line), file))
		for (int i = 0; i < COUNTERS; i++)
			if (!strncmp(line, names[i], strlen(names[i])))
				counters[i] = strtoul(line + strlen(names[i]), NULL, 10) / 4;
	if (file)
		fclose(file);
}

#if USES_MLOCKALL
/* Returns the number of locked pages outside the arena: mlockall() locks them, and may block. */
static long locked_outside(int process)
{
	char line[1024];
	long start, end, pages = 0, locked = 0;
	FILE *file;

	snprintf(line, sizeof(line), "/proc/%d/smaps", pids[process]);
	file = fopen(line, "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx", &start, &end) == 2)
			pages = end <= ARENA || start >= PAGE(ARENA_PAGES) ? (end - start) / PAGES(1) : 0;
		else if (!strncmp(line, "VmFlags:", 8) && strstr(line, " lo"))
			locked += pages;
	}
	if (file)
		fclose(file);
	return locked;
}

#endif
static void add_vmas(int process)
{
	char *text = memory[process], line[1024], at_end[96] = "";
	long start, end, from = 0, to = 0, offset;
	unsigned int major, minor;
	struct file mapped;
	FILE *file;

	snprintf(line, sizeof(line), "/proc/%d/smaps", pids[process]);
	file = fopen(line, "r");
	while (file && fgets(line, sizeof(line), file)) {
		/* The first line of a VMA. Other lines may begin with a digit of an address, too. */
		if (sscanf(line, "%lx-%lx %*s %lx %x:%x %lu", &start, &end, &offset, &major, &minor,
			   &mapped.inode) == 6) {
			from = start;
			to = end;
			if (from >= PAGE(ARENA_PAGES))
				break;
			at_end[0] = 0;
			if (to <= ARENA)
				continue;
			mapped.device = (unsigned long)major << 32 | minor;
			mapped.is_segment = !!strstr(line, "/SYSV");
			if (mapped.inode)
				snprintf(at_end, sizeof(at_end), ", file %d, page %ld",
					 file_number(&mapped), offset / PAGES(1));
#if USES_MBIND
			else if (strcmp(policy_of(process, from), "default"))
				snprintf(at_end, sizeof(at_end), ", policy %s",
					 policy_of(process, from));
#endif
			continue;
		}
		if (strncmp(line, "VmFlags:", 8) || to <= ARENA)
			continue;
		add(text, "\n%ld-%ld", (from - ARENA) / PAGES(1), (to - ARENA) / PAGES(1));
		/* Kernels before 6.12 have no name for VM_LOCKONFAULT. */
		for (char *word = strtok(line + 8, " \n"); word; word = strtok(NULL, " \n"))
			add(text, " %s", strcmp(word, "??") ? word : "lf");
		add(text, "%s", at_end);
	}
	if (file)
		fclose(file);
}

#if USES_VMA_OF
/* Returns the line of the VMA that maps a page of the arena, or NULL. */
static const char *vma_of(int process, long page)
{
	long from, to;

	for (const char *line = strchr(memory[process], '\n'); line; line = strchr(line, '\n')) {
		line++;
		if (sscanf(line, "%ld-%ld", &from, &to) == 2 && from <= page && page < to)
			return line;
	}
	return NULL;
}

static int shows(const char *line, const char *word)
{
	return memmem(line, strcspn(line, "\n"), word, strlen(word)) != NULL;
}

#endif
static void add_anonymous_pages(int process)
{
	const unsigned long present = 1UL << 63, swapped = 1UL << 62, of_file = 1UL << 61;
	static unsigned long pages[ARENA_PAGES + 1];
	int from, to, any = 0;

	read_pagemap(pids[process], ARENA, pages, ARENA_PAGES);
	for (int i = 0; i < ARENA_PAGES; i++) {
		int anonymous = (pages[i] & (present | swapped)) && !(pages[i] & of_file) &&
				frame(pages[i]) != zero_page;
#if USES_WRITEPROTECT
		const unsigned long marker = swapped | 1UL << 57;

		/* A marker of userfaultfd, in place of a protected page of a file, is shown like a page that is swapped out. */
		if (anonymous && (pages[i] & marker) == marker) {
			const char *line = vma_of(process, i);

			anonymous = !line || !shows(line, " sh");
		}
#endif
		pages[i] = anonymous;
	}
	for (from = 0; from < ARENA_PAGES; from = to) {
		for (to = from + 1; pages[from] && pages[to]; to++)
			;
		if (pages[from])
			add(memory[process], "%s %d-%d", any++ ? "" : "\nanonymous", from, to);
	}
}

/* Reads the memory of every process. */
static void observe(void)
{
	for (int i = 0; i < PROCESSES; i++) {
		long now[COUNTERS] = { 0 };

		if (!pids[i])
			continue;
		length = 0;
		read_counters(i, now);
#if USES_MLOCKALL
		/* mlock_fixup() counts the pages of a VMA in an int, which large mappings overflow. */
		now[VM_LCK] = (int)(now[VM_LCK] - locked_outside(i));
#endif
		add(memory[i], "VmSize %ld, VmLck %ld, VmData %ld", now[VM_SIZE] - base[VM_SIZE],
		    now[VM_LCK] - base[VM_LCK], now[VM_DATA] - base[VM_DATA]);
		add_vmas(i);
		if (zero_page)
			add_anonymous_pages(i);
	}
}

/* Returns the part of an expected memory that this kernel shows. */
static const char *shown(const char *expected)
{
	static char text[sizeof(*memory)];
	char *at;

	if (!expected)
		return "";
	snprintf(text, sizeof(text), "%s", expected);
	while (!soft_dirty && (at = strstr(text, " sd")))
		memmove(at, at + 3, strlen(at + 3) + 1);
	at = strstr(text, "\nanonymous");
	if (!zero_page && at)
		*at = 0;
	return text;
}

#if USES_EVENTS
static char messages[1 << 12]; /* the messages of the operation, in the form of `struct expected` */
static int forked;             /* the process that the operation makes */

static void start_monitoring(int process, int number, int context, int adopted)
{
	if (monitors == CONTEXTS * PROCESSES)
		cannot("too many userfaultfd contexts");
	monitored[monitors++] = (struct monitored) { process, number, context, adopted };
}

static long page_of(unsigned long address)
{
	return ((long)address - ARENA) / PAGES(1);
}

/* Adds a message about an event of a context to the messages of the operation. */
static void add_message(const struct monitored *to, const struct uffd_msg *message)
{
	size_t used = strlen(messages);
	char text[64];
	const char *name = message->event == UFFD_EVENT_REMOVE ? "REMOVE" :
			   message->event == UFFD_EVENT_UNMAP ? "UNMAP" : "?";

	if (message->event == UFFD_EVENT_FORK)
		snprintf(text, sizeof(text), "FORK");
	else if (message->event == UFFD_EVENT_REMAP)
		snprintf(text, sizeof(text), "REMAP %ld-%ld to %ld", page_of(message->arg.remap.from),
			 page_of(message->arg.remap.from + message->arg.remap.len),
			 page_of(message->arg.remap.to));
	else
		snprintf(text, sizeof(text), "%s %ld-%ld", name, page_of(message->arg.remove.start),
			 page_of(message->arg.remove.end));
	snprintf(messages + used, sizeof(messages) - used, "%s%s, context %d of process %d",
		 used ? "\n" : "", text, to->number, to->process);
}

/*
 * Reads the messages that there are. A call sends its next message only when the last one was read, so
 * they are read in their order. Returns whether a process waits for a page that nobody fills.
 */
static int read_messages(void)
{
	struct uffd_msg message;

	for (int i = 0; i < monitors; i++)
		while (read(monitored[i].context, &message, sizeof(message)) == sizeof(message)) {
			if (message.event == UFFD_EVENT_PAGEFAULT)
				return 1;
			add_message(&monitored[i], &message);
			/* The context of the child has the number of the context of its parent. */
			if (message.event == UFFD_EVENT_FORK)
				start_monitoring(forked, monitored[i].number, message.arg.fork.ufd, 1);
		}
	return 0;
}

#endif
/* Returns the result that a process writes; BLOCKED if the process sleeps in the call. */
static long answer(int process)
{
	struct pollfd ready[1 + CONTEXTS * PROCESSES] = { { .fd = reply[process][0], .events = POLLIN } };
	char line[512], *state;
	long result;
	FILE *file;

	for (int seconds = 0; seconds < 60;) {
		int count = 1, any;

#if USES_EVENTS
		for (count = 1; count <= monitors; count++)
			ready[count] = (struct pollfd) { .fd = monitored[count - 1].context, .events = POLLIN };
#endif
		any = poll(ready, count, 1000) > 0;
#if USES_EVENTS
		/* The process waits until the message is read. */
		if (any && !ready[0].revents) {
			if (read_messages())
				return BLOCKED;
			continue;
		}
#endif
		if (any)
			goto ready;
		seconds++;
		snprintf(line, sizeof(line), "/proc/%d/stat", pids[process]);
		file = fopen(line, "r");
		if (!file)
			return DIED;
		state = fgets(line, sizeof(line), file);
		fclose(file);
		state = state ? strrchr(line, ')') : NULL;
		if (state && (state[2] == 'S' || state[2] == 'D') && poll(ready, count, 0) == 0)
			return BLOCKED;
	}
	return BLOCKED;
ready:
	return read(reply[process][0], &result, sizeof(result)) == sizeof(result) ? result : DIED;
}

static long ask(int process, const long *call)
{
	if (write(command[process][1], call, sizeof(long[7])) != sizeof(long[7]))
		return DIED;
	return answer(process);
}

#if USES_FORK
static long fork_process(int parent, int limit)
{
	int child = 0;
	long call[7] = { FORK }, result;

	while (child < limit && pids[child])
		child++;
	if (child == limit)
		return -EAGAIN; /* the program's own limit: the kernel is not called */
	call[1] = child;
#if USES_EVENTS
	forked = child;
#endif
	result = ask(parent, call);
#if USES_EVENTS
	if (result <= 0)
		stop_monitoring(child, -1);
#endif
	if (result <= 0)
		return result;
	pids[child] = result;
	return answer(child) ? DIED : child;
}

#endif
#if USES_EXIT
static long exit_process(int process)
{
	long call[7] = { EXIT };

	if (write(command[process][1], call, sizeof(call)) != sizeof(call))
		return DIED;
	for (int i = 0; i < 10000 && !kill(pids[process], 0); i++)
		usleep(1000);
	pids[process] = 0;
#if USES_EVENTS
	stop_monitoring(process, -1);
#endif
	return 0;
}

#endif
#if USES_EVENTS
/* Lets a process open a context with event features, and takes a descriptor of it. */
static long open_context(int process, const long *call)
{
	int handle, context = -1;
	long result;

	stop_monitoring(process, call[1]);
	result = ask(process, call);
	if (result < 0 || !call[2])
		return result < 0 ? result : 0;
	handle = syscall(SYS_pidfd_open, pids[process], 0);
	if (handle >= 0) {
		context = syscall(SYS_pidfd_getfd, handle, result, 0);
		close(handle);
	}
	if (context < 0) {
		lacking = "no pidfd_getfd(), by which the events of userfaultfd are monitored";
		return LACKING;
	}
	start_monitoring(process, call[1], context, 0);
	return 0;
}

/* Returns the context of a process that came with a message about a fork; NULL if there is none. */
static struct monitored *adopted(int process, int number)
{
	for (int i = 0; i < monitors; i++)
		if (monitored[i].adopted && monitored[i].process == process &&
		    monitored[i].number == number)
			return &monitored[i];
	return NULL;
}

#endif
#if USES_WATCHED_TOUCH
/* Returns whether userfaultfd watches for the page, should it be missing, so that an access might block. */
static int watched(int process, long address)
{
	const char *line = vma_of(process, (address - ARENA) / PAGES(1));

	return line && shows(line, " um");
}

#endif
#if USES_WRITEPROTECT
/*
 * Returns whether a private mapping of a file in the range is watched in write-protect mode. Which of its
 * pages are there decides what is protected.
 */
static int protects_private_file(int process, long start, long length)
{
	for (long address = start; address < start + length; address += PAGES(1)) {
		const char *line = vma_of(process, (address - ARENA) / PAGES(1));

		if (line && shows(line, " uw") && shows(line, ", file") && !shows(line, " sh"))
			return 1;
	}
	return 0;
}

#endif
#if USES_SET_LIMIT
/* Gives a process another limit on the memory of the arena, in bytes. */
static long set_limit(int process, int resource, long bytes)
{
	if (!set_rlimit(pids[process], resource, bytes + (resource == RLIMIT_AS ? PAGES(base[VM_SIZE]) : 0)))
		return 0;
	lacking = "a limit of the process cannot be set";
	return LACKING;
}

#endif
#if USES_MLOCKALL
/* Makes a call of mlockall(), which compares the whole address space with the limit on locked pages. */
static long lock_all(const struct program *program, int process, const long *call)
{
	struct rlimit before;
	struct utsname name;
	int major, minor, limited;
	long result;

	/* It unlocks address by address, which takes days for the memory outside the arena. */
	if (!uname(&name) && sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
	    (major < 5 || (major == 5 && minor < 18))) {
		lacking = "before 5.18, mlockall() is not for an address space as large as this one";
		return LACKING;
	}
	prlimit(pids[process], RLIMIT_MEMLOCK, NULL, &before);
	limited = program->lock >= 0 && before.rlim_cur > 0;
	if (limited && set_rlimit(pids[process], RLIMIT_MEMLOCK, before.rlim_cur + PAGES(base[VM_SIZE]))) {
		lacking = "RLIMIT_MEMLOCK cannot be set";
		return LACKING;
	}
	result = ask(process, call);
	if (limited)
		prlimit(pids[process], RLIMIT_MEMLOCK, &before, NULL);
	if (program->lock < 0 && result == -ENOMEM) {
		lacking = "RLIMIT_MEMLOCK is too low for mlockall()";
		return LACKING;
	}
	return result;
}

#endif
#if USES_FREED
static int freed; /* the program has given up pages by MADV_FREE */

#endif
#if USES_CONTENTS
static unsigned int writes; /* the writes of the program that have succeeded */

#endif
static long run(const struct program *program, const struct operation *op)
{
	long call[7];

	(void)program;
	memcpy(call, op->call, sizeof(call));
	if (!pids[op->process])
		return -ESRCH; /* the process does not exist: the kernel is not called */
#if USES_PRLIMIT
	/* With CAP_IPC_LOCK the kernel ignores the limit on locked pages. */
	if (call[0] == PRLIMIT)
		return call[1] == RLIMIT_MEMLOCK && program->lock < 0 ? 0 :
			set_limit(op->process, call[1], call[2]);
#endif
#if USES_FORK
	if (call[0] == FORK)
		return fork_process(op->process, program->processes);
#endif
#if USES_EXIT
	if (call[0] == EXIT)
		return exit_process(op->process);
#endif
#if USES_EVENTS
	if (call[0] == UFFD_OPEN)
		return open_context(op->process, call);
	/* The call acts on the memory of the child, whoever makes it. */
	struct monitored *of_child = adopted(op->process, call[3]);

	if (of_child && call[0] == UFFD_REGISTER)
		return uffd_register(call[1], call[2], &of_child->context, call[4]);
	if (of_child && call[0] == UFFD_UNREGISTER)
		return uffd_unregister(call[1], call[2], of_child->context);
#if USES_WRITEPROTECT
	if (of_child && call[0] == UFFD_WRITEPROTECT)
		return uffd_writeprotect(call[1], call[2], of_child->context, call[4]);
#endif
#endif
#if USES_COPY
	if (call[0] == COPY) {
		if (!pids[call[1]])
			return -ESRCH;
		call[0] = SYS_PROCESS_VM_MMAP;
		call[1] = pids[call[1]];
	}
#endif
#if USES_WRITEPROTECT
	if (call[0] == UFFD_WRITEPROTECT && protects_private_file(op->process, call[1], call[2])) {
		lacking = "the pages of a private file that are there are not known";
		return LACKING;
	}
#endif
#if USES_WATCHED_TOUCH
	if (call[0] == TOUCH && watched(op->process, call[1]))
		return -EAGAIN;
#endif
#if USES_SEGMENT
	if ((call[0] == SYS_shmat || call[0] == SYS_shmctl) && call[1] == SEGMENT)
		call[1] = segment;
#endif
#if USES_HUGE
	/* The expected kernel has no huge pages, and refuses the call. */
	if (call[0] == SYS_madvise && huge_pages &&
	    (call[3] == MADV_HUGEPAGE || call[3] == MADV_NOHUGEPAGE))
		return -EINVAL;
#endif
#if USES_KSM
	if (!ksm && (call[0] == SYS_prctl || (call[0] == SYS_madvise &&
	    (call[3] == MADV_MERGEABLE || call[3] == MADV_UNMERGEABLE)))) {
		lacking = "the kernel has no KSM";
		return LACKING;
	}
#endif
#if USES_FREED
	/*
	 * MADV_FREE lets the kernel drop the pages when it reclaims memory, and MADV_PAGEOUT reclaims them.
	 * The expectation is that they stay. MADV_COLD makes the same checks and has the same results, and
	 * reclaims nothing.
	 */
	if (call[0] == SYS_madvise && call[3] == MADV_FREE)
		freed = 1;
	if (call[0] == SYS_madvise && call[3] == MADV_PAGEOUT && freed)
		call[3] = MADV_COLD;
#endif
#if USES_RECLAIM
	/*
	 * MADV_PAGEOUT drops pages of files that nobody has written, and userfaultfd misses them. The
	 * expectation is that they stay. MADV_COLD reclaims nothing.
	 */
	if (call[0] == SYS_madvise && call[3] == MADV_PAGEOUT)
		call[3] = MADV_COLD;
#endif
#if USES_NORESERVE
	if (call[0] == SYS_mmap && (call[4] & MAP_NORESERVE) && !noreserve) {
		lacking = "vm.overcommit_memory is 2, so MAP_NORESERVE is ignored";
		return LACKING;
	}
#endif
#if USES_MLOCKALL
	if (call[0] == SYS_mlockall && call[1] & MCL_CURRENT)
		return lock_all(program, op->process, call);
#endif
#if USES_CONTENTS
	if (call[0] == TOUCH && call[2]) {
		/* Each write that succeeds writes another value: 1 to 255, then 1 again. */
		long result;

		call[2] = writes % 255 + 1;
		result = ask(op->process, call);
		writes += !result;
		return result;
	}
#endif
	return ask(op->process, call);
}

static const char *result_text(long result)
{
	static const struct { long result; const char *name; } names[] = {
		{ -EPERM, "-EPERM" }, { -ENOENT, "-ENOENT" }, { -ESRCH, "-ESRCH" }, { -EBADF, "-EBADF" },
		{ -EAGAIN, "-EAGAIN" }, { -ENOMEM, "-ENOMEM" }, { -EACCES, "-EACCES" },
		{ -EFAULT, "-EFAULT" }, { -EBUSY, "-EBUSY" }, { -EEXIST, "-EEXIST" },
		{ -ENODEV, "-ENODEV" }, { -EINVAL, "-EINVAL" }, { -EFBIG, "-EFBIG" },
		{ -EOVERFLOW, "-EOVERFLOW" }, { -ENOSYS, "-ENOSYS" }, { -524, "-ENOTSUPP" },
		{ BUS_ERROR, "SIGBUS" }, { BLOCKED, "blocked" }, { DIED, "died" },
		{ NO_UFFD, "not run" }, { NO_EVENTS, "not run" }, { LACKING, "not run" },
	};
	static char text[2][32];
	static int turn;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (names[i].result == result)
			return names[i].name;
	turn = !turn;
	if (result >= ARENA)
		result = (result - ARENA) / PAGES(1);
	snprintf(text[turn], sizeof(text[turn]), "%ld", result);
	return text[turn];
}

/* Returns the expectation of an operation under rules. */
static const struct expected *expectation(const struct operation *op, rule_set rules)
{
#if USES_RULES
	for (const struct expected *later = op->later; later && (later->with | later->without); later++)
		if ((rules & (later->with | later->without)) == later->with)
			return later;
#endif
	(void)rules;
	return &op->expected;
}

#if USES_SEGMENT
static long attached(void)
{
	struct shmid_ds status;

	return shmctl(segment, IPC_STAT, &status) ? -1 : (long)status.shm_nattch;
}

#endif
/* Prints the lines of a memory, or of messages, marking those that `other` does not have. */
static void print_memory(const char *title, const char *text, const char *other)
{
	while (*text) {
		size_t line = strcspn(text, "\n");
		const char *same = other;

		while (*same && (strcspn(same, "\n") != line || strncmp(same, text, line)))
			same = strchr(same, '\n') ? strchr(same, '\n') + 1 : "";
		printf("%10s %c %.*s\n", title, *same ? ' ' : '>', (int)line, text);
		title = "";
		text += line + (text[line] == '\n');
	}
}

/*
 * Returns whether the result and the observed memory are as expected of a kernel. With `print`, says
 * what differs.
 */
static int is_expected(const struct operation *op, long result, const struct kernel *kernel, int print)
{
	const struct expected *expected = expectation(op, kernel->rules);
	int same = result == expected->result;

	if (!same && print)
		printf("differs: expected %s\n", result_text(expected->result));
#if USES_SEGMENT
	if (attached() != expected->attached) {
		if (print)
			printf("differs: shm_nattch is %ld, expected %ld\n", attached(),
			       expected->attached);
		same = 0;
	}
#endif
#if USES_EVENTS
	const char *wanted = expected->messages ? expected->messages : "no message";
	const char *seen = *messages ? messages : "no message";

	if (strcmp(seen, wanted)) {
		if (print) {
			printf("differs: messages of userfaultfd\n");
			print_memory("expected", wanted, seen);
			print_memory("seen", seen, wanted);
		}
		same = 0;
	}
#endif
	for (int i = 0; i < PROCESSES; i++) {
		if (!pids[i] || !strcmp(memory[i], shown(kernel->memory[i])))
			continue;
		if (print) {
			printf("differs: process %d\n", i);
			print_memory("expected", shown(kernel->memory[i]), memory[i]);
			print_memory("seen", memory[i], shown(kernel->memory[i]));
		}
		same = 0;
	}
	return same;
}

#if USES_CONTENTS
/* Reads the pages of each process, and returns whether they have the values that a kernel expects. */
static int has_contents(const struct operation *end, const struct kernel *kernel, int print)
{
	const struct expected *expected = expectation(end, kernel->rules);
	int same = 1;

	for (int i = 0; i < PROCESSES; i++) {
		const char *run = expected->contents[i];
		int page, past, value, length;

		for (; run && sscanf(run, "%d-%d=%d%n", &page, &past, &value, &length) == 3; run += length)
			for (; page < past; page++) {
				long call[7] = { TOUCH, PAGE(page), 0 };
				long result = ask(i, call);

				if (result == value)
					continue;
				same = 0;
				if (print)
					printf("differs: at the end page %d of process %d reads as %s, expected %d\n",
					       page, i, result_text(result), value);
			}
	}
	return same;
}

#endif
static void print_rules(const char *before, rule_set rules)
{
#if USES_RULES
	for (int i = 0; i < RULES; i++)
		if (rules >> i & 1) {
			printf("%s%s", before, rule[i].name);
			before = ", ";
		}
#endif
	(void)before;
	(void)rules;
}

/* Starts process 0, and returns whether it can run the program. */
static int start(const struct program *program)
{
	static int pipes;

	for (int i = 0; i < PROCESSES; i++) {
		for (int end = 0; pipes && end < 2; end++) {
			close(command[i][end]);
			close(reply[i][end]);
		}
		if (pipe(command[i]) || pipe(reply[i]))
			cannot("no pipes");
	}
	pipes = 1;
#if USES_SEGMENT
	/* The segment with the id 0 looks like no file in smaps. */
	for (int id = 0; segment <= 0; segment = id) {
		id = shmget(IPC_PRIVATE, PAGES(4), IPC_CREAT | 0700);
		if (segment == 0)
			shmctl(segment, IPC_RMID, NULL);
		if (id < 0)
			cannot("no SysV shared memory");
	}
#endif
	fflush(stdout);
	pids[0] = fork();
	if (pids[0] == 0)
		process0(program);
	if (pids[0] < 0 || answer(0))
		return 0;
	memset(base, 0, sizeof(base));
	read_counters(0, base);
#if USES_ADDRESS_SPACE
	if (program->address_space >= 0) {
		if (set_limit(0, RLIMIT_AS, PAGES(program->address_space))) {
			printf("cannot be run here: RLIMIT_AS cannot be set\n");
			return 0;
		}
	}
#endif
#if USES_CONTENTS
	writes = 0;
#endif
#if USES_FREED
	freed = 0;
#endif
	memset(files, 0, sizeof(files));
	observe();
	if (strcmp(memory[0], NOTHING)) {
		printf("cannot be run here: something is mapped at 0x100000000\n");
		return 0;
	}
	return 1;
}

/*
 * Runs a program up to the first operation after which no kernel of `kernels` agrees; if it is shown,
 * up to the first operation after which the first kernel does not agree.
 */
static int run_all(const struct program *program, struct kernel *kernels, int count, int is_shown)
{
	rule_set applied = 0;
	int operations = 0;

	for (int k = 0; k < count; k++) {
		memset(kernels[k].memory, 0, sizeof(kernels[k].memory));
		kernels[k].memory[0] = NOTHING;
		kernels[k].agrees = 1;
	}
	if (!start(program))
		return CANNOT;
	while (program->operations[operations].text)
		operations++;
	for (int n = 0; n < operations; n++) {
		const struct operation *op = &program->operations[n];
		const struct expected *first = expectation(op, kernels[0].rules);
#if USES_EVENTS
		*messages = 0;
#endif
		long result = run(program, op);
		int blocks = result == BLOCKED && first->result == -EAGAIN, agree = 0;
		rule_set rules = 0;

#if USES_RULES
		rules = first->with;
#endif
		if (is_shown) {
			printf("%3d  %-55s %s", n + 1, op->text, result_text(result));
			print_rules("  with ", rules & ~applied);
			printf("\n");
		}
		applied |= rules;
		if (result == NO_UFFD)
			lacking = "no userfaultfd: it wants CAP_SYS_PTRACE or "
				  "vm.unprivileged_userfaultfd=1";
		else if (result == NO_EVENTS)
			lacking = "no events of userfaultfd: they want Linux 4.11, and FORK wants "
				  "CAP_SYS_PTRACE";
		else if (result == -ENOSYS && first->result != -ENOSYS)
			lacking = "this kernel does not have the call";
		if (lacking && is_shown) {
			printf("%s; expected is %s\n", lacking, result_text(first->result));
#if USES_COPY
			if (op->call[0] == COPY)
				printf("process_vm_mmap() was never merged: see the head of this file\n");
#endif
			printf("not all run: %d of %d operations, no difference\n", n, operations);
		}
		if (lacking)
			return CANNOT;
		/* In the expectation a call that blocks has the result EAGAIN. */
		if (blocks)
			result = -EAGAIN;
		/* A process that sleeps for another reason may hold a lock that reading /proc wants. */
		if (result != BLOCKED)
			observe();
		for (int k = 0; k < count; k++) {
			const struct expected *expected = expectation(op, kernels[k].rules);

			for (int i = 0; i < PROCESSES; i++)
				if (expected->memory[i])
					kernels[k].memory[i] = expected->memory[i];
			kernels[k].agrees &= is_expected(op, result, &kernels[k], 0);
			agree += kernels[k].agrees;
		}
		if (!agree || (is_shown && !kernels[0].agrees)) {
			if (is_shown)
				is_expected(op, result, &kernels[0], 1);
			return DIFFERS;
		}
		if (blocks && is_shown)
			printf("agrees: it blocks, as expected; %d operations after it are not run\n",
			       operations - n - 1);
		if (blocks)
			return AGREES;
	}
#if USES_CONTENTS
	int agree = 0;

	for (int k = 0; k < count; k++) {
		/* An access under a wrong expectation could block, and then all others would. */
		kernels[k].agrees = kernels[k].agrees &&
			has_contents(&program->operations[operations], &kernels[k], 0);
		agree += kernels[k].agrees;
	}
	if (!agree || (is_shown && !kernels[0].agrees)) {
		if (is_shown)
			has_contents(&program->operations[operations], &kernels[0], 1);
		return DIFFERS;
	}
#endif
	if (is_shown) {
		printf("agrees: %d operations", operations);
		print_rules(", with the rules ", applied);
		printf("\n");
	}
	return AGREES;
}

#if USES_RULES
/*
 * Runs the program of each rule, and returns the rules that hold. `unknown` gets the rules whose
 * programs cannot be run here.
 */
static rule_set probe(rule_set *unknown)
{
	rule_set held = 0;

	for (int i = 0; i < RULES; i++) {
		/* A rule that refines others is seen beside the rules that hold. */
		rule_set beside = rule[i].refines ? held : 0;
		struct kernel kernels[2] = {
			{ .rules = beside }, { .rules = beside | (rule_set)1 << i },
		};
		const char *text = "does not hold";
		int end = AGREES;

		if (rule[i].refines & *unknown) {
			end = CANNOT;
			lacking = "it is unknown whether a rule holds without which it changes nothing";
		} else if (!(rule[i].refines & ~held)) {
			end = run_all(rule[i].program, kernels, 2, 0);
			end_all();
		}
		if (end == CANNOT) {
			*unknown |= (rule_set)1 << i;
			text = lacking ? lacking : "its program cannot be run";
		} else if (end == DIFFERS) {
			text = "differs in another way";
		} else if (kernels[1].agrees && !kernels[0].agrees) {
			held |= (rule_set)1 << i;
			text = "holds";
		}
		lacking = NULL;
		printf("rule %s, %s: %s\n", rule[i].name, rule[i].since, text);
	}
	return held;
}

#endif
static int start_and_run(const struct program *program, int left_out)
{
	struct utsname kernel;
	struct kernel kernels[RULES + 2] = { { .rules = 0 } };
#if USES_RULES
	rule_set unknown = 0;
#endif
	int count = 1, end;

	if (sysconf(_SC_PAGESIZE) != 4096)
		cannot("pages are not 4096 bytes long");
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* A process that exits is reaped at once. */
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	/* An orphan becomes a child of the controller. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	look_around();
#if USES_RULES
	kernels[0].rules = probe(&unknown);
#if USES_RELEASES
	if (!is_release(kernels[0].rules))
		cannot("no release has these rules and no others");
#endif
	/* A difference that goes away with an unknown rule, or with all of them, is undecided. */
	for (int i = 0; i < RULES; i++)
		if (unknown >> i & 1)
			kernels[count++].rules = kernels[0].rules | (rule_set)1 << i;
	if (count > 2)
		kernels[count++].rules = kernels[0].rules | unknown;
#if USES_RELEASES
	for (int k = 1; k < count; k++)
		if (!is_release(kernels[k].rules))
			kernels[k--] = kernels[--count];
#endif
#endif
	end = run_all(program, kernels, count, 1);
	end_all();
	if (end == DIFFERS) {
		if (!uname(&kernel))
			printf("this is Linux %s; expected is Linux 5.2.1", kernel.release);
		print_rules(" with the rules ", kernels[0].rules);
		printf("\n");
		for (int k = 1; k < count; k++)
			if (kernels[k].agrees) {
				print_rules("undecided: there is no difference if these rules hold: ",
					    kernels[k].rules & ~kernels[0].rules);
				printf("\n");
				return CANNOT;
			}
	}
	if (end == AGREES && left_out) {
		printf("not all run: %d operations are left out, see the table\n", left_out);
		return CANNOT;
	}
	return end;
}
