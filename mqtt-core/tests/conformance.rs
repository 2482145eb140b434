//! Every normative statement of both specifications is shown by a test or excused, in
//! `tests/data/conformance.txt`; and every statement that the sources cite exists.
//!
//! `cargo test -p mqtt-core --test conformance -- --nocapture` tells how many there are.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const MANIFEST: &str = include_str!("data/conformance.txt");

/// The versions, and how many statements their specifications have.
const SECTIONS: [(&str, usize); 2] = [("5.0", 251), ("3.1.1", 140)];

/// Where statements are cited.
const SOURCES: [&str; 10] = [
    "mqtt-core/src",
    "mqtt-core/tests",
    "mqtt-core/examples",
    "simulation/src",
    "simulation/tests",
    "interop/src",
    "benches",
    "fuzz/fuzz_targets",
    "README.md",
    "ARCHITECTURE.md",
];

/// A line of the manifest.
struct Statement {
    version: &'static str,
    id: &'static str,
    is_tested: bool,
    /// The tests, or the excuse.
    body: &'static str,
    remark: &'static str,
}

fn statements() -> Vec<Statement> {
    let mut version = "";
    let mut statements = Vec::new();
    for line in MANIFEST.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(heading) = line.strip_prefix('[') {
            version = heading.split_once(']').expect("a heading").0;
            continue;
        }
        let (id, rest) = line.split_once(' ').expect("a statement");
        let (verdict, rest) = rest.split_once(": ").unwrap_or_else(|| panic!("{line}"));
        let (body, remark) = rest.split_once("; ").unwrap_or((rest, ""));
        assert!(matches!(verdict, "tested" | "excused") && !body.is_empty(), "{line}");
        statements.push(Statement { version, id, is_tested: verdict == "tested", body, remark });
    }
    statements
}

/// Whether this version has this statement.
fn exists(version: &str, id: &str) -> bool {
    let line = |line: &str| line.split(' ').next() == Some(id);
    let mut sections = MANIFEST.split("\n[").skip(1);
    sections.any(|section| section.starts_with(version) && section.lines().any(line))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The statements that a text cites, each with the version that `3.1.1:` before it tells, else 5.0.
fn citations(text: &str) -> Vec<(&'static str, &str)> {
    let mut version = "5.0";
    let mut found = Vec::new();
    for (start, _) in text.char_indices() {
        let rest = &text[start..];
        if rest.starts_with("3.1.1: ") {
            version = "3.1.1";
        } else if let Some(number) = rest.strip_prefix("MQTT-") {
            let end = number.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-');
            let number = number[..end.unwrap_or(number.len())].trim_end_matches(['.', '-']);
            let is_statement =
                number.split_once('-').is_some_and(|(section, _)| !section.is_empty());
            if is_statement {
                found.push((version, &rest[..5 + number.len()]));
            }
        }
    }
    found
}

/// The attributes and documentation before a function. `None` if there is no such function.
fn before_function<'a>(source: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let start = format!("fn {name}(");
    let at = lines.iter().position(|line| line.starts_with(&start))?;
    let is_part = |line: &&&str| line.starts_with("#[") || line.starts_with("///");
    Some(lines[..at].iter().rev().take_while(is_part).copied().collect())
}

/// Whether a row of a table is about this version and cites this statement.
fn is_row_for(row: &str, version: &str, id: &str) -> bool {
    let columns: Vec<_> = row.split('|').collect();
    let [versions, .., statements, _] = columns[..] else { return false };
    let digit = if version == "5.0" { '5' } else { '4' };
    !row.starts_with('#')
        && versions.contains(digit)
        && citations(statements).contains(&(version_of(version), id))
}

fn version_of(version: &str) -> &'static str {
    SECTIONS.iter().find(|section| section.0 == version).expect("a version").0
}

/// What is wrong with a reference to a test, if anything is.
fn check_reference(reference: &str, version: &str, id: &str) -> Result<(), &'static str> {
    let Some((path, function)) = reference.split_once("::") else {
        let table = read(reference);
        let found = table.lines().any(|row| is_row_for(row, version, id));
        return if found { Ok(()) } else { Err("has no row for it") };
    };
    let source = read(path);
    let before = before_function(&source, function).ok_or("is not there")?;
    if path.contains("/data/") {
        let docs = before.iter().rev().copied().collect::<Vec<_>>().join("\n");
        let cited = citations(&docs).contains(&(version_of(version), id));
        return if cited { Ok(()) } else { Err("does not cite it") };
    }
    if before.contains(&"#[test]") { Ok(()) } else { Err("is no test") }
}

/// All statements are there, once and in order, and the headings have counted them.
#[test]
fn the_manifest_is_complete() {
    let statements = statements();
    for (version, count) in SECTIONS {
        let section = || statements.iter().filter(|statement| statement.version == version);
        let number = |id: &str| -> Vec<u32> {
            let numbers = id.strip_prefix("MQTT-").expect(id).split(['.', '-']);
            let mut numbers: Vec<_> = numbers.map(|number| number.parse().expect(id)).collect();
            let last = numbers.pop();
            numbers.resize(3, 0);
            numbers.extend(last);
            numbers
        };
        let numbers: Vec<_> = section().map(|statement| number(statement.id)).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{version}: not in order, or twice");
        assert_eq!(numbers.len(), count, "{version}");

        let tested = section().filter(|statement| statement.is_tested).count();
        let excused = count - tested;
        let heading = format!("[{version}] {count} statements: {tested} tested, {excused} excused");
        println!("{heading}");
        let mut excuses = BTreeMap::<_, usize>::new();
        for statement in section().filter(|statement| !statement.is_tested) {
            *excuses.entry(statement.body).or_default() += 1;
        }
        for (excuse, count) in excuses {
            println!("{count:5} {excuse}");
        }
        assert!(MANIFEST.lines().any(|line| line == heading), "the heading is {heading}");
    }
    let known = |statement: &Statement| SECTIONS.iter().any(|s| s.0 == statement.version);
    assert!(statements.iter().all(known));
}

/// Tests are where the manifest says, and tables have the rows.
#[test]
fn every_test_is_there() {
    let mut wrong = Vec::new();
    for Statement { version, id, is_tested, body, remark } in statements() {
        let named = if is_tested { body } else { "" };
        let tests = named.split(", ").filter(|word| !word.is_empty());
        // What a remark says is in words, with tests among them.
        let remarked = remark.split([' ', ',']).filter(|word| word.contains('/'));
        for test in tests.chain(remarked) {
            if let Err(what) = check_reference(test, version, id) {
                wrong.push(format!("{version} {id}: {test} {what}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            files(&entry.expect("an entry").path(), found);
        }
    } else if path.extension().is_some_and(|kind| kind == "rs" || kind == "txt" || kind == "md") {
        found.push(path.into());
    }
}

/// No source cites a statement that there is not.
#[test]
fn every_citation_is_of_a_statement() {
    let mut found = Vec::new();
    for source in SOURCES {
        files(&root().join(source), &mut found);
    }
    let (mut wrong, mut cited) = (Vec::new(), 0);
    for path in found.into_iter().filter(|path| path.exists()) {
        let text = fs::read_to_string(&path).expect("text");
        // Where the version is told in the same line, it is that; elsewhere it may be either.
        for (number, line) in text.lines().enumerate() {
            for (version, id) in citations(line) {
                cited += 1;
                if !exists(version, id) && (version == "3.1.1" || !exists("3.1.1", id)) {
                    wrong.push(format!("{}:{}: {id}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(cited > 1_000);
}

#[test]
fn citations_are_found_with_their_version() {
    let text = "[MQTT-4.2-1], [MQTT-1.5.4-1] to 3, MQTT-5.0, 3.1.1: MQTT-1.5.3-2. MQTT-x";
    let found = [("5.0", "MQTT-4.2-1"), ("5.0", "MQTT-1.5.4-1"), ("3.1.1", "MQTT-1.5.3-2")];
    assert_eq!(citations(text), found);
    assert!(exists("5.0", "MQTT-4.2-1") && !exists("3.1.1", "MQTT-4.2-1"));
}
