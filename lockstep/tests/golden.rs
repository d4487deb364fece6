//! A trace is compared with a machine: in every step, every recorded field.

use vmadiff_lockstep::golden::{self, Conformity, Trace};
use vmadiff_machine::observation::Event;
use vmadiff_machine::{Limits, Machine, Object, Observation, Op};

/// A trace of two operations. The second operation has every field that a trace can record.
const TRACE: &str = r#"{"id":"x","kernel":"k","steps":[{"op":{"op":"fork","pid":0},"ret":1,"mms":{"1":{"total_vm":0,"locked_vm":0,"data_vm":0,"map_count":0,"vmas":[]}},"copy_vma":null},{"op":{"op":"fork","pid":0},"ret":2,"mms":{"2":{"total_vm":2,"locked_vm":1,"data_vm":3,"map_count":4,"vmas":[{"start":1,"end":3,"pgoff":7,"flags":"2003","anon_vma":5,"chain":[5,6],"file":"a","uffd":8,"policy":0,"close":0},{"start":4,"end":5,"pgoff":8,"flags":"2003","anon_vma":5,"chain":[5],"file":"b","uffd":8,"policy":0,"close":0}]}},"copy_vma":{"merged":false,"need_rmap_locks":false,"source_replaced":false}}]}"#;

/// A machine that shows the observations of a trace.
struct Recorded(Trace, usize);

impl Machine for Recorded {
    fn name(&self) -> &str {
        "recorded"
    }

    fn reset(&mut self, _: &Limits) {
        self.1 = 0;
    }

    fn step(&mut self, _: &Op, seen: &mut Observation) {
        seen.clone_from(&self.0.observations[self.1]);
        self.1 += 1;
    }
}

fn trace(text: &str) -> Trace {
    let read = golden::read(text.as_bytes());
    read.unwrap_or_else(|error| panic!("{text}: {error}")).remove(0)
}

/// Returns the step in which the machine of one trace differs from the other trace.
fn differs(recorded: &str, shown: &str) -> Option<usize> {
    let mut machine = Recorded(trace(shown), 0);
    match golden::conform(&trace(recorded), &mut machine) {
        Conformity::Agrees => None,
        Conformity::Differs { step, .. } => Some(step),
        Conformity::Bug { step, .. } => panic!("a bug in step {step}"),
    }
}

#[test]
fn each_field_of_a_trace_is_read_and_compared() {
    assert_eq!(differs(TRACE, TRACE), None);
    for (from, to) in [
        (r#""ret":2"#, r#""ret":3"#),
        (r#""ret":2"#, r#""ret":-22"#),
        (r#""total_vm":2"#, r#""total_vm":1"#),
        (r#""locked_vm":1"#, r#""locked_vm":2"#),
        (r#""data_vm":3"#, r#""data_vm":2"#),
        (r#""map_count":4"#, r#""map_count":3"#),
        (r#""start":1"#, r#""start":0"#),
        (r#""end":5"#, r#""end":6"#),
        (r#""pgoff":7"#, r#""pgoff":8"#),
        (r#""flags":"2003""#, r#""flags":"2001""#),
        (r#""anon_vma":5,"chain":[5,6]"#, r#""anon_vma":6,"chain":[5,6]"#),
        (r#""chain":[5,6]"#, r#""chain":[6,5]"#),
        (r#""chain":[5]"#, r#""chain":[5,6]"#),
        (r#""chain":[5],"file":"b""#, r#""chain":[5],"file":"a""#),
        (r#""uffd":8,"policy":0,"close":0}]"#, r#""uffd":9,"policy":0,"close":0}]"#),
        (r#""uffd":8,"policy":0,"close":0}]"#, r#""uffd":null,"policy":0,"close":0}]"#),
        (r#""policy":0"#, r#""policy":2"#),
        (r#""close":0"#, r#""close":1"#),
        (r#""merged":false"#, r#""merged":true"#),
        (r#""need_rmap_locks":false"#, r#""need_rmap_locks":true"#),
        (r#""source_replaced":false"#, r#""source_replaced":true"#),
        (
            r#""copy_vma":{"merged":false,"need_rmap_locks":false,"source_replaced":false}"#,
            r#""copy_vma":null"#,
        ),
    ] {
        assert_eq!(TRACE.matches(from).count().min(1), 1, "{from}");
        let other = TRACE.replacen(from, to, 1);
        assert_eq!(differs(TRACE, &other), Some(1), "{from} as {to}");
        assert_eq!(differs(&other, TRACE), Some(1), "{from} as {to}");
    }
    // A difference in the first step is found, too.
    let other = TRACE.replacen(r#""ret":1"#, r#""ret":2"#, 1);
    assert_eq!(differs(TRACE, &other), Some(0));
}

#[test]
fn objects_of_a_trace_have_other_numbers_in_a_machine() {
    let renumbered = TRACE
        .replace(r#""anon_vma":5"#, r#""anon_vma":0"#)
        .replace("[5,6]", "[0,1]")
        .replace("[5]", "[0]")
        .replace(r#""uffd":8"#, r#""uffd":3"#);
    assert_eq!(differs(TRACE, &renumbered), None);
}

#[test]
fn an_operation_that_the_kernel_does_not_survive_is_a_bug_of_its_step() {
    let mut machine = Recorded(trace(TRACE), 0);
    let event = Event::UseAfterFree { object: Object::Vma, function: "f", field: "x" };
    machine.0.observations[1].events.push(event);
    let conformity = golden::conform(&trace(TRACE), &mut machine);
    assert!(matches!(conformity, Conformity::Bug { step: 1, .. }), "{conformity:?}");
}
