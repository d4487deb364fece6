//! The texts of events are kept for the rest of the process, up to a limit. This test
//! reaches the limit, so it has a process of its own.

use vmadiff_machine::abi;
use vmadiff_machine::observation::{Assertion, Event, Observation};

#[test]
fn a_library_with_ever_new_texts_is_refused_after_some_thousand() {
    let mut written = Observation::default();
    written.begin_step();
    let (assertion, function, condition) = (Assertion::WarnOn, "copy_vma", "00000");
    written.events.push(Event::Assertion { assertion, function, condition });
    let (mut raw, mut seen) = (abi::Observation::new(), Observation::default());
    raw.write(&written);
    let mut read = |n: usize| {
        raw.events[0].text[..5].copy_from_slice(format!("{n:05}").as_bytes());
        raw.read(&mut seen)
    };
    let refused = (0..10_000).find_map(|n| Some((n, read(n).err()?)));
    let (n, nonsense) = refused.expect("a process keeps 4096 texts");
    assert!((4000..=4096).contains(&n), "{n}");
    assert_eq!((nonsense.field, nonsense.expected), ("text", "one of 4096 different texts"));
    // Kept texts are read as before.
    assert_eq!(read(0), Ok(()));
}
