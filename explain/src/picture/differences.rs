//! The differences of a picture as a list of lines.

use vmadiff_machine::operand::END_PAGES;

use super::{Picture, Side, Word, has, marked};

impl Picture {
    /// Returns the differences, a line each.
    pub fn differences(&self, names: (&str, &str)) -> Vec<String> {
        let names = [names.0, names.1];
        let differs = |words: &[Word]| words.iter().any(|word| word.differs);
        let mut lines = Vec::new();
        for (name, said) in names.iter().zip(&self.said) {
            let said = said.iter().filter(|word| word.differs);
            lines.extend(said.map(|word| format!("{name}: {}", word.text)));
        }
        for process in &self.processes {
            let of = format!("process {}", process.process);
            for (name, side) in names.iter().zip([&process.left, &process.right]) {
                let Side::Alive(space) = side else { continue };
                if differs(&space.counters) {
                    let counters = marked(&space.counters).join(", ");
                    lines.push(format!("{of} of {name}: {counters}"));
                }
                for bar in space.bars.iter().filter(|bar| differs(&bar.words)) {
                    let words = marked(&bar.words).join(" ");
                    lines.push(format!("{of} of {name}: {} {words}", bar.range));
                }
            }
            if process.edges_differ != 0 {
                for page in (0..=END_PAGES as u8).filter(|page| has(process.edges_differ, *page)) {
                    let ends = |side: &Side| {
                        let mut bars = side.bars().iter();
                        bars.any(|bar| bar.range.start == page || bar.range.end == page)
                    };
                    let name = if ends(&process.left) { names[0] } else { names[1] };
                    lines.push(format!("{of}: a VMA begins or ends at page {page} in {name} only"));
                }
            }
        }
        lines
    }
}
