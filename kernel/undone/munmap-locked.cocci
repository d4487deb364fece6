// commit: "mm/mmap: Fix VM_LOCKED check in do_vmi_align_munmap()" (stable releases of 6.1 and 6.4)
// undoes: munmap counts the locked pages of each VMA of the range, and not those of the first one
// signal: accounting/munmap/locked_vm-high
// files: mm/vma.c
@@
identifier F =~ "^vms_gather_munmap_vmas$";
identifier v, n;
@@
 F(struct vma_munmap_struct *v, ...) {
 <...
- if (n->vm_flags & VM_LOCKED)
+ if (v->vma->vm_flags & VM_LOCKED)
 	v->locked_vm += ...;
 ...>
 }
