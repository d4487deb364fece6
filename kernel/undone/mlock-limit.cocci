// commit: 0cf2f6f6dc60 ("mm: mlock: check against vma for actual mlock() size")
// undoes: pages of the range that are locked already do not count against the limit
// signal: errno/mlock/ENOMEM-for-ok
// files: mm/mlock.c
@@
identifier F =~ "^do_mlock$";
expression l;
@@
 F(...) {
 <...
- l -= count_mm_mlocked_page_nr(...);
+ if (0)
+	l -= count_mm_mlocked_page_nr(current->mm, start, len);
 ...>
 }
