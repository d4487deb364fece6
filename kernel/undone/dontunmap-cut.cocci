// commit: "mm/mremap: fix locked_vm leak by splitting VMA for MREMAP_DONTUNMAP" (6.12.117)
// undoes: only the pages that move are unlocked
// signal: rule/mremap-dontunmap-cuts, flags/mremap/VM_LOCKED-lost
// files: mm/mremap.c
@@
identifier F =~ "^move_vma$";
expression f, v;
@@
 F(...) {
 <...
- if ((f & MREMAP_DONTUNMAP) && (v->vm_flags & VM_LOCKED)) { ... }
 ...>
 }
