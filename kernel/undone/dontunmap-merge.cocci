// commit: "mm/mremap: fix locked_vm leak from MREMAP_DONTUNMAP self-merge" (6.12.117)
// undoes: the new VMA does not merge with the VMA that stays
// signal: rule/mremap-dontunmap-apart, merge/copy_vma/merged; WARN
// files: mm/vma.c
@@
identifier F =~ "^copy_vma$";
identifier k, b;
@@
 F(...) {
 <...
- if (!b && k) { ... }
 ...>
 }
