/*
 * Each fork() has one failing allocation: the first, the second, ... (/proc/self/fail-nth).
 * Needs CONFIG_FAULT_INJECTION, CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC,
 * CONFIG_FAULT_INJECTION_DEBUG_FS, and root.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int put(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY);
	int done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

int main(void)
{
	char text[16], *pages;
	long size = sysconf(_SC_PAGESIZE);
	int n, fd;

	/* As the first process of a kernel. Elsewhere they are there. */
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("proc", "/proc", "proc", 0, "");
	mount("sysfs", "/sys", "sysfs", 0, "");
	mount("debugfs", "/sys/kernel/debug", "debugfs", 0, "");
	if (!put("/sys/kernel/debug/failslab/ignore-gfp-wait", "N") ||
	    !put("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N")) {
		puts("this kernel cannot let allocations fail");
		return 2;
	}
	/* Three mappings that do not merge, each with a page. */
	for (n = 0; n < 3; n++) {
		pages = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		pages[0] = 1;
		mprotect(pages + size, size, PROT_READ);
	}
	fd = open("/proc/self/fail-nth", O_RDWR);
	for (n = 1; n < 1000; n++) {
		pid_t child;

		printf("fork with allocation %d failing\n", n);
		fflush(stdout);
		snprintf(text, sizeof(text), "%d", n);
		if (pwrite(fd, text, strlen(text), 0) < 0)
			break;
		child = fork();
		if (child == 0)
			_exit(0);
		memset(text, 0, sizeof(text));
		if (pread(fd, text, sizeof(text) - 1, 0) < 0)
			break;
		pwrite(fd, "0", 1, 0);
		if (child > 0)
			waitpid(child, NULL, 0);
		/* What is left to count down says that fork() has fewer allocations. */
		if (atoi(text) > 0) {
			printf("fork() has %d allocations, and the kernel lives\n", n - 1);
			break;
		}
	}
	fflush(stdout);
	return 0;
}
