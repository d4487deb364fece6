// commit: 965f55dea0e3 ("mmap: avoid merging cloned VMAs")
// undoes: a VMA that descends from a fork does not merge with one that was never faulted
// signal: merge/change/merged
// files: mm/vma.c
@@
identifier F =~ "^is_mergeable_anon_vma$";
expression a, b, c, d;
@@
 F(...) {
 <...
- if ((!a || !b) && (!c || d))
+ if (!a || !b)
 	return true;
 ...>
 }
