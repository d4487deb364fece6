// commit: 82f951340f25 ("mm/mprotect: fix do_mprotect_pkey() return on error")
// undoes: ENOMEM for a hole does not replace the error of an earlier VMA
// signal: errno/mprotect/ENOMEM-for-EACCES
// files: mm/mprotect.c
@@
identifier F =~ "^do_mprotect_pkey$";
expression e, t, n;
@@
 F(...) {
 <...
- if (!e && t < n)
+ if (t < n)
 	e = -ENOMEM;
 ...>
 }
