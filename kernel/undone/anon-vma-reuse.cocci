// commit: 2555283eb40d ("mm/rmap: Fix anon_vma->degree ambiguity leading to double-reuse"), CVE-2022-42703
// undoes: an anon_vma is reused only if it has no VMA of its own and at most one child
// signal: rule/anon-vma-reuse
// files: mm/rmap.c
@@
identifier F =~ "^anon_vma_clone$";
identifier d, s;
expression E, a;
@@
 F(struct vm_area_struct *d, struct vm_area_struct *s) {
 <...
- E && a->num_children < 2 && a->num_active_vmas == 0
+ E && a != s->anon_vma && a->num_children + a->num_active_vmas < 2
 ...>
 }
