// commit: “mm: Extend copy_vma()” of May 2019, patch 2 of 7 of “mm: process_vm_mmap()”, v2, carried to 6.12
// carries: copy_vma() into another address space, and without flags and userfaultfd context
// build: --process-vm-mmap 470, after process_vm_mmap.patch
// files: mm/vma.c mm/vma.h mm/mremap.c
@@
identifier F =~ "^copy_vma$";
identifier vmap, addr, len, pgoff, locks, keep, mm;
@@
 struct vm_area_struct *F(struct vm_area_struct **vmap,
+	struct mm_struct *mm, bool clear_flags_ctx,
	unsigned long addr, unsigned long len, pgoff_t pgoff, bool *locks, bool keep)
 {
 ...
-	struct mm_struct *mm = vma->vm_mm;
+	struct vm_userfaultfd_ctx ctx = clear_flags_ctx ? NULL_VM_UFFD_CTX : vma->vm_userfaultfd_ctx;
+	unsigned long flags = vma->vm_flags;
 ...
 }

@@
identifier F =~ "^copy_vma$";
identifier vmg, new;
expression s;
@@
 F(...) {
 <...
(
 vmg.vma = NULL;
+	if (clear_flags_ctx)
+		flags &= ~(VM_UFFD_MISSING | VM_UFFD_WP | VM_MERGEABLE | VM_LOCKED | VM_LOCKONFAULT |
+			   VM_WIPEONFORK | VM_DONTCOPY);
+	vmg.mm = mm;
+	vmg.flags = flags;
+	vmg.uffd_ctx = ctx;
|
+	new->vm_mm = mm;
+	vm_flags_reset(new, flags);
+	new->vm_userfaultfd_ctx = ctx;
 vma_set_range(new, ...);
|
 unlikely(s >= new->vm_start &&
- s < new->vm_end
+ s < new->vm_end && vma->vm_mm == mm
 )
)
 ...>
 }

@@
identifier F =~ "^copy_vma$";
@@
 struct vm_area_struct *F(struct vm_area_struct **vmap,
+	struct mm_struct *mm, bool clear_flags_ctx,
	unsigned long addr, unsigned long len, pgoff_t pgoff, bool *need_rmap_locks, bool keep_source);

@@
identifier F =~ "^copy_vma$";
expression v, a;
@@
 F(&v,
+	mm, false,
 a, ...)
