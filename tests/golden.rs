//! The models agree with recorded kernels in every step of every golden trace.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use vmadiff::golden::{self, Conformity, Trace};
use vmadiff::machines::MachineName;
use vmadiff_machine::observation::{Event, Object};

fn traces(name: &str) -> Vec<Trace> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/golden").join(name);
    let file = File::open(&path).expect("the golden traces are part of the project");
    golden::read(BufReader::new(file)).expect("they can be read")
}

/// Replays all traces and returns each bug that a trace shows, with the trace and the step. Panics
/// if a step differs.
fn bugs<'a>(traces: &'a [Trace], machine: &str) -> Vec<(&'a str, usize, Event)> {
    let mut machine = machine.parse::<MachineName>().expect("a machine").build();
    traces
        .iter()
        .filter_map(|trace| match golden::conform(trace, machine.as_mut()) {
            Conformity::Agrees => None,
            Conformity::Bug { step, shown } => {
                Some((trace.id.as_str(), step, *shown.events.last().expect("an event")))
            }
            Conformity::Differs { step, .. } => {
                panic!("{} differs in {} after {step}", machine.name(), trace.id)
            }
        })
        .collect()
}

#[test]
fn every_machine_agrees_with_the_original_kernel() {
    let traces = traces("original.jsonl.gz");
    assert_eq!(traces.len(), 251);
    assert_eq!(traces.iter().map(|t| t.observations.len()).sum::<usize>(), 5_723);
    for machine in ["reference", "candidate:original", "candidate:fixed"] {
        assert_eq!(bugs(&traces, machine), [], "{machine}");
    }
}

/// Bug A in two traces. Both programs move memory that was never faulted into the hole before it.
/// The VMA before the hole can merge, too, so the previous VMA, the hole and the source become one
/// VMA (case 1). This frees the source.
#[test]
fn v2_agrees_with_the_original_kernel_but_where_it_meets_bug_a() {
    let bug_a = Event::UseAfterFree { object: Object::Vma, function: "copy_vma", field: "vm_mm" };
    let traces = traces("original.jsonl.gz");
    assert_eq!(bugs(&traces, "candidate:v2"), [("1000:44", 5, bug_a), ("31001:335", 23, bug_a)]);
}

#[test]
fn v2_agrees_with_the_kernel_that_has_the_series() {
    let traces = traces("extended-v2.jsonl.gz");
    assert_eq!(traces.len(), 250);
    assert_eq!(traces.iter().map(|t| t.observations.len()).sum::<usize>(), 5_573);
    assert_eq!(bugs(&traces, "candidate:v2"), []);
}

#[test]
fn what_is_no_trace_is_refused_with_the_place() {
    let read = |text: &str| golden::read(text.as_bytes()).map(|_| ()).map_err(|e| e.to_string());
    let line = |op: &str, ret: &str, mms: &str| {
        format!(r#"{{"id":"x","kernel":"k","steps":[{{"op":{op},"ret":{ret},"mms":{mms}}}]}}"#)
    };
    let fork = r#"{"op":"fork","pid":0}"#;
    assert_eq!(read(&line(fork, "1", "{}")), Ok(()));
    for (text, place) in [
        (String::new(), "no trace"),
        ("{".into(), "line 1, column 1"),
        (format!("{}\n{{]", line(fork, "1", "{}")), "line 2, column"),
        (
            line(r#"{"op":"frok","pid":0}"#, "1", "{}"),
            "line 1, operation 1: no operation is called `frok`",
        ),
        (line(r#"{"op":"fork"}"#, "1", "{}"), "fork without `pid`"),
        (line(r#"{"op":"fork","pid":9}"#, "1", "{}"), "`pid` is `9`: expected a process"),
        (line(fork, "-9999", "{}"), "no operation returns -9999"),
        (line(fork, "1", r#"{"8":null}"#), "there is no process `8`"),
    ] {
        let error = read(&text).expect_err(&text);
        assert!(error.contains(place), "{text}: {error}");
    }
    assert_eq!(read(&format!("\u{feff}{}", line(fork, "1", "{}"))), Ok(()));
    // Messages repeat a bad token in part, and with its control characters escaped.
    let token = "\u{1b}[2J".repeat(100);
    let json = serde_json::to_string(&token).expect("JSON");
    for op in [format!(r#"{{"op":{json},"pid":0}}"#), format!(r#"{{"op":"fork","pid":{json}}}"#)] {
        let error = read(&line(&op, "1", "{}")).expect_err("no operation");
        assert!(error.len() < 300 && !error.contains(char::is_control), "{error}");
    }
    let error = read(&format!(r#"{{"id":"{}"}}"#, "x".repeat(1 << 20))).expect_err("a long line");
    assert_eq!(error, "line 1, column 1048576: the line is longer than 1048576 bytes");
}

#[test]
fn traces_are_read_one_after_the_other_up_to_the_first_error() {
    let line = r#"{"id":"x","kernel":"k","steps":[]}"#;
    let text = format!("{line}\n\n{line}\n{{\n{line}\n");
    let mut traces = golden::Traces::new(text.as_bytes()).expect("it can be read");
    assert!(traces.by_ref().take(2).all(|trace| trace.is_ok_and(|trace| trace.id == "x")));
    let error = traces.next().expect("a line").expect_err("no trace").to_string();
    assert!(error.starts_with("line 4, column 1: "), "{error}");
    assert!(traces.next().is_none());
}

#[test]
fn a_counter_below_zero_may_be_recorded_as_an_unsigned_long() {
    let locked_vm = |written: &str| {
        let space = format!(
            r#"{{"total_vm":0,"locked_vm":{written},"data_vm":0,"map_count":0,"vmas":[]}}"#
        );
        let line = format!(
            r#"{{"id":"x","kernel":"k","steps":[{{"op":{{"op":"munlock","pid":0,"page":0,"len":1}},"ret":0,"mms":{{"0":{space}}}}}]}}"#
        );
        let traces = golden::read(line.as_bytes()).map_err(|error| error.to_string())?;
        Ok::<i64, String>(traces[0].observations[0].spaces[0].counters.locked_vm)
    };
    for (written, counter) in [
        ("3", 3),
        ("-1", -1),
        ("18446744073709551615", -1),
        ("9223372036854775807", i64::MAX),
        ("9223372036854775808", i64::MIN),
    ] {
        assert_eq!(locked_vm(written), Ok(counter), "{written}");
    }
    for wrong in ["18446744073709551616", "-9223372036854775809", "1.5", "null", "\"1\""] {
        let error = locked_vm(wrong).expect_err(wrong);
        assert!(error.contains("line 1, column"), "{wrong}: {error}");
    }
}
