//! Divergences as SARIF 2.1.0, which code scanning reads.
//!
//! Each signature is a rule, and each divergence is a result. A known divergence is reported as
//! suppressed, with the reason. The location of a result is its minimized program, because the
//! place of the cause in the kernel's code is not known.

use serde::Serialize;

use crate::row::Row;

/// The address of the format's schema.
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

#[derive(Serialize)]
struct Sarif<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<'a>; 1],
}

#[derive(Serialize)]
struct Run<'a> {
    tool: Tool<'a>,
    results: Vec<Finding<'a>>,
}

#[derive(Serialize)]
struct Tool<'a> {
    driver: Driver<'a>,
}

#[derive(Serialize)]
struct Driver<'a> {
    name: &'static str,
    version: &'static str,
    rules: Vec<Rule<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule<'a> {
    id: &'a str,
    short_description: Text,
    properties: Properties<'a>,
}

#[derive(Serialize)]
struct Properties<'a> {
    tags: [&'a str; 2],
}

#[derive(Serialize)]
struct Text {
    text: String,
}

/// A result of SARIF. The name `Result` is taken by Rust.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding<'a> {
    rule_id: &'a str,
    rule_index: usize,
    level: &'static str,
    message: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    locations: Option<[Location; 1]>,
    partial_fingerprints: Fingerprints<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressions: Option<[Suppression<'a>; 1]>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    region: Region,
}

#[derive(Serialize)]
struct ArtifactLocation {
    uri: String,
}

/// A region: a range of lines of the program, counted from 1.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: usize,
    snippet: Text,
}

/// The fingerprint of a result: results of two runs with the same fingerprint are the same.
#[derive(Serialize)]
struct Fingerprints<'a> {
    #[serde(rename = "signature/v1")]
    signature: &'a str,
}

#[derive(Serialize)]
struct Suppression<'a> {
    kind: &'static str,
    justification: &'a str,
}

/// Returns a path as a relative reference (RFC 3986): folders are separated by `/`, and characters
/// with a meaning in a URI are written as `%XX`.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(byte.into());
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// Returns the SARIF file of divergences between two machines, with a newline at its end. Of a machine
/// that ran alone, both names are its name. A result has a location if its row has a program in a file.
///
/// # Errors
/// Returns the error of serde_json, which has none for such a structure.
pub fn sarif(rows: &[Row], machines: (&str, &str)) -> Result<String, serde_json::Error> {
    let (left, right) = machines;
    let judged = match left == right {
        true => format!("{right} breaks an invariant"),
        false => format!("{right} differs from {left}"),
    };
    let rules = rows.iter().map(|row| Rule {
        id: &row.signature,
        short_description: Text { text: format!("{judged}: {}", row.signature) },
        properties: Properties { tags: ["divergence", row.class] },
    });
    let results = rows.iter().enumerate().map(|(rule_index, row)| {
        let Row { signature, operations, program, known, place, found_in, .. } = row;
        let region = Region {
            // The machines differ after the last operation.
            start_line: program.lines().count().max(1),
            snippet: Text { text: program.lines().last().unwrap_or("").to_owned() },
        };
        let text = format!(
            "{judged} after {operations} operations: {signature}. Found in {} programs; \
             minimized:\n\n{program}",
            found_in.len()
        );
        let location = |place: &String| {
            let artifact_location = ArtifactLocation { uri: uri(place) };
            [Location { physical_location: PhysicalLocation { artifact_location, region } }]
        };
        Finding {
            rule_id: signature,
            rule_index,
            level: if known.is_some() { "note" } else { "error" },
            message: Text { text },
            locations: place.as_ref().map(location),
            partial_fingerprints: Fingerprints { signature },
            suppressions: known
                .as_deref()
                .map(|justification| [Suppression { kind: "external", justification }]),
        }
    });
    let driver =
        Driver { name: "vmadiff", version: env!("CARGO_PKG_VERSION"), rules: rules.collect() };
    let run = Run { tool: Tool { driver }, results: results.collect() };
    let sarif = Sarif { schema: SCHEMA, version: "2.1.0", runs: [run] };
    serde_json::to_string_pretty(&sarif).map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_suppressed_and_the_rest_is_an_error_at_its_program() {
        let row = |signature: &str, known: Option<&str>| Row {
            class: "flags",
            signature: signature.to_owned(),
            operations: 2,
            program: "mmap 0 0 1 rw anon_private\ncopy 0 0 1 0 1 FIXED\n".to_owned(),
            known: known.map(str::to_owned),
            file: "found here/a b.vmad".to_owned(),
            place: known.is_none().then(|| "found here/a b.txt".to_owned()),
            found_in: vec!["x".to_owned()],
        };
        let rows =
            [row("flags/copy/VM_LOCKED-kept", Some("C")), row("flags/copy/VM_IO-lost", None)];
        let text = sarif(&rows, ("reference", "candidate:v2")).expect("SARIF");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let results = &value["runs"][0]["results"];
        assert_eq!(results[0]["suppressions"][0]["justification"], "C");
        assert_eq!(results[1]["suppressions"], serde_json::Value::Null);
        assert_eq!([&results[0]["level"], &results[1]["level"]], ["note", "error"]);
        assert_eq!(results[1]["ruleId"], value["runs"][0]["tool"]["driver"]["rules"][1]["id"]);
        assert_eq!(results[0]["locations"], serde_json::Value::Null);
        let place = &results[1]["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "found%20here/a%20b.txt");
        assert_eq!(place["region"]["startLine"], 2);
    }
}
