//! The head of a page's text: the machines, and a table of the divergences by class.

use maud::{Markup, html};
use vmadiff_lockstep::divergence::Class;

use super::content::Page;
use super::section::{breakable, signature};

impl Page {
    /// Returns the sentence about the run and the table.
    pub(super) fn summary(&self) -> Markup {
        let of = |class: Class| {
            self.divergences.iter().enumerate().filter(move |(_, s)| {
                s.finding.run.divergence.as_ref().is_some_and(|d| d.class == class)
            })
        };
        let operations: usize = self.divergences.iter().map(|s| s.finding.run.steps.len()).sum();
        html! {
            p {
                @if self.alone {
                    b { (breakable(&self.names.1)) } " ran alone. The invariants judge it. "
                } @else {
                    "Two machines ran the same operations. "
                    b { (breakable(&self.names.0)) } " is taken to be right. "
                    b { (breakable(&self.names.1)) } " is judged by it. "
                }
                (self.programs) " programs were run. "
                @if self.skipped > 0 { (self.skipped) " files were no programs. " }
                (self.divergences.len()) " divergences are shown below, in "
                (operations) " operations."
            }
            @if self.divergences.is_empty() {
                p { b { "No divergence was found." } }
            } @else {
                table {
                    caption.dim { "Divergences by class" }
                    thead {
                        tr {
                            th.class scope="col" { "class" }
                            th scope="col" { "divergence" }
                            th.count scope="col" { "operations" }
                            th.count scope="col" { "files" }
                        }
                    }
                    tbody {
                        @for class in Class::ALL {
                            @for (n, shown) in of(class) {
                                tr {
                                    td.class { (class) }
                                    td {
                                        a href=(format!("#d{n}")) { (breakable(&signature(shown))) }
                                        @if let Some(known) = &shown.known {
                                            span.dim { " known: " (known) }
                                        }
                                    }
                                    td.count { (shown.finding.run.program.ops.len()) }
                                    td.count { (shown.files.len()) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
