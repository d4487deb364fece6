/*
 * Loaded before User Mode Linux. Its buffer for the registers of the vector units has 2,696 bytes in 5.10, 6.1 and
 * 6.12. A processor with tiles (AMX) has more registers, and PTRACE_SETREGSET takes all of them or none. Zeros follow
 * the buffer here: the mask at its byte 512 says that the registers there have their first values.
 */
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

long ptrace(enum __ptrace_request request, ...)
{
	static _Thread_local unsigned char all[16384];
	struct iovec whole = { all, sizeof(all) };
	long pid, address, data, result, word;
	va_list arguments;

	va_start(arguments, request);
	pid = va_arg(arguments, long);
	address = va_arg(arguments, long);
	data = va_arg(arguments, long);
	va_end(arguments);
	if (request == PTRACE_SETREGSET && address == NT_X86_XSTATE) {
		const struct iovec *part = (const struct iovec *)data;

		if (part->iov_len < sizeof(all)) {
			memcpy(all, part->iov_base, part->iov_len);
			data = (long)&whole;
		}
	}
	if (request != PTRACE_PEEKTEXT && request != PTRACE_PEEKDATA && request != PTRACE_PEEKUSER)
		return syscall(SYS_ptrace, request, pid, address, data);
	/* The C library returns the word, and tells an error by errno alone. */
	result = syscall(SYS_ptrace, request, pid, address, &word);
	if (result < 0)
		return result;
	errno = 0;
	return word;
}
