//! A trace is compared with a machine: in every step, every recorded field.

use vmadiff_lockstep::golden::{self, Conformity, Trace};
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_lockstep::run::Run;
use vmadiff_machine::observation::Event;
use vmadiff_machine::operand::Mode;
use vmadiff_machine::{Limits, Machine, Object, Observation, Op};

/// A trace of two operations. The second operation has every field that a trace can record.
const TRACE: &str = r#"{"id":"x","kernel":"k","steps":[{"op":{"op":"fork","pid":0},"ret":1,"mms":{"1":{"total_vm":0,"locked_vm":0,"data_vm":0,"map_count":0,"vmas":[]}},"copy_vma":null},{"op":{"op":"fork","pid":0},"ret":2,"mms":{"2":{"total_vm":2,"locked_vm":1,"data_vm":3,"map_count":4,"vmas":[{"start":1,"end":3,"pgoff":7,"flags":"2003","anon_vma":5,"chain":[5,6],"file":"a","uffd":8,"policy":0,"close":0},{"start":4,"end":5,"pgoff":8,"flags":"2003","anon_vma":5,"chain":[5],"file":"b","uffd":8,"policy":0,"close":0}]}},"copy_vma":{"merged":false,"need_rmap_locks":false,"source_replaced":false}}]}"#;

/// A step in which no address space changes.
const STEP: &str = r#"{"op":{"op":"fork","pid":0},"ret":1,"mms":{},"copy_vma":null},"#;

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

#[test]
fn a_file_that_is_no_trace_is_refused_with_the_place() {
    let no_operation = TRACE.replacen(r#""op":"fork""#, r#""op":"spoon""#, 1);
    let no_result = TRACE.replacen(r#""ret":2"#, r#""ret":-5000"#, 1);
    let no_process = TRACE.replacen(r#"{"2":{"#, r#"{"8":{"#, 1);
    let no_number = TRACE.replacen(r#""anon_vma":5"#, r#""anon_vma":65536"#, 1);
    let (start, end) = TRACE.split_once(r#""steps":["#).expect("steps");
    let many = format!("{start}\"steps\":[{}{end}", STEP.repeat(256));
    let chain = TRACE.replacen(r#""chain":["#, &format!(r#""chain":[{}"#, "5,".repeat(8192)), 1);
    let no_place = "the file has no trace: expected a JSON object on each line";
    // A line of the largest length is read, and is no JSON; a longer one is not read.
    let (longest, longer) = (vec![b'x'; 1 << 20], vec![b'x'; (1 << 20) + 1]);
    for (bytes, expected) in [
        (&b""[..], format!("line 1, column 1: {no_place}")),
        (b"\n \r\n", format!("line 1, column 1: {no_place}")),
        (b"\n{", "line 2, column 1: EOF while parsing an object".into()),
        (b"{\"id\":\xff}", "line 1, column 7: the line is not UTF-8".into()),
        (&longest, "line 1, column 1: expected value".into()),
        (&longer, "line 1, column 1048576: the line is longer than 1048576 bytes".into()),
        (no_operation.as_bytes(), "line 1, operation 1: no operation is called `spoon`".into()),
        (no_result.as_bytes(), "line 1, operation 2: no operation returns -5000".into()),
        (no_process.as_bytes(), "line 1, operation 2: there is no process `8`".into()),
        (no_number.as_bytes(), "line 1, operation 2: 65536 is no object's number".into()),
        (many.as_bytes(), "line 1, operation 257: expected at most 256 operations".into()),
        (
            chain.as_bytes(),
            "line 1, operation 2: expected at most 128 VMAs with 8192 entries of chains".into(),
        ),
    ] {
        let error = golden::read(bytes).expect_err("no trace").to_string();
        assert_eq!(error, expected);
    }
}

#[test]
fn a_file_has_one_trace_a_line_after_a_byte_order_mark_and_between_empty_lines() {
    let file = format!("\u{feff}{TRACE}\r\n\n{TRACE}\n");
    let traces = golden::read(file.as_bytes()).expect("two traces");
    assert_eq!(traces.iter().map(|trace| trace.id.as_str()).collect::<Vec<_>>(), ["x", "x"]);
    // Only the first line may begin with the mark.
    let error = golden::read(format!("\n\u{feff}{TRACE}").as_bytes()).expect_err("a mark");
    assert_eq!(error.to_string(), "line 2, column 1: expected value");
}

#[test]
fn a_trace_has_the_operands_of_each_operation_and_the_limits_of_the_recording() {
    let touch = r#"{"id":"x","kernel":"k","steps":[{"op":{"op":"touch","pid":2,"page":3,"write":1},"ret":-14,"mms":{},"copy_vma":null}]}"#;
    let program = trace(touch).program;
    assert_eq!(program.ops.iter().map(Op::to_string).collect::<Vec<_>>(), ["touch 2 3 1"]);
    assert_eq!(program.limits.processes, Some(4));
}

#[test]
fn the_fields_of_a_trace_have_their_values() {
    let trace = trace(TRACE);
    let vmas = trace.observations[1].spaces[2].vmas();
    let fields: Vec<_> = vmas.iter().map(|vma| (vma.policy, vma.close)).collect();
    assert_eq!(fields, [(Mode::Default, false); 2]);
    // Two names are two files, and a name is one file in the whole trace.
    assert_ne!(vmas[0].file, vmas[1].file);
    let same = self::trace(&TRACE.replacen(r#""file":"b""#, r#""file":"a""#, 1));
    let vmas = same.observations[1].spaces[2].vmas();
    assert_eq!(vmas[0].file, vmas[1].file);
}

#[test]
fn what_a_recorded_kernel_does_not_show_is_no_bug_of_the_machine() {
    for event in
        [Event::Deadlock { function: "f", lock: "l" }, Event::LockHeld { function: "f", lock: "l" }]
    {
        let mut machine = Recorded(trace(TRACE), 0);
        machine.0.observations[1].events.push(event);
        let conformity = golden::conform(&trace(TRACE), &mut machine);
        assert!(matches!(conformity, Conformity::Agrees), "{event}: {conformity:?}");
    }
}

#[test]
fn a_run_has_every_operation_up_to_the_divergence_and_what_was_before_each() {
    let other = TRACE.replacen(r#""ret":2"#, r#""ret":3"#, 1);
    let (left, right) = (Recorded(trace(TRACE), 0), Recorded(trace(&other), 0));
    let run = Run::of(&mut Lockstep::new(left, right), &trace(TRACE).program);
    assert_eq!(run.divergence.as_ref().map(|divergence| divergence.step), Some(1));
    assert_eq!(run.steps.iter().map(|step| step.at).collect::<Vec<_>>(), [0, 1]);
    assert!(!run.before(0).0.spaces[1].alive);
    assert!(run.before(1).0.spaces[1].alive && run.before(1).1.spaces[1].alive);
    assert!(!run.before(1).0.spaces[2].alive);
}
