/* Gives a child back the part of its registers that User Mode Linux keeps, and reads a word of its memory. */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned char registers[2696];
static const long word = 4711;

int main(void)
{
	struct iovec part = { registers, sizeof(registers) };
	int child = fork(), status, failed;

	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(child, &status, 0);
	failed = ptrace(PTRACE_GETREGSET, child, NT_X86_XSTATE, &part) ||
		 ptrace(PTRACE_SETREGSET, child, NT_X86_XSTATE, &part);
	failed |= ptrace(PTRACE_PEEKDATA, child, &word, 0) != word;
	errno = 0;
	failed |= ptrace(PTRACE_PEEKDATA, child, 0, 0) != -1 || errno != EIO;
	ptrace(PTRACE_CONT, child, 0, 0);
	waitpid(child, &status, 0);
	return failed || !WIFEXITED(status) || WEXITSTATUS(status);
}
