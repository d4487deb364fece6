// commit: 3cfd22be0ad6 ("userfaultfd: clear flag if remap event not enabled")
// undoes: a VMA that moves loses the flags of userfaultfd with its context
// signal: flags/mremap/VM_UFFD_MISSING-kept
// files: fs/userfaultfd.c
@@
identifier F =~ "^mremap_userfaultfd_prep$";
expression v;
@@
 F(...) {
 <...
- userfaultfd_reset_ctx(v);
+ v->vm_userfaultfd_ctx = NULL_VM_UFFD_CTX;
 ...>
 }
