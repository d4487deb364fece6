#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
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

/* Operations that are not one system call. They stand in place of the call's number. */
enum { TOUCH = -1000, FORK, EXIT, UFFD_REGISTER, UFFD_UNREGISTER, COPY };

/* Results that no system call returns. */
enum {
	BUS_ERROR = -1000,   /* the access raised SIGBUS */
	BLOCKED = -2000,     /* the process sleeps in the call */
	NO_UFFD = -2001,     /* this kernel allows no userfaultfd */
	DIED = -2002,        /* the process has ended */
	NOT_CHECKED = -2003, /* in an expectation: any result is right */
};

struct operation {
	const char *text;              /* the text form */
	int process;                   /* the process that makes the call */
	long call[7];                  /* the number and the arguments */
	long result;                   /* the expected result, negative for an error */
	const char *layout[PROCESSES]; /* the expected mappings afterwards; NULL: unchanged */
#if USES_RULES
	const struct later *later;     /* the other behaviours of later kernels */
#endif
};

#if USES_RULES
/*
 * Kernel 0 is Linux 5.2.1. Each other kernel is 5.2.1 with the rules of later kernels that its name
 * lists. `possible` is the set of the kernels that agree with all results so far.
 */
#define KERNEL(n) (1u << (n))
static const char *const kernels[] = KERNELS;
static unsigned int possible = ~0u;

struct later {
	unsigned int kernels;          /* the kernels that behave so, as a set */
	long result;
	const char *layout[PROCESSES]; /* the mappings of every process */
};

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

static _Noreturn void quit(int status)
{
	for (int i = 0; i < PROCESSES; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGKILL);
#if USES_SEGMENT
	shmctl(segment, IPC_RMID, NULL);
#endif
	exit(status);
}

static _Noreturn void cannot(const char *what)
{
	printf("cannot be run here: %s\n", what);
	quit(77);
}

/* ---- in a process of the program: this code allocates no memory ---- */

#if USES_TOUCH
static sigjmp_buf fault;

static void faulted(int signal)
{
	siglongjmp(fault, signal);
}

static long touch(volatile char *page, int write)
{
	int signal = sigsetjmp(fault, 1);

	if (signal)
		return signal == SIGBUS ? BUS_ERROR : -EFAULT;
	if (write)
		*page = 1;
	else
		(void)*page;
	return 0;
}

#endif
#if USES_UFFD
static int contexts[2] = { -1, -1 };

static long uffd_register(long start, long length, int *context)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { .start = start, .len = length }, .mode = UFFDIO_REGISTER_MODE_MISSING,
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
static long perform(const long *call)
{
	long result;

#if USES_TOUCH
	if (call[0] == TOUCH)
		return touch((volatile char *)call[1], call[2]);
#endif
#if USES_UFFD
	if (call[0] == UFFD_REGISTER)
		return uffd_register(call[1], call[2], &contexts[call[3]]);
	if (call[0] == UFFD_UNREGISTER)
		return uffd_unregister(call[1], call[2], contexts[call[3]]);
#endif
	result = syscall(call[0], call[1], call[2], call[3], call[4], call[5], call[6]);
	return result == -1 ? -errno : result;
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
			for (int i = 0; i < 2; i++) {
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
#if USES_ADDRESS_SPACE
static void limit_address_space(long pages)
{
	struct rlimit limit;
	long now = 0;
	FILE *file = fopen("/proc/self/statm", "r");

	if (!file || fscanf(file, "%ld", &now) != 1)
		cannot("/proc/self/statm is not readable");
	fclose(file);
	limit.rlim_cur = limit.rlim_max = PAGES(now + pages);
	if (setrlimit(RLIMIT_AS, &limit))
		cannot("RLIMIT_AS cannot be set");
}

#endif
#if USES_LOCK_LIMIT
/* Sets RLIMIT_MEMLOCK and drops CAP_IPC_LOCK, with which the kernel ignores the limit. */
static void limit_lock(long pages)
{
	struct rlimit limit = { PAGES(pages), PAGES(pages) };
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	if (setrlimit(RLIMIT_MEMLOCK, &limit) || syscall(SYS_capget, &header, data))
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
static void process0(void)
{
	/* Without the controller's ends of the pipes, all processes end with the controller. */
	for (int i = 0; i < PROCESSES; i++) {
		close(command[i][1]);
		close(reply[i][0]);
	}
#if USES_TOUCH
	struct sigaction action = { .sa_handler = faulted };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
#endif
#if USES_PKEYS
	/* With all protection keys in use, memory that may only be executed can be read. */
	while (syscall(SYS_pkey_alloc, 0, 0) > 0)
		;
#endif
#if USES_FILES
	make_file("file0", FILE0);
	make_file("file1", FILE1);
	make_file("readonly", READONLY);
#endif
#if USES_LOCK
	allow_lock();
#endif
#if USES_MAP_COUNT
	prepare_map_count();
#endif
#if USES_CHOICE
	free(malloc(1 << 14)); /* later allocations take this memory */
	fill_outside();
#endif
#if USES_MAP_COUNT
	limit_map_count(LIMIT_MAP_COUNT);
#endif
#if USES_LOCK_LIMIT
	limit_lock(LIMIT_LOCK);
#endif
#if USES_ADDRESS_SPACE
	limit_address_space(LIMIT_ADDRESS_SPACE);
#endif
	serve(0);
}

/* ---- in the controller ---- */

/*
 * Returns the mappings of a process in the arena, as ranges of equal pages. The VMAs of the pages
 * do not matter. A range has its first page and one past its last page, its permissions, and its flags
 * as /proc/PID/smaps abbreviates them.
 */
static const char *layout_of(int process)
{
	static const char *const flags[] = FLAGS;
	static char pages[ARENA_PAGES][64], text[ARENA_PAGES * 80];
	char line[1024], here[64], permissions[5];
	long start = 0, end = 0, from, to;
	size_t length = 0;
	FILE *file;

	memset(pages, 0, sizeof(pages));
	snprintf(line, sizeof(line), "/proc/%d/smaps", pids[process]);
	file = fopen(line, "r");
	if (!file)
		return "cannot be read";
	while (fgets(line, sizeof(line), file)) {
		/* The first line of a VMA. The permissions tell it from lines that begin like an address. */
		if (sscanf(line, "%lx-%lx %4s", &from, &to, permissions) == 3) {
			if (from >= PAGE(ARENA_PAGES))
				break;
			start = from;
			end = to;
			continue;
		}
		if (strncmp(line, "VmFlags:", 8) || end <= ARENA)
			continue;
		strcpy(here, permissions);
		for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
			char spaced[8];

			snprintf(spaced, sizeof(spaced), " %s ", flags[i]);
			if (strstr(line, spaced))
				strcat(strcat(here, " "), flags[i]);
		}
		for (long page = start; page < end; page += PAGES(1))
			if (page >= ARENA && page < PAGE(ARENA_PAGES))
				strcpy(pages[(page - ARENA) / PAGES(1)], here);
	}
	fclose(file);
	text[0] = 0;
	for (from = 0; from < ARENA_PAGES; from = to) {
		for (to = from + 1; to < ARENA_PAGES && !strcmp(pages[from], pages[to]); to++)
			;
		if (pages[from][0])
			length += snprintf(text + length, sizeof(text) - length, "%s%ld-%ld %s",
					   length ? ", " : "", from, to, pages[from]);
	}
	return text;
}

/* Returns the result that a process writes; BLOCKED if the process sleeps in the call. */
static long answer(int process)
{
	struct pollfd ready = { .fd = reply[process][0], .events = POLLIN };
	char line[512], *state;
	long result;
	FILE *file;

	for (int seconds = 0; seconds < 60; seconds++) {
		if (poll(&ready, 1, 1000) > 0)
			goto ready;
		snprintf(line, sizeof(line), "/proc/%d/stat", pids[process]);
		file = fopen(line, "r");
		if (!file)
			return DIED;
		state = fgets(line, sizeof(line), file);
		fclose(file);
		state = state ? strrchr(line, ')') : NULL;
		if (state && (state[2] == 'S' || state[2] == 'D') && poll(&ready, 1, 0) == 0)
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
static long fork_process(int parent)
{
	int child = 0;
	long call[7] = { FORK }, result;

	while (child < LIMIT_PROCESSES && pids[child])
		child++;
	if (child == LIMIT_PROCESSES)
		return -EAGAIN; /* the program's own limit: the kernel is not called */
	call[1] = child;
	result = ask(parent, call);
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
	return 0;
}

#endif
#if USES_WATCHED_TOUCH
/* Returns whether userfaultfd watches the page, so that an access might block. */
static int watched(int process, long page)
{
	unsigned int from, to, at = (page - ARENA) / PAGES(1);
	const char *part = layout_of(process);

	for (; part; part = strchr(part, ',')) {
		part += strspn(part, ", ");
		if (sscanf(part, "%u-%u", &from, &to) == 2 && from <= at && at < to) {
			const char *um = strstr(part, " um");

			return um && um < part + strcspn(part, ",");
		}
	}
	return 0;
}

#endif
static long run(const struct operation *op)
{
	long call[7];

	memcpy(call, op->call, sizeof(call));
	if (!pids[op->process])
		return -ESRCH; /* the process does not exist: the kernel is not called */
#if USES_FORK
	if (call[0] == FORK)
		return fork_process(op->process);
#endif
#if USES_EXIT
	if (call[0] == EXIT)
		return exit_process(op->process);
#endif
#if USES_COPY
	if (call[0] == COPY) {
		if (!pids[call[1]])
			return -ESRCH;
		call[0] = SYS_PROCESS_VM_MMAP;
		call[1] = pids[call[1]];
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
	return ask(op->process, call);
}

static const char *result_text(long result)
{
	static const struct { long result; const char *name; } names[] = {
		{ -EPERM, "-EPERM" }, { -ESRCH, "-ESRCH" }, { -EBADF, "-EBADF" },
		{ -EAGAIN, "-EAGAIN" }, { -ENOMEM, "-ENOMEM" }, { -EACCES, "-EACCES" },
		{ -EFAULT, "-EFAULT" }, { -EBUSY, "-EBUSY" }, { -EEXIST, "-EEXIST" },
		{ -EINVAL, "-EINVAL" }, { -ENOSYS, "-ENOSYS" }, { -524, "-ENOTSUPP" },
		{ BUS_ERROR, "SIGBUS" }, { BLOCKED, "blocked" }, { DIED, "died" },
		{ NO_UFFD, "no userfaultfd" },
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

#if USES_RULES
static int is_as(long result, long wanted, const char *const *layout)
{
	if (wanted != NOT_CHECKED && result != wanted)
		return 0;
	for (int i = 0; i < PROCESSES; i++)
		if (pids[i] && strcmp(layout_of(i), layout[i] ? layout[i] : ""))
			return 0;
	return 1;
}

/* Returns the name of the first possible kernel. */
static const char *kernel(void)
{
	int n = 0;

	while (!(possible & KERNEL(n)))
		n++;
	return kernels[n];
}

/* Removes the kernels that disagree with the result, and returns whether a kernel is left. */
static int is_possible(const struct operation *op, long result, const char *const *expected)
{
	unsigned int listed = 0, fit = 0, before = possible;

	for (const struct later *later = op->later; later && later->kernels; later++) {
		listed |= later->kernels;
		if (is_as(result, later->result, later->layout))
			fit |= later->kernels;
	}
	if (is_as(result, op->result, expected))
		fit |= ~listed;
	for (size_t n = sizeof(kernels) / sizeof(*kernels); n < 32; n++)
		fit &= ~KERNEL(n);
	if (!(possible & fit))
		return 0;
	possible &= fit;
	if (possible != before && !(possible & ~listed))
		printf("     as with the rules %s\n", kernel());
	return 1;
}

#endif
static int differs(void)
{
	struct utsname kernel;

	if (!uname(&kernel))
		printf("expected is what 5.2.1 does, this is %s\n", kernel.release);
	return 1;
}

/* Runs the program up to the first difference, and prints the results. */
static int run_all(const struct operation *program, int left_out)
{
	const char *expected[PROCESSES] = { "", "", "", "", "", "", "", "" };
	int count = 0, unchecked = 0;

	while (program[count].text)
		count++;

	for (int n = 0; n < count; n++) {
		const struct operation *op = &program[n];
		long result = run(op);
		int blocks = op->result == -EAGAIN && result == BLOCKED;

		printf("%3d  %-55s %s\n", n + 1, op->text, result_text(result));
		if (result == NO_UFFD)
			cannot("no userfaultfd: it wants CAP_SYS_PTRACE or vm.unprivileged_userfaultfd=1");
		if (result == -ENOSYS) {
			printf("this kernel does not have the call; expected is %s\n",
			       result_text(op->result));
#if USES_COPY
			if (op->call[0] == COPY)
				printf("process_vm_mmap() was never merged: see the head of this file\n");
#endif
			printf("not all run: %d of %d operations, no difference\n", n, count);
			return 77;
		}
		for (int i = 0; i < PROCESSES; i++)
			if (op->layout[i])
				expected[i] = op->layout[i];
		if (op->result == NOT_CHECKED)
			unchecked++;
#if USES_RULES
		if (!blocks && is_possible(op, result, expected))
			continue;
#endif
		if (op->result != NOT_CHECKED && result != op->result && !blocks) {
			printf("differs: expected %s\n", result_text(op->result));
			return differs();
		}
		if (blocks) {
			printf("agrees: it blocks, as expected; %d operations after it are not run\n",
			       count - n - 1);
			return 0;
		}
		for (int i = 0; i < PROCESSES; i++) {
			const char *layout;

			if (!pids[i])
				continue;
			layout = layout_of(i);
			if (strcmp(layout, expected[i])) {
				printf("differs: process %d has    %s\n"
				       "         expected is      %s\n", i, layout, expected[i]);
				return differs();
			}
		}
#if USES_RULES
		printf("differs: as Linux 5.2.1, but before as with the rules %s\n", kernel());
		return differs();
#endif
	}
	printf("agrees: %d operations", count);
	if (unchecked)
		printf(", the result of %d not checked", unchecked);
#if USES_RULES
	if (!(possible & KERNEL(0)))
		printf(", with the rules %s", kernel());
#endif
	printf("\n");
	if (left_out)
		printf("not all run: %d operations are left out, see the table\n", left_out);
	return left_out ? 77 : 0;
}

static int start_and_run(const struct operation *program, int left_out)
{
	if (sysconf(_SC_PAGESIZE) != 4096)
		cannot("pages are not 4096 bytes long");
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* A process that exits is reaped at once. */
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	/* An orphan becomes a child of the controller. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (int i = 0; i < PROCESSES; i++)
		if (pipe(command[i]) || pipe(reply[i]))
			cannot("no pipes");
#if USES_SEGMENT
	segment = shmget(IPC_PRIVATE, PAGES(4), IPC_CREAT | 0700);
	if (segment < 0)
		cannot("no SysV shared memory");
#endif
	pids[0] = fork();
	if (pids[0] == 0)
		process0();
	if (pids[0] < 0 || answer(0))
		quit(77);
	if (layout_of(0)[0])
		cannot("something is mapped at 0x100000000");
	return run_all(program, left_out);
}
