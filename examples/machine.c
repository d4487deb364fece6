/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A machine in C: mmap, munmap and touch of one process, with the behaviour of Linux 5.2.1.
 *
 *   cc -std=c11 -O2 -Wall -Wextra -fPIC -shared -I machine/include examples/machine.c -o machine.so
 *   vmadiff random --right lib:machine.so
 *
 * The lockstep leaves out the operations that this machine does not have, so it agrees with the
 * reference on every program. Change a line and run it again to see the first difference.
 *
 * Without fork and mremap the chain of a VMA is its anon_vma alone, so no chains are kept.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "vmadiff.h"

#define ACCESS (VMADIFF_VM_READ | VMADIFF_VM_WRITE | VMADIFF_VM_EXEC)
#define SPECIAL (VMADIFF_VM_IO | VMADIFF_VM_PFNMAP | VMADIFF_VM_DONTEXPAND)
#define DEVICE (SPECIAL | VMADIFF_VM_DONTDUMP)
#define DEVICE_FILE 4      /* files 1 to 3 are the memfds */
#define FIRST_SHMEM_FILE 5
#define MEMFD_PAGES 4096   /* the length of a memfd */
#define SIGBUS 1000        /* in place of an error: the access is not possible */
#define MAX_WRITES 64      /* a program has no more operations */

/* The value of a page of a file that was written. */
struct file_page {
	uint64_t pgoff;
	uint32_t file;
	uint8_t value;
};

/* One address space. A VMA has the same form as in an observation. */
struct vmadiff_machine {
	struct vmadiff_limits limits;
	struct vmadiff_vma vmas[VMADIFF_MAX_VMAS]; /* in address order */
	unsigned int map_count;
	uint64_t anon_pages[2];
	uint64_t zero_pages[2];
	uint32_t page_ids[VMADIFF_END_PAGES]; /* the last anonymous page at each page, or 0 */
	uint8_t values[VMADIFF_END_PAGES];    /* the value of that page */
	struct file_page file_pages[MAX_WRITES];
	unsigned int file_page_count;
	uint32_t writes;      /* accesses that wrote so far */
	uint32_t anon_vmas;   /* anon_vmas made so far */
	uint32_t shmem_files; /* objects of shared anonymous memory made so far */
	uint32_t opens;       /* calls of vm_ops->open by the operation */
	uint32_t closes;      /* calls of vm_ops->close by the operation */
};

static unsigned int pages(const struct vmadiff_vma *vma)
{
	return vma->end - vma->start;
}

static int private_writable(const struct vmadiff_vma *vma)
{
	return (vma->flags & (VMADIFF_VM_WRITE | VMADIFF_VM_SHARED)) == VMADIFF_VM_WRITE;
}

/* Returns the index of the first VMA that ends after `page` (find_vma()). */
static unsigned int find_vma(const struct vmadiff_machine *m, unsigned int page)
{
	unsigned int i = 0;

	while (i < m->map_count && m->vmas[i].end <= page)
		i++;
	return i;
}

/* Moves the VMAs from index `from` on to index `to`. */
static void move_vmas(struct vmadiff_machine *m, unsigned int to, unsigned int from)
{
	memmove(&m->vmas[to], &m->vmas[from], (m->map_count - from) * sizeof(m->vmas[0]));
	m->map_count = m->map_count - from + to;
}

/* Cuts VMA `i` in two at `page`, which lies inside it (__split_vma()). */
static void split_vma(struct vmadiff_machine *m, unsigned int i, unsigned int page)
{
	move_vmas(m, i + 1, i);
	m->vmas[i].end = page;
	m->vmas[i + 1].pgoff += page - m->vmas[i + 1].start;
	m->vmas[i + 1].start = page;
	m->opens += m->vmas[i + 1].close;
}

/* Unmaps the pages from `start` to `end` (__do_munmap()). */
static int unmap(struct vmadiff_machine *m, unsigned int start, unsigned int end)
{
	unsigned int first = find_vma(m, start), last;

	if (first < m->map_count && m->vmas[first].start < start) {
		/* At the limit, only a hole inside one VMA is refused: it makes two VMAs of one. */
		if (end < m->vmas[first].end && m->map_count >= m->limits.map_count)
			return ENOMEM;
		split_vma(m, first++, start);
	}
	last = find_vma(m, end);
	if (last < m->map_count && m->vmas[last].start < end)
		split_vma(m, last++, end);
	for (unsigned int i = first; i < last; i++)
		m->closes += m->vmas[i].close;
	move_vmas(m, first, last);
	for (; start < end; start++) {
		m->anon_pages[start / 64] &= ~(1ull << start % 64);
		m->zero_pages[start / 64] &= ~(1ull << start % 64);
	}
	return 0;
}

/* Returns whether `b` continues `a`: they are neighbours of the same file, their page offsets
 * match, and their flags differ only in `may_differ`. */
static int continues(const struct vmadiff_vma *a, const struct vmadiff_vma *b, uint32_t may_differ)
{
	return a->end == b->start && a->file == b->file && a->pgoff + pages(a) == b->pgoff &&
	       !((a->flags ^ b->flags) & ~may_differ);
}

/* Gives VMA `i` an anon_vma if it has none: the anon_vma of a neighbour with which an mprotect()
 * could merge it, or a new anon_vma (anon_vma_prepare(), find_mergeable_anon_vma()). */
static void anon_vma_prepare(struct vmadiff_machine *m, unsigned int i)
{
	struct vmadiff_vma *vma = &m->vmas[i];

	if (!vma->anon_vma && i + 1 < m->map_count && continues(vma, vma + 1, ACCESS))
		vma->anon_vma = vma[1].anon_vma;
	if (!vma->anon_vma && i > 0 && continues(vma - 1, vma, ACCESS))
		vma->anon_vma = vma[-1].anon_vma;
	if (!vma->anon_vma)
		vma->anon_vma = ++m->anon_vmas;
	vma->chain_count = 1;
}

/* Returns the value of `page` of VMA `i` for reading and writing. Pages that were never written share
 * one value, which is 0. */
static uint8_t *value_of(struct vmadiff_machine *m, unsigned int i, unsigned int page, int write)
{
	static uint8_t zero;
	const struct vmadiff_vma *vma = &m->vmas[i];
	uint64_t pgoff = vma->pgoff + page - vma->start;
	struct file_page *of = m->file_pages, *end = of + m->file_page_count;

	zero = 0;
	if (m->anon_pages[page / 64] >> page % 64 & 1)
		return &m->values[page];
	if (!vma->file || vma->file == DEVICE_FILE)
		return &zero;
	while (of < end && (of->file != vma->file || of->pgoff != pgoff))
		of++;
	if (of < end)
		return &of->value;
	if (!write || m->file_page_count == MAX_WRITES)
		return &zero;
	*of = (struct file_page){ .pgoff = pgoff, .file = vma->file };
	m->file_page_count++;
	return &of->value;
}

/* Returns whether `page` of the VMA lies past the end of its file. The memfds, 1 to 3, are short. */
static int past_end(const struct vmadiff_vma *vma, unsigned int page)
{
	return vma->file && vma->file <= 3 && vma->pgoff + page - vma->start >= MEMFD_PAGES;
}

/* Accesses `page` of VMA `i` (handle_mm_fault()). A write gives private memory an anonymous page; a
 * read gives anonymous memory the zero page. Other accesses change nothing that is shown. Past the end
 * of a file there is no page. */
static int fault(struct vmadiff_machine *m, unsigned int i, unsigned int page, int write)
{
	uint64_t bit = 1ull << page % 64;
	int copies = write && private_writable(&m->vmas[i]);

	if (m->anon_pages[page / 64] & bit)
		return 0;
	if (copies)
		anon_vma_prepare(m, i);
	if (past_end(&m->vmas[i], page))
		return SIGBUS;
	if (copies) {
		/* The page begins with what was read there. Each place has two numbers in turn: the
		 * number of a page that this operation has freed must not be used again at once. */
		m->values[page] = *value_of(m, i, page, 0);
		m->page_ids[page] = 2 * page + 1 + (m->page_ids[page] == 2 * page + 1);
		m->anon_pages[page / 64] |= bit;
		m->zero_pages[page / 64] &= ~bit;
	} else if (!m->vmas[i].file) {
		m->zero_pages[page / 64] |= bit;
	}
	return 0;
}

/* Maps `new` into a hole: as part of its neighbours if the merge rule allows it (vma_merge()), or
 * as a VMA of its own. */
static void vma_merge(struct vmadiff_machine *m, const struct vmadiff_vma *new)
{
	unsigned int i = find_vma(m, new->start);
	struct vmadiff_vma *prev = i ? &m->vmas[i - 1] : NULL;
	struct vmadiff_vma *next = &m->vmas[i];
	int special = new->flags & SPECIAL;
	int left = !special && prev && continues(prev, new, 0);
	int right = !special && i < m->map_count && continues(new, next, 0);

	if (left && right && prev->anon_vma && next->anon_vma && prev->anon_vma != next->anon_vma)
		right = 0;
	if (left && right) {
		prev->end = next->end;
		if (!prev->anon_vma) {
			prev->anon_vma = next->anon_vma;
			prev->chain_count = next->chain_count;
		}
		move_vmas(m, i, i + 1);
	} else if (left) {
		prev->end = new->end;
	} else if (right) {
		next->start = new->start;
		next->pgoff = new->pgoff;
	} else {
		move_vmas(m, i + 1, i);
		m->vmas[i] = *new;
	}
}

/* Returns the page of the file that the operand names. */
static uint64_t file_page(uint8_t pgoff)
{
	return pgoff < 240 ? pgoff : VMADIFF_TOP_PAGE - (255 - pgoff);
}

/* Maps the range (do_mmap(), mmap_region()). */
static int do_mmap(struct vmadiff_machine *m, const struct vmadiff_mmap *op)
{
	unsigned int start = op->page, end = op->page + op->len, i;
	unsigned int total = op->len, locked = op->len;
	struct vmadiff_vma new = { .start = start, .end = end, .pgoff = file_page(op->pgoff) };
	int error;

	if (!op->len)
		return EINVAL;
	if (m->map_count > m->limits.map_count)
		return ENOMEM;
	i = find_vma(m, start);
	if (op->flags & VMADIFF_MAP_FIXED_NOREPLACE && i < m->map_count && m->vmas[i].start < end)
		return EEXIST;
	for (i = 0; i < m->map_count; i++) {
		unsigned int from = m->vmas[i].start, to = m->vmas[i].end;

		if (m->vmas[i].flags & VMADIFF_VM_LOCKED)
			locked += to - from;
		/* Replaced pages do not count towards the limit. */
		for (; from < to; from++)
			total += from < start || from >= end;
	}
	if (op->flags & VMADIFF_MAP_LOCKED && !m->limits.lock)
		return EPERM;
	if (op->flags & VMADIFF_MAP_LOCKED && locked > m->limits.lock)
		return EAGAIN;
	if (op->kind != VMADIFF_ANON_PRIVATE && op->kind != VMADIFF_ANON_SHARED &&
	    op->kind != VMADIFF_SPECIAL && new.pgoff + op->len > VMADIFF_TOP_PAGE)
		return EOVERFLOW;
	if (op->kind == VMADIFF_READONLY_SHARED && op->prot & VMADIFF_PROT_WRITE)
		return EACCES;
	if (total > m->limits.address_space)
		return ENOMEM;
	error = unmap(m, start, end);
	if (error)
		return error;

	new.flags = op->prot | VMADIFF_VM_MAYREAD | VMADIFF_VM_MAYWRITE | VMADIFF_VM_MAYEXEC |
		    VMADIFF_VM_SOFTDIRTY;
	switch (op->kind) {
	case VMADIFF_ANON_PRIVATE:
		new.pgoff = VMADIFF_ARENA_START + start;
		break;
	case VMADIFF_ANON_SHARED:
		new.pgoff = 0;
		new.file = FIRST_SHMEM_FILE + m->shmem_files++;
		break;
	case VMADIFF_FILE0_PRIVATE:
	case VMADIFF_FILE0_SHARED:
		new.file = 1;
		break;
	case VMADIFF_FILE1_PRIVATE:
	case VMADIFF_FILE1_SHARED:
		new.file = 2;
		break;
	case VMADIFF_READONLY_SHARED:
		new.file = 3;
		new.flags |= VMADIFF_VM_MAYSHARE;
		new.flags &= ~VMADIFF_VM_MAYWRITE;
		break;
	case VMADIFF_SPECIAL:
		new.file = 4;
		new.flags |= DEVICE;
		new.close = 1;
		break;
	}
	if (op->kind == VMADIFF_ANON_SHARED || op->kind == VMADIFF_FILE0_SHARED ||
	    op->kind == VMADIFF_FILE1_SHARED || op->kind == VMADIFF_SPECIAL)
		new.flags |= VMADIFF_VM_SHARED | VMADIFF_VM_MAYSHARE;
	if (op->flags & VMADIFF_MAP_NORESERVE)
		new.flags |= VMADIFF_VM_NORESERVE;
	else if (private_writable(&new))
		new.flags |= VMADIFF_VM_ACCOUNT;
	if (op->flags & VMADIFF_MAP_LOCKED && op->kind != VMADIFF_SPECIAL)
		new.flags |= VMADIFF_VM_LOCKED;
	vma_merge(m, &new);
	if (new.flags & VMADIFF_VM_LOCKED ||
	    (op->flags & VMADIFF_MAP_POPULATE && op->kind != VMADIFF_SPECIAL))
		for (i = find_vma(m, start); start < end; start++)
			if (m->vmas[i].flags & ACCESS)
				fault(m, i, start, private_writable(&m->vmas[i]));
	return 0;
}

static int do_munmap(struct vmadiff_machine *m, const struct vmadiff_munmap *op)
{
	return op->len ? unmap(m, op->page, op->page + op->len) : EINVAL;
}

static int do_touch(struct vmadiff_machine *m, const struct vmadiff_touch *op, uint32_t *read)
{
	unsigned int i = find_vma(m, op->page);

	if (i == m->map_count || m->vmas[i].start > op->page)
		return EFAULT;
	if (!(m->vmas[i].flags & (op->access ? VMADIFF_VM_WRITE : ACCESS)))
		return EFAULT;
	if (fault(m, i, op->page, op->access))
		return SIGBUS;
	if (op->access)
		*value_of(m, i, op->page, 1) = m->writes++ % 255 + 1;
	else
		*read = VMADIFF_READ | *value_of(m, i, op->page, 0);
	return 0;
}

/* Writes the observation of process 0, with its counters. */
static void show(const struct vmadiff_machine *m, struct vmadiff_observation *seen)
{
	struct vmadiff_space *space = &seen->spaces[0];

	memset(space, 0, offsetof(struct vmadiff_space, vmas));
	space->alive = 1;
	space->vma_count = m->map_count;
	space->map_count = m->map_count;
	memcpy(space->anon_pages, m->anon_pages, sizeof(m->anon_pages));
	memcpy(space->zero_pages, m->zero_pages, sizeof(m->zero_pages));
	/* Without fork and mprotect, every anonymous page is mapped once and may be written. */
	memcpy(space->writable_ptes, m->anon_pages, sizeof(m->anon_pages));
	memcpy(space->page_ids, m->page_ids, sizeof(m->page_ids));
	for (unsigned int i = 0; i < m->map_count; i++) {
		const struct vmadiff_vma *vma = &m->vmas[i];

		space->vmas[i] = *vma;
		if (vma->anon_vma)
			space->chain[space->chain_count++] = vma->anon_vma;
		space->total_vm += pages(vma);
		if (vma->flags & VMADIFF_VM_LOCKED)
			space->locked_vm += pages(vma);
		if (private_writable(vma))
			space->data_vm += pages(vma);
		if (vma->flags & VMADIFF_VM_ACCOUNT)
			seen->committed += pages(vma);
	}
}

uint32_t vmadiff_abi_version(void)
{
	return VMADIFF_ABI_VERSION;
}

struct vmadiff_machine *vmadiff_new(void)
{
	struct vmadiff_machine *m = calloc(1, sizeof(*m));

	if (m)
		memset(&m->limits, 0xff, sizeof(m->limits)); /* VMADIFF_NO_LIMIT */
	return m;
}

void vmadiff_free(struct vmadiff_machine *m)
{
	free(m);
}

void vmadiff_name(const struct vmadiff_machine *m, char name[VMADIFF_NAME_BYTES])
{
	(void)m;
	strcpy(name, "c-example");
}

uint64_t vmadiff_operations(const struct vmadiff_machine *m)
{
	(void)m;
	return 1 << VMADIFF_MMAP | 1 << VMADIFF_MUNMAP | 1 << VMADIFF_TOUCH;
}

void vmadiff_reset(struct vmadiff_machine *m, const struct vmadiff_limits *limits)
{
	memset(m, 0, sizeof(*m));
	m->limits = *limits;
}

void vmadiff_step(struct vmadiff_machine *m, const struct vmadiff_op *op,
		  struct vmadiff_observation *seen)
{
	memset(seen, 0, offsetof(struct vmadiff_observation, events));
	seen->changed = 1;
	m->opens = m->closes = 0;
	if (op->u.process != 0) {
		seen->error = ESRCH; /* without fork only process 0 exists */
		goto out;
	}
	switch (op->opcode) {
	case VMADIFF_MMAP:
		seen->error = do_mmap(m, &op->u.mmap);
		seen->value = seen->error ? 0 : op->u.mmap.page;
		break;
	case VMADIFF_MUNMAP:
		seen->error = do_munmap(m, &op->u.munmap);
		break;
	case VMADIFF_TOUCH:
		seen->error = do_touch(m, &op->u.touch, &seen->read);
		break;
	default:
		seen->error = ENOSYS;
	}
out:
	seen->opens = m->opens;
	seen->closes = m->closes;
	show(m, seen);
}
