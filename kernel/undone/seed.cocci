// commit: the third condition of “mm: process_vm_mmap()”, v2, of May 2019 (bug A), carried to copy_vma() of 6.12
// undoes: whether the merge took in the source is decided without reading the source
// signal: KASAN: slab-use-after-free in copy_vma
// build: --kasan
// files: mm/vma.c mm/mmap.c
@@
identifier F =~ "^copy_vma$";
expression s, n;
@@
 F(...) {
 <...
 unlikely(s >= n->vm_start &&
- s < n->vm_end
+ s < n->vm_end && vma->vm_mm == mm
 )
 ...>
 }
