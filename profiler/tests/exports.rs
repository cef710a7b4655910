//! Exports as the programs that they are for read them: `go tool pprof`, Perfetto's and OpenTelemetry's own definitions,
//! speedscope in a browser, `promtool`, a spreadsheet's view of CSV. The recordings are a real one of the demo's container
//! (as root) and one made here whose names attack every form.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/consumers.rs"]
mod consumers;
#[path = "support/hostile.rs"]
mod hostile;
#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use consumers::{python, skip};
use run::{Folder, stderr, stdout};
use serde_json::Value;

/// A recording of the demo, made once; `None` where nothing can be profiled.
fn demo() -> Option<&'static PathBuf> {
    static DEMO: OnceLock<Option<(Folder, PathBuf)>> = OnceLock::new();
    let made = DEMO.get_or_init(|| {
        // SAFETY: no arguments, no failure.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("the demo is not exported: profiling needs root, and this is not root");
            return None;
        }
        let folder = Folder::new();
        let output = folder.phasegraph(["demo", "-o", "demo"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let path = folder.path("demo/demo.phg");
        Some((folder, path))
    });
    made.as_ref().map(|(_, path)| path)
}

/// The recordings that every form is tried on.
fn recordings(folder: &Folder) -> Vec<PathBuf> {
    let path = folder.path("hostile.phg");
    hostile::write(&path, usize::MAX);
    std::iter::once(path).chain(demo().cloned()).collect()
}

fn export(folder: &Folder, recording: &std::path::Path, format: &str, more: &[&str]) -> Output {
    let output = folder
        .phasegraph(["export", "--format", format])
        .arg(recording)
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success(), "{format}: {}", stderr(&output));
    output
}

fn show(folder: &Folder, recording: &std::path::Path) -> Value {
    let output = folder.phasegraph(["show", "--json"]).arg(recording).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// All phases, wherever they hang.
fn phases(report: &Value) -> Vec<&Value> {
    fn collect<'a>(phases: &'a Value, found: &mut Vec<&'a Value>) {
        for phase in phases.as_array().unwrap() {
            found.push(phase);
            collect(&phase["phases"], found);
        }
    }
    let mut found = Vec::new();
    collect(&report["phases"], &mut found);
    for container in report["containers"].as_array().unwrap() {
        collect(&container["phases"], &mut found);
    }
    found
}

/// Sum of a time over all processes' threads.
fn thread_ns(report: &Value, state: &str) -> u64 {
    let processes = report["processes"].as_array().unwrap();
    processes
        .iter()
        .map(|process| process["resources"][state].as_u64().unwrap())
        .sum()
}

/// Make sure that results are valid against the published schema with every object closed, that both commands write the
/// same, and that the receipt has what the recording was made of.
#[test]
fn results_are_valid() {
    fn close(value: &mut Value) {
        if let Value::Object(map) = value {
            if map.contains_key("properties") {
                map.insert("unevaluatedProperties".to_owned(), false.into());
            }
            map.values_mut().for_each(close);
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/results.schema.json");
    let mut schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    close(&mut schema);
    let validator = jsonschema::draft202012::options().build(&schema).unwrap();
    let folder = Folder::new();
    for recording in recordings(&folder) {
        let json = export(&folder, &recording, "json", &[]).stdout;
        let report: Value = serde_json::from_slice(&json).unwrap();
        let problems: Vec<String> = validator
            .iter_errors(&report)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .take(5)
            .collect();
        assert_eq!(problems, [""; 0], "{}", recording.display());
        assert_eq!(report, show(&folder, &recording));
        let mut broken = report.clone();
        broken["receipt"]["cpus"] = "two".into();
        assert!(!validator.is_valid(&broken));
    }
    let Some(demo) = demo() else { return };
    let report = show(&folder, demo);
    let receipt = &report["receipt"];
    // Tests run in the project's own checkout, or in a copy without one: then it says why.
    assert!(receipt["commit"].is_object() != receipt["commit_unknown"].is_string());
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    assert_eq!(receipt["cpus"].as_u64(), Some(cpus));
    assert!(
        receipt["cores"]
            .as_u64()
            .is_some_and(|cores| 0 < cores && cores <= cpus)
    );
    let kernel = stdout(&Command::new("uname").arg("-r").output().unwrap());
    assert_eq!(receipt["kernel"].as_str(), Some(kernel.trim()));
    assert_eq!(receipt["settings"]["redaction"], true);
    assert_eq!(receipt["settings"]["sample_hz"], report["sample_hz"]);
}

/// Make sure that the receipt has the commit that git itself says, of the folder where the command began.
#[test]
fn commit_of_the_folder() {
    run::needs_root!();
    let folder = Folder::new();
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args([
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.com",
            "-c",
            "safe.directory=*",
        ]);
        let output = command.args(args).current_dir(folder.path("")).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(stdout(&output).trim().to_owned())
    };
    if git(&["init", "-q"]).is_none() {
        return skip("git can't be run");
    }
    git(&["commit", "-q", "--allow-empty", "-m", "one"]).unwrap();
    let head = git(&["rev-parse", "HEAD"]).unwrap();
    // The command makes another commit: what it began with counts.
    let report = folder.report_of(
        "x.phg",
        [
            "git",
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.com",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "two",
        ],
    );
    assert_ne!(git(&["rev-parse", "HEAD"]).unwrap(), head);
    let commit = &report.0["receipt"]["commit"];
    assert_eq!(commit["id"].as_str(), Some(&head[..]));
    let top = std::fs::canonicalize(folder.path("")).unwrap();
    assert_eq!(commit["folder"].as_str(), top.to_str());
}

/// Make sure that `go tool pprof` reads the profile, finds the threads' time and each label that a filter would ask for.
#[test]
fn pprof_reads_it() {
    if Command::new("go").arg("version").output().is_err() {
        return skip("go can't be run");
    }
    let folder = Folder::new();
    for recording in recordings(&folder) {
        export(&folder, &recording, "pprof", &["-o", "x.pprof", "--force"]);
        let pprof = |args: &[&str]| {
            let output = Command::new("go")
                .args(["tool", "pprof", "-symbolize=none"])
                .args(args)
                .arg("x.pprof")
                .current_dir(folder.path(""))
                // Its settings and fetched files.
                .env("HOME", folder.path(""))
                .env("PPROF_TMPDIR", folder.path(""))
                .output()
                .unwrap();
            assert!(output.status.success(), "{args:?}: {}", stderr(&output));
            stdout(&output)
        };
        let report = show(&folder, &recording);
        let cpu = thread_ns(&report, "cpu_ns");
        let raw = pprof(&["-raw"]);
        assert!(
            raw.contains("samples/count cpu/nanoseconds[dflt] blocked/nanoseconds wall/nanoseconds"),
            "{raw}"
        );
        let rows = raw
            .lines()
            .skip_while(|line| !line.starts_with("samples/count"))
            .skip(1);
        let values: Vec<Vec<u64>> = rows
            .take_while(|line| !line.starts_with("Locations"))
            .filter_map(|line| line.split_once(": "))
            .filter_map(|(values, _)| values.split_whitespace().map(|value| value.parse().ok()).collect())
            .filter(|values: &Vec<u64>| values.len() == 4)
            .collect();
        let sum = |index: usize| values.iter().map(|values| values[index]).sum::<u64>();
        assert_eq!(sum(1), cpu, "{raw}");
        assert_eq!(sum(0), report["coverage"]["samples"].as_u64().unwrap());
        assert_eq!(sum(2), report["coverage"]["blocked_ns"].as_u64().unwrap());
        let top = pprof(&["-top", "-nodecount=5"]);
        assert!(top.contains("flat%"), "{top}");
        let tags = pprof(&["-tags", "-sample_index=wall"]);
        for key in ["process", "state", "pid"] {
            assert!(
                tags.lines()
                    .any(|line| line.trim_start().starts_with(&format!("{key}:"))),
                "{key} in {tags}"
            );
        }
        for text in [&raw, &top, &tags] {
            assert!(!text.contains('\x1b') && !text.contains('\u{202e}'), "{text}");
        }
        if Some(&recording) == demo() {
            let found = phases(&report);
            let run = found.iter().find(|phase| phase["name"] == "run").unwrap();
            assert!(tags.contains("phase:") && tags.contains("container:"), "{tags}");
            // What a user would ask: only that phase's time.
            let focused = pprof(&["-top", "-tagfocus=phase=^run$", "-sample_index=cpu", "-unit=ns"]);
            // `Showing nodes accounting for 413567219ns, 95.1% of 434671332ns total`
            let shown = focused.lines().find(|line| line.contains("accounting for")).unwrap();
            let ns: u64 = shown
                .split_whitespace()
                .find_map(|word| word.trim_end_matches(',').strip_suffix("ns")?.parse().ok())
                .unwrap_or_else(|| panic!("{focused}"));
            let expected = run["all"]["cpu_ns"].as_u64().unwrap();
            assert!(ns <= expected, "{ns} of {expected}: {focused}");
            assert!(ns * 100 >= expected * 95, "{ns} of {expected}: {focused}");
        }
    }
}

/// What Perfetto's own definitions find in a trace, as JSON.
const PERFETTO: &str = r#"
import json, sys
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as p
trace = p.Trace()
trace.ParseFromString(open(sys.argv[1], 'rb').read())
def unknown(message):
    try:
        from google.protobuf.unknown_fields import UnknownFieldSet
    except ImportError:
        return 0
    found = len(UnknownFieldSet(message))
    for field, value in message.ListFields():
        if field.message_type:
            repeated = not hasattr(value, 'ListFields')
            found += sum(unknown(one) for one in value) if repeated else unknown(value)
    return found
tracks, slices, counters, stacks, threads = {}, [], {}, {}, 0
for packet in trace.packet:
    assert packet.trusted_packet_sequence_id
    if packet.HasField('track_descriptor'):
        track = packet.track_descriptor
        assert track.uuid not in tracks
        assert not track.parent_uuid or track.parent_uuid in tracks
        tracks[track.uuid] = track
    if packet.HasField('track_event'):
        event = packet.track_event
        assert event.track_uuid in tracks and packet.timestamp_clock_id == 3
        if event.type == p.TrackEvent.TYPE_SLICE_BEGIN:
            stacks.setdefault(event.track_uuid, []).append((event.name, packet.timestamp))
        elif event.type == p.TrackEvent.TYPE_SLICE_END:
            name, begin = stacks[event.track_uuid].pop()
            track = tracks[event.track_uuid]
            kind = 'thread' if track.HasField('thread') else track.name
            slices.append([kind, name, packet.timestamp - begin])
        elif event.type == p.TrackEvent.TYPE_COUNTER:
            counters.setdefault(tracks[event.track_uuid].name, []).append(
                event.counter_value or event.double_counter_value)
assert not any(stacks.values())
snapshot = next(packet.clock_snapshot for packet in trace.packet if packet.HasField('clock_snapshot'))
print(json.dumps({
    'unknown': unknown(trace),
    'processes': sorted(t.process.pid for t in tracks.values() if t.HasField('process')),
    'threads': sum(t.HasField('thread') for t in tracks.values()),
    'slices': slices,
    'counters': {name: len(values) for name, values in counters.items()},
    'clocks': {clock.clock_id: clock.timestamp for clock in snapshot.clocks},
}))
"#;

/// Make sure that Perfetto's own definitions know every field of the trace, and find all processes, threads, phases and
/// states in it, with their lengths.
#[test]
fn perfetto_reads_it() {
    let Some(python) = python() else { return };
    let folder = Folder::new();
    for recording in recordings(&folder) {
        export(&folder, &recording, "perfetto", &["-o", "x.perfetto-trace", "--force"]);
        let found = python.json(PERFETTO, &[&folder.path("x.perfetto-trace")]);
        let report = show(&folder, &recording);
        assert_eq!(found["unknown"], 0);
        let processes = report["processes"].as_array().unwrap();
        let mut pids: Vec<u64> = processes
            .iter()
            .map(|process| process["pid"].as_u64().unwrap())
            .collect();
        pids.sort_unstable();
        assert_eq!(found["processes"], Value::from(pids));
        let threads: usize = processes
            .iter()
            .map(|process| process["threads"].as_array().unwrap().len())
            .sum();
        assert_eq!(found["threads"], threads);
        let slices = found["slices"].as_array().unwrap();
        let mut drawn: Vec<u64> = Vec::new();
        let mut states: BTreeMap<&str, u64> = BTreeMap::new();
        for slice in slices {
            let ns = slice[2].as_u64().unwrap();
            match slice[0].as_str().unwrap() {
                "phases" => drawn.push(ns),
                "thread" => *states.entry(slice[1].as_str().unwrap()).or_default() += ns,
                _ => {}
            }
        }
        let mut walls: Vec<u64> = phases(&report)
            .iter()
            .map(|phase| phase["wall_ns"].as_u64().unwrap())
            .collect();
        walls.sort_unstable();
        drawn.sort_unstable();
        assert_eq!(drawn, walls);
        for state in ["disk", "child", "lost"] {
            let expected = thread_ns(&report, &format!("{state}_ns"));
            assert_eq!(states.get(state).copied().unwrap_or(0), expected, "{state}");
        }
        assert!(found["counters"]["threads on CPUs"].as_u64().unwrap() > 1);
        let clocks = report["host"]["clocks"].as_array().unwrap();
        assert_eq!(found["clocks"]["3"], clocks[0]["monotonic_ns"]);
        assert_eq!(found["clocks"]["1"], clocks[0]["real_ns"]);
    }
}

/// Reads OTLP/JSON by OpenTelemetry's own definitions, which refuse unknown fields. JSON of protobuf has bytes in base64,
/// OTLP's has ids in hexadecimal.
const OTLP: &str = r#"
import base64, json, sys
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as t
data = json.load(open(sys.argv[1]))
def ids(value):
    if isinstance(value, list):
        return [ids(one) for one in value]
    if isinstance(value, dict):
        return {key: base64.b64encode(bytes.fromhex(one)).decode() if key in ('traceId', 'spanId', 'parentSpanId')
                else ids(one) for key, one in value.items()}
    return value
request = json_format.ParseDict(ids(data), t.ExportTraceServiceRequest())
spans = []
for resource in request.resource_spans:
    attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
    for span in resource.scope_spans[0].spans:
        assert len(span.trace_id) == 16 and len(span.span_id) == 8
        spans.append({'id': span.span_id.hex(), 'parent': span.parent_span_id.hex(), 'trace': span.trace_id.hex(),
                      'name': span.name, 'ns': span.end_time_unix_nano - span.start_time_unix_nano,
                      'start': span.start_time_unix_nano, 'container': attributes.get('container.id'),
                      'host': attributes['host.name']})
print(json.dumps(spans))
"#;

/// Takes one request and answers it; its head and body.
fn serve(listener: &TcpListener, answer: &str) -> (String, Vec<u8>) {
    let (mut stream, _) = listener.accept().unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().unwrap())
        })
        .unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    stream.write_all(answer.as_bytes()).unwrap();
    (head, body)
}

/// Make sure that OpenTelemetry's own definitions take the trace, file or request, that its spans are operations,
/// containers and phases with their lengths, and that a collector's refusal is an error.
#[test]
fn otlp_reads_it() {
    let folder = Folder::new();
    let recordings = recordings(&folder);
    for recording in &recordings {
        export(&folder, recording, "otlp", &["-o", "x.json", "--force"]);
        let Some(python) = python() else { break };
        let spans = python.json(OTLP, &[&folder.path("x.json")]);
        let report = show(&folder, recording);
        let spans = spans.as_array().unwrap();
        let count = |field: &str| report[field].as_array().unwrap().len();
        assert_eq!(
            spans.len(),
            count("operations") + count("containers") + phases(&report).len()
        );
        for phase in phases(&report) {
            let ns = &phase["wall_ns"];
            assert!(spans.iter().any(|span| span["ns"] == *ns), "{ns}");
        }
        for span in spans {
            let parent = span["parent"].as_str().unwrap();
            let above = spans.iter().find(|other| other["id"] == parent);
            assert!(parent.is_empty() || above.is_some_and(|above| above["trace"] == span["trace"]));
        }
    }

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let whole = export(&folder, &recordings[0], "otlp", &[]).stdout;
    for (answer, good) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", true),
        (
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\nno \x1b[2J..",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n{\"partialSuccess\":{\"rejectedSpans\":\"2\"}} ",
            false,
        ),
    ] {
        let mut command = folder.phasegraph(["export", "--format", "otlp", "--endpoint", &url]);
        let (output, (head, body)) = std::thread::scope(|scope| {
            let client = scope.spawn(|| command.arg(&recordings[0]).output().unwrap());
            let request = serve(&listener, answer);
            (client.join().unwrap(), request)
        });
        assert_eq!(output.status.success(), good, "{}", stderr(&output));
        assert!(!stderr(&output).contains('\x1b'), "{}", stderr(&output));
        assert!(head.starts_with("POST /v1/traces "), "{head}");
        assert!(
            head.to_ascii_lowercase().contains("content-type: application/json"),
            "{head}"
        );
        assert_eq!(body, whole);
    }
    drop(listener);
    let output = folder
        .phasegraph(["export", "--format", "otlp", "--endpoint", &url])
        .arg(&recordings[0])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}

/// Make sure that `promtool` takes the metrics without a complaint.
#[test]
fn promtool_takes_it() {
    if Command::new("promtool").arg("--version").output().is_err() {
        return skip("promtool can't be run");
    }
    let folder = Folder::new();
    for recording in recordings(&folder) {
        export(&folder, &recording, "prometheus", &["-o", "x.prom", "--force"]);
        let check = || {
            let file = std::fs::File::open(folder.path("x.prom")).unwrap();
            let mut promtool = Command::new("promtool");
            promtool.args(["check", "metrics"]).stdin(file).output().unwrap()
        };
        let output = check();
        let said = stdout(&output) + &stderr(&output);
        assert!(output.status.success() && said.is_empty(), "{said}");
        let report = show(&folder, &recording);
        let text = std::fs::read_to_string(folder.path("x.prom")).unwrap();
        let ended = phases(&report).iter().filter(|phase| phase["open"] == false).count();
        let counted: usize = text
            .lines()
            .filter(|line| line.starts_with("phasegraph_phase_duration_seconds_count"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
            .sum();
        assert_eq!(counted, ended);
        // And it would complain.
        std::fs::write(folder.path("x.prom"), format!("{text}{text}")).unwrap();
        assert!(!check().status.success());
    }
}

/// Make sure that Python's `csv` finds a row for each phase, that no cell is a formula, and that both forms say the same.
#[test]
fn tables_are_read() {
    let Some(python) = python() else { return };
    const ROWS: &str = "import csv, json, sys\n\
                        print(json.dumps(list(csv.reader(open(sys.argv[1], newline=''), delimiter=sys.argv[2]))))";
    let folder = Folder::new();
    for recording in recordings(&folder) {
        let report = show(&folder, &recording);
        let mut forms = Vec::new();
        for (format, delimiter) in [("csv", ","), ("tsv", "\t")] {
            export(&folder, &recording, format, &["-o", "x.csv", "--force"]);
            let rows = python.json(ROWS, &[&folder.path("x.csv"), &PathBuf::from(delimiter)]);
            let rows = rows.as_array().unwrap().clone();
            assert_eq!(rows.len(), 1 + phases(&report).len());
            for cell in rows.iter().flat_map(|row| row.as_array().unwrap()) {
                let cell = cell.as_str().unwrap();
                assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell}");
            }
            forms.push(rows);
        }
        assert_eq!(forms[0], forms[1]);
    }
}

/// Make sure that speedscope itself, in a browser, shows the profile by its name, with the functions and times of it, and
/// that no name of it becomes an element of the page.
#[test]
fn speedscope_shows_it() {
    let (Some(speedscope), Some(browser)) = (consumers::speedscope(), consumers::browser()) else {
        return;
    };
    let folder = Folder::new();
    for recording in recordings(&folder) {
        export(
            &folder,
            &recording,
            "speedscope",
            &["-o", "x.speedscope.json", "--force"],
        );
        let bytes = std::fs::read(folder.path("x.speedscope.json")).unwrap();
        let file: Value = serde_json::from_slice(&bytes).unwrap();
        let page = browser.dom(&speedscope, &bytes, &folder);
        let profile = &file["profiles"][0];
        let title = format!("<title>{}", consumers::in_html(profile["name"].as_str().unwrap()));
        assert!(page.contains(&title), "{title} in {page}");
        // A name that became an element would be written as one, and its script would have set the title.
        assert!(
            !page.contains("<img src=\"x\"") && !page.contains("<title>owned"),
            "{page}"
        );
        // The widest function stands in its table.
        let names = file["shared"]["frames"].as_array().unwrap();
        let mut own: BTreeMap<u64, u64> = BTreeMap::new();
        let stacks = profile["samples"]
            .as_array()
            .unwrap()
            .iter()
            .zip(profile["weights"].as_array().unwrap());
        for (stack, weight) in stacks {
            let leaf = stack.as_array().unwrap().last().unwrap().as_u64().unwrap();
            *own.entry(leaf).or_default() += weight.as_u64().unwrap();
        }
        let (leaf, _) = own.iter().max_by_key(|(_, ns)| **ns).unwrap();
        let name = consumers::in_html(names[*leaf as usize]["name"].as_str().unwrap());
        assert!(page.contains(&name), "{name} in {page}");
    }
}

/// Make sure that files are private, are kept unless asked, and that what makes no sense together is refused.
#[test]
fn files_and_nonsense() {
    let folder = Folder::new();
    hostile::write(&folder.path("x.phg"), usize::MAX);
    let run = |args: &[&str]| {
        let output = folder
            .phasegraph(["export", "x.phg", "--format"])
            .args(args)
            .output()
            .unwrap();
        (output.status.code().unwrap(), stderr(&output))
    };
    assert_eq!(run(&["pprof"]).0, 0);
    assert_eq!(run(&["perfetto"]).0, 0);
    assert_eq!(folder.names(), ["x.perfetto-trace", "x.phg", "x.pprof"]);
    let mode = std::fs::metadata(folder.path("x.pprof")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (status, said) = run(&["pprof"]);
    assert!(
        status == 1 && said.contains("exists") && said.contains("--force"),
        "{said}"
    );
    assert_eq!(run(&["pprof", "--force"]).0, 0);
    for nonsense in [
        &["json", "--phase", "run"][..],
        &["perfetto", "--container", "x"],
        &["csv", "--process", "sh"],
        &["pprof", "--kind", "wall"],
        &["csv", "--endpoint", "http://127.0.0.1:1"],
        &["otlp", "--endpoint", "ftp://x"],
        &["otlp", "--endpoint", "http://127.0.0.1:1", "-o", "y"],
        &["html"],
    ] {
        let (status, said) = run(nonsense);
        assert_eq!(status, 2, "{nonsense:?}: {said}");
    }
    let (status, said) = run(&["csv", "--phase", "nothing"]);
    assert!(status == 1 && said.contains("no phase"), "{said}");
    assert_eq!(folder.names().len(), 3);
}

/// Make sure that the slowest phases are drawn into files named by numbers, in a new private folder, and kept.
#[test]
fn slowest_phases() {
    let Some(demo) = demo() else { return };
    let folder = Folder::new();
    let draw = |more: &[&str]| {
        let mut command = folder.phasegraph(["flame", "--slowest", "3", "--kind", "wall", "-o", "slow"]);
        command.arg(demo).args(more).output().unwrap()
    };
    let output = draw(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report = show(&folder, demo);
    let mut found: Vec<(u64, u64)> = phases(&report)
        .iter()
        .map(|phase| (phase["wall_ns"].as_u64().unwrap(), phase["index"].as_u64().unwrap()))
        .collect();
    found.sort_by_key(|(wall, index)| (std::cmp::Reverse(*wall), *index));
    let mut expected: Vec<String> = Vec::new();
    for (rank, (_, index)) in found.iter().take(3).enumerate() {
        expected.push(format!("{:02}-phase-{index}-wall.svg", rank + 1));
    }
    let mut names: Vec<String> = std::fs::read_dir(folder.path("slow"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, expected);
    let mode = |path: &str| std::fs::metadata(folder.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("slow"), 0o700);
    assert_eq!(mode(&format!("slow/{}", names[0])), 0o600);
    assert_eq!(draw(&[]).status.code(), Some(1));
    assert!(draw(&["--force"]).status.success());
}
