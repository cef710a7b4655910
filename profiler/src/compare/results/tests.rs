//! `docs/series.schema.json` is what the types say; what is written is what it says and can be read again.

use std::path::PathBuf;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::*;
use crate::compare::digest;
use crate::report::fixture;

/// Set to anything: the schema is written instead of compared.
const UPDATE: &str = "PHASEGRAPH_UPDATE_DOCS";

pub(crate) fn results(runs: u32) -> Results {
    let session = fixture::session();
    let mut series = Series {
        name: "warm".to_owned(),
        ..Series::default()
    };
    for number in 1..=runs {
        let mut run = digest::run(&session, false);
        run.number = number;
        series.runs.push(run);
    }
    series.summarize();
    Results {
        kind: KIND.to_owned(),
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: digest::host(&session),
        series: vec![series],
        ..Results::default()
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/series.schema.json")
}

/// Make sure that the published schema is that of the types. `PHASEGRAPH_UPDATE_DOCS=1 cargo test -p phasegraph --lib
/// schema_is_published` writes it.
#[test]
fn series_schema_is_published() {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = serde_json::to_value(generator.into_root_schema_for::<Results>()).unwrap();
    schema["title"] = "phasegraph series".into();
    schema["description"] = "What `phasegraph bench` writes as results.json. All times are integers in ns, all sizes \
                             integers in bytes, all shares integers in millionths."
        .into();
    schema["properties"]["schema"]["const"] = SCHEMA.into();
    schema["properties"]["kind"]["const"] = KIND.into();
    let mut text = serde_json::to_string_pretty(&schema).unwrap();
    text.push('\n');
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(path(), &text).unwrap();
    }
    let published = std::fs::read_to_string(path()).unwrap_or_default();
    assert_eq!(published, text, "{UPDATE}=1 writes docs/series.schema.json");
    jsonschema::draft202012::meta::validate(&schema).unwrap();
}

/// Make sure that what is written is valid, that the check can fail, and that it reads back as it was.
#[test]
fn written_and_read() {
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap();
    let validator = jsonschema::draft202012::options().build(&schema).unwrap();
    let written = results(3).to_json().unwrap().0;
    let value: Value = serde_json::from_slice(&written).unwrap();
    let problems: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert_eq!(problems, [""; 0]);
    for (pointer, wrong) in [
        ("/series/0/runs/0/wall_ns", json!(1.5)),
        ("/series/0/measures/0/median", json!("long")),
        ("/kind", json!("other")),
        ("/schema", json!(2)),
    ] {
        let mut broken = value.clone();
        *broken.pointer_mut(pointer).unwrap() = wrong;
        assert!(!validator.is_valid(&broken), "{pointer}");
    }
    let read = Results::from_json(&written).unwrap();
    assert_eq!(read.to_json().unwrap().0, written);
    assert_eq!(read.series[0].success_ppm, 1_000_000);
    assert!(read.series[0].measures.iter().any(|measure| measure.key == TOTAL));
}

/// Make sure that no text of a file can do anything to whoever reads it, though its checksum holds, but that a recording is
/// found by its own name.
#[test]
fn hostile_text() {
    const HOSTILE: &str = "\x1b[2J\u{202e}\n::error::x";
    let mut made = results(2);
    made.name = HOSTILE.to_owned();
    made.version = HOSTILE.to_owned();
    made.commit = Some(HOSTILE.to_owned());
    made.command = vec![HOSTILE.to_owned()];
    made.host.hostname = HOSTILE.to_owned();
    made.settings.cold = vec![vec![HOSTILE.to_owned()]];
    let series = &mut made.series[0];
    series.name = HOSTILE.to_owned();
    // A parameter of this name is no recording's name.
    for name in [HOSTILE, "recording"] {
        series.params.insert(name.to_owned(), HOSTILE.to_owned());
    }
    series.runs[0].recording = Some("a\u{202e}.phg".to_owned());
    series.runs[1].version = HOSTILE.to_owned();
    series.runs[1].phases[1].key = HOSTILE.to_owned();
    series.runs[1].programs[0].name = HOSTILE.to_owned();
    series.measures[0].key = HOSTILE.to_owned();
    let mut read = Results::from_json(&made.to_json().unwrap().0).unwrap();
    assert_eq!(read.series[0].params.len(), 2);
    assert_eq!(
        read.series[0].runs[0].recording.take().as_deref(),
        Some("a\u{202e}.phg")
    );
    assert_eq!(read.series[0].runs[1].recording, None);
    let text = format!("{read:?}");
    // `Debug` doubles each backslash of the harmless form.
    assert_eq!(text.matches("\\\\x1b[2J\\\\u{202e}").count(), 14, "{text}");
    assert!(!text.contains("\\u{1b}") && !text.contains("\\n"), "{text}");
}

/// Make sure that a file that was edited, is something else or is of a newer version is refused, each with its reason.
#[test]
fn not_taken_for_a_measurement() {
    let written = String::from_utf8(results(2).to_json().unwrap().0).unwrap();
    let edited = written.replacen("\"wall_ns\":", "\"wall_ns\":1", 1);
    assert_ne!(written, edited);
    assert!(matches!(Results::from_json(edited.as_bytes()), Err(Unusable::Changed)));
    let mut value: Value = serde_json::from_str(&written).unwrap();
    // Spaces and order are not content, a field that a later version added is.
    let spaced = serde_json::to_vec_pretty(&value).unwrap();
    assert!(Results::from_json(&spaced).is_ok());
    value["schema"] = (SCHEMA + 1).into();
    assert!(matches!(
        Results::from_json(&serde_json::to_vec(&value).unwrap()),
        Err(Unusable::Newer(2))
    ));
    value["kind"] = "other".into();
    assert!(matches!(
        Results::from_json(&serde_json::to_vec(&value).unwrap()),
        Err(Unusable::Kind)
    ));
    for broken in ["", "[]", "{}", "{\"kind\":\"phasegraph series\"", "null", "\"x\""] {
        assert!(Results::from_json(broken.as_bytes()).is_err(), "{broken}");
    }
}
