// commit: 270aa0106206 ("mm/uffd: fix vma operation where start addr cuts part of vma")
// undoes: a VMA that is cut at the start of the range is the previous VMA of the rest
// signal: rule/uffd-offset, merge/change
// files: mm/userfaultfd.c
@@
identifier F =~ "^userfaultfd_register_range$";
expression v, s, p;
@@
 F(...) {
 <...
- if (v->vm_start < s)
-	p = v;
 ...>
 }
