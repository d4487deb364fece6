// commit: none; the changes to “mm: process_vm_mmap()”, v2, that docs/contract.md asks for
// carries: copies without the flags of the mask, no overlap, the rmap locks, a source that is not read after the merge
// build: --process-vm-mmap 470, after process_vm_mmap.patch and copy_vma.cocci
// files: mm/process_vm_mmap.c mm/vma.c
@@
identifier fixed =~ "^fixed$";
@@
 static const bool fixed =
- false
+ true
 ;

@@
identifier F =~ "^copy_vma$";
expression within;
@@
 F(...) {
 <...
 unlikely(within &&
- vma->vm_mm == mm
+ same_mm
 )
 ...>
 }

@@
identifier F =~ "^copy_vma$";
@@
 F(...) {
 ...
 unsigned long flags = vma->vm_flags;
+	const bool same_mm = vma->vm_mm == mm;
 ...
 }
