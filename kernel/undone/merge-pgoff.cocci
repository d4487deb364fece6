// commit: 7e7757876f25 ("mm/mremap: fix vm_pgoff in vma_merge() case 3")
// undoes: a next VMA that grows down gets the page offset of the new range
// signal: offset/copy_vma/other-pgoff
// files: mm/vma.c
@@
identifier F =~ "^vma_merge_new_range$";
expression g, n, l;
@@
 F(...) {
 <...
- g->pgoff = n->vm_pgoff - l;
+ g->pgoff = n->vm_pgoff;
 ...>
 }
