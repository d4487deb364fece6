//! Divergences as a page: one self-contained HTML file, which loads no other file and can be
//! mailed.
//!
//! The page lists every operation; its script shows one operation at a time instead. The template
//! engine escapes all text, and the JSON is escaped where it is put in. The page's content security
//! policy forbids any other script and any request. So no text from a corpus file, a file name or a
//! list of known divergences can run code.

mod bars;
mod content;
mod data;
mod frame;
mod section;
mod shell;
mod steps;
mod summary;
mod svg;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use steps::Step;

pub use content::{Page, STANDARD_INPUT, Shown};
pub use section::divergence;

const SCRIPT: &str = include_str!("page/stepper.js");

impl Page {
    /// Returns the page as HTML.
    ///
    /// # Errors
    /// Returns an error if the data cannot be written as JSON, which does not happen.
    pub fn render(&self) -> serde_json::Result<String> {
        let all: Vec<Vec<Step>> =
            self.divergences.iter().map(|shown| steps::steps(&shown.finding)).collect();
        let data = self.data(&all);
        let hash = STANDARD.encode(Sha256::digest(SCRIPT));
        let title = match self.alone {
            true => format!("vmadiff: {} alone", self.names.1),
            false => format!("vmadiff: {} against {}", self.names.1, self.names.0),
        };
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                (frame::head(&title, &format!("script-src 'sha256-{hash}'")))
                body {
                    header {
                        h1 { (title) }
                        (self.summary())
                    }
                    main {
                        @for (n, (shown, steps)) in self.divergences.iter().zip(&all).enumerate() {
                            (self.section(n, shown, steps))
                        }
                    }
                    footer { (frame::legend()) }
                    script #data type="application/json" { (data::embedded(&data)?) }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        Ok(page.into_string())
    }

    fn names(&self) -> (&str, &str) {
        (&self.names.0, &self.names.1)
    }
}

/// Returns a page without a script around `body`, which has to be HTML already.
pub fn article(title: &str, body: &str) -> String {
    // A program that is wider than a phone is scrolled by itself, also by keyboard.
    let body = body.replace("<pre>", "<pre tabindex=\"0\">");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (frame::head(title, "script-src 'none'"))
            body {
                main { (PreEscaped(body)) }
                footer { (frame::legend()) }
            }
        }
    };
    let mut text = page.into_string();
    text.push('\n');
    text
}
