//! `docs/results.schema.json` is what the types say, and what the program writes is what it says.

use std::path::PathBuf;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::schema::Report;
use super::*;
use crate::report::fixture;
use crate::session;

/// Set to anything: the schema is written instead of compared.
const UPDATE: &str = "PHASEGRAPH_UPDATE_DOCS";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/results.schema.json")
}

/// Of the types and their comments. `uint64` and the like are JSON Schema's `format`: annotations.
fn generated() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = serde_json::to_value(generator.into_root_schema_for::<Report>()).unwrap();
    schema["title"] = "phasegraph results".into();
    schema["description"] = "What `phasegraph show --json` and `phasegraph export --format json` write. All times are \
                             integers in ns, all sizes integers in bytes. Names ending in `_ns` without `_real` are of \
                             the recorded host's monotonic clock, or lengths."
        .into();
    schema["properties"]["schema"]["const"] = SCHEMA.into();
    schema
}

/// The published schema with every object closed: a field that it does not name is an error. (As published it is open,
/// since fields are added.)
fn strict() -> jsonschema::Validator {
    fn close(value: &mut Value) {
        match value {
            Value::Object(map) => {
                if map.contains_key("properties") {
                    map.insert("unevaluatedProperties".to_owned(), false.into());
                }
                map.values_mut().for_each(close);
            }
            Value::Array(items) => items.iter_mut().for_each(close),
            _ => {}
        }
    }
    let mut schema: Value = serde_json::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap();
    close(&mut schema);
    jsonschema::draft202012::options().build(&schema).unwrap()
}

fn problems(validator: &jsonschema::Validator, report: &Value) -> Vec<String> {
    validator
        .iter_errors(report)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .take(10)
        .collect()
}

/// Make sure that the published schema is that of the types. `PHASEGRAPH_UPDATE_DOCS=1 cargo test -p phasegraph --lib
/// schema_is_published` writes it.
#[test]
fn schema_is_published() {
    let mut text = serde_json::to_string_pretty(&generated()).unwrap();
    text.push('\n');
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(path(), &text).unwrap();
    }
    let published = std::fs::read_to_string(path()).unwrap_or_default();
    assert_eq!(published, text, "{UPDATE}=1 writes docs/results.schema.json");
    let schema: Value = serde_json::from_str(&published).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    jsonschema::draft202012::meta::validate(&schema).unwrap();
}

/// Make sure that reports are valid and name no field that the schema does not, and that the check can fail.
#[test]
fn reports_are_valid() {
    let validator = strict();
    let whole = fixture::session();
    let mut cut_off = fixture::session();
    cut_off.closed = None;
    cut_off.containers[0].name = b"a\xffb".to_vec();
    cut_off.meta.facts = vec![
        (session::COMMIT.to_owned(), "0".repeat(40)),
        ("cores".to_owned(), "1".to_owned()),
        ("note toolchain".to_owned(), "rustc 1.95.0".to_owned()),
    ];
    cut_off.versions = vec![("podman".to_owned(), "4.3.1".to_owned(), b"/usr/bin/podman".to_vec())];
    for session in [whole, cut_off, fixture::disk::with_disk(), Session::default()] {
        let report: Value = serde_json::from_slice(&render(&session).unwrap()).unwrap();
        assert_eq!(problems(&validator, &report), [""; 0]);
        for (pointer, wrong) in [
            ("/span/begin_ns", json!(1.5)),
            ("/span/closed", json!("yes")),
            ("/receipt/commit", json!("main")),
            ("/schema", json!(2)),
            ("/receipt/notes", json!({})),
            ("/self/gaps", json!({})),
            ("/host", json!({"unknown": 1})),
        ] {
            let mut broken = report.clone();
            *broken.pointer_mut(pointer).unwrap() = wrong;
            assert!(!validator.is_valid(&broken), "{pointer}");
        }
        let mut more = report.clone();
        more["receipt"]["invented"] = 1.into();
        assert!(!validator.is_valid(&more));
    }
}
