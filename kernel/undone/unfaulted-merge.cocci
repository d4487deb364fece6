// commit: 879bca0a2c4f ("mm/vma: fix incorrectly disallowed anonymous VMA merges") of 6.16 in part, as it was before 61f67c230a5e ("fix anon_vma UAF on mremap() faulted, unfaulted merge")
// undoes: a VMA that was never faulted and takes in a faulted range gets the range's anon_vma
// signal: KASAN: slab-use-after-free in folio_lock_anon_vma_read, from the walk of the reverse map
// build: --kasan
// files: mm/vma.c
@@
identifier F =~ "^is_mergeable_anon_vma$";
expression a, b, c, d;
@@
 F(...) {
 <...
- if ((!a || !b) && (!c || d))
+ if ((!a || !b) && (!c || !c->anon_vma || d))
 	return true;
 ...>
 }
