//! Flags and userfaultfd contexts.

use vmadiff_machine::observation::Observation;
use vmadiff_machine::{Op, VmFlags};
use vmadiff_reference::why::{CopyKind, CopyReason};

use super::{Case, flag_names};
use crate::picture::Range;

impl Case<'_> {
    /// Returns the rule for the flags of a copied or moved range, with the flags of `wrong` that the
    /// source has.
    fn copied_flags(&self, copy: &CopyReason, wrong: VmFlags) -> String {
        let has = flag_names(copy.source.flags & wrong);
        let has = if has.is_empty() { "has none of them".into() } else { format!("has {has}") };
        let (source, process) = (Range::of(&copy.source), copy.source_process);
        let source = format!(": the source {source} of process {process} {has}");
        match copy.kind {
            CopyKind::Move => format!("{source}, and a move ends only userfaultfd's flags"),
            CopyKind::Copy => format!("{source}, and clear_flags_ctx is false: none may change"),
            CopyKind::CopyCleared(mask) if mask.intersects(wrong) => {
                format!("{source} ({})", self.point(3))
            }
            CopyKind::CopyCleared(_) => format!("{source}, and the mask does not name it"),
        }
    }

    pub(super) fn flags(&self) -> String {
        let differ = |both: &super::Both<'_>| both.left.1.flags != both.right.1.flags;
        let Some((both, range)) = self.first(differ) else { return self.nothing() };
        let (l, r) = (both.left.1.flags, both.right.1.flags);
        let (lost, kept) = (l - r, r - l);
        let mut text = format!("in {range} of process {}, {}", both.process, self.names.1);
        if !kept.is_empty() {
            text.push_str(&format!(" has {}, which {} has not", flag_names(kept), self.names.0));
        }
        if !lost.is_empty() {
            let and = if kept.is_empty() { "" } else { ";" };
            text.push_str(&format!("{and} lacks {} of {}", flag_names(lost), self.names.0));
        }
        text.push_str(&match (self.made(both.process, range.start), self.op) {
            (Some(copy), _) => self.copied_flags(copy, lost | kept),
            (None, Op::Fork { .. }) => {
                ": no child has locked memory or is watched by userfaultfd; all other flags are the \
                 parent's"
                    .into()
            }
            (None, Op::Mremap { .. }) if self.reason.copy.is_some() => {
                ": a move changes no flags outside the new range".into()
            }
            _ => format!(" (after `{}`)", self.op),
        });
        text
    }

    pub(super) fn uffd(&self) -> String {
        let Some((both, range)) =
            self.first(|both| both.left.1.uffd.is_some() != both.right.1.uffd.is_some())
        else {
            let of = |seen: &Observation| {
                let vmas = seen.spaces.iter().flat_map(|s| s.vmas());
                let mut all: Vec<_> = vmas.filter_map(|v| v.uffd).collect();
                all.sort_unstable();
                all.dedup();
                all.len()
            };
            let (l, r) = (of(self.left), of(self.right));
            return format!(
                "which VMAs share a userfaultfd context differs: {} has {l} contexts, {} has {r}",
                self.names.0, self.names.1
            );
        };
        let (with, without) = match both.right.1.uffd {
            Some(_) => (self.names.1, self.names.0),
            None => (self.names.0, self.names.1),
        };
        let kind = self.made(both.process, range.start).map(|copy| copy.kind);
        let reason = match (kind, self.op) {
            (Some(CopyKind::CopyCleared(_)), _) => {
                " (point 3 of the contract: a copy with flags cleared has no context)"
            }
            (Some(CopyKind::Copy), _) => ": the copy keeps the source's context",
            (Some(CopyKind::Move), _) => ": a moved range is not watched any more",
            (None, Op::Fork { .. }) => {
                ": no child has a userfaultfd context without its event feature"
            }
            _ => "",
        };
        format!(
            "in {range} of process {}, {with} has a userfaultfd context and {without} has none{reason}",
            both.process
        )
    }
}
