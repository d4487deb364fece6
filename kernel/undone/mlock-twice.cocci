// commit: b155b4fde5bd ("mm: mlock: avoid increase mm->locked_vm on mlock() when already mlock2(,MLOCK_ONFAULT)")
// undoes: memory that is locked already is not counted again
// signal: accounting/mlock/locked_vm-high
// files: mm/mlock.c
@@
identifier F =~ "^mlock_fixup$";
expression f, o, n;
@@
 F(...) {
 <...
 if (!(f & VM_LOCKED))
 	n = -n;
- else if (o & VM_LOCKED)
-	n = 0;
 ...>
 }
