// commit: 2658f94d6792 ("mm/mlock: fix vma iterator conversion of apply_vma_lock_flags()")
// undoes: the end of the VMA is read again after mlock_fixup(), which may have merged it
// signal: errno/mlock/ENOMEM-for-ok
// files: mm/mlock.c
@@
identifier F =~ "^apply_vma_lock_flags$";
expression i, t;
@@
 F(...) {
 <...
- t = vma_iter_end(&i);
 ...>
 }
