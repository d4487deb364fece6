//! The frame of a page: its head with the policy, and the legend below.

use maud::{Markup, PreEscaped, html};

use crate::picture;

const STYLE: &str = include_str!("style.css");

/// Returns the head of a page that loads nothing. `scripts` is the `script-src` directive of the
/// page's policy: only scripts that it names run.
pub(super) fn head(title: &str, scripts: &str) -> Markup {
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; {scripts}; base-uri 'none'; \
         form-action 'none'"
    );
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta http-equiv="Content-Security-Policy" content=(policy);
            meta name="referrer" content="no-referrer";
            link rel="icon" href="data:,";
            title { (title) }
            style { (PreEscaped(STYLE)) }
        }
    }
}

/// Returns the legend of the drawings.
pub(super) fn legend() -> Markup {
    html! {
        h2 { "How to read a drawing" }
        p {
            "A box is a VMA on a ruler of pages. The box shows the permissions (s shared, S shared of \
             a file that is open for reading, p private), the page offset (@n; the offset of anonymous \
             memory counts from the arena), the flags, the anon_vma and its chain (anon=A[BA], newest \
             first), the file, the userfaultfd context and the policy. One drawing stands for both \
             machines if they agree. "
            b { "!" } " and a thick edge mark a difference. A bracket is a range of the operation. A \
             dashed line is an edge that a merge removed."
        }
        p.mono {
            @for (n, (short, name)) in picture::legend().enumerate() {
                @if n > 0 { ", " }
                (short) " " (name)
            }
            ", -sd without VM_SOFTDIRTY, rmap-locks and no-rmap-locks: a copy that needs the rmap locks takes them, or not"
        }
    }
}
