//! An OpenTelemetry trace of operations, containers and phases, as OTLP/JSON
//! (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>): ids in hexadecimal, 64-bit numbers as strings.
//!
//! Each operation is a trace; a container or phase of none is one of its own. The host is one resource, each container
//! another, with the attributes of the semantic conventions
//! (<https://opentelemetry.io/docs/specs/semconv/resource/container/>). Ids are made of what was recorded, so the same
//! recording gives the same trace each time.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Error, Request, Sink};
use crate::attribute::resources::{self, Resources};
use crate::attribute::waits::Classifier;
use crate::model::{Container, ContainerIx, OperationIx, PhaseIx, Session, Span as Time};
use crate::report::select::all_phases;
use crate::report::{figures, names, text};

/// Version of the semantic conventions that the attributes are of.
const CONVENTIONS: &str = "https://opentelemetry.io/schemas/1.37.0";

/// `SPAN_KIND_INTERNAL` of `opentelemetry/proto/trace/v1/trace.proto`.
const INTERNAL: u32 = 1;
/// `STATUS_CODE_ERROR` of the same.
const FAILED: u32 = 2;

pub(super) struct Otlp;

impl Sink for Otlp {
    fn name(&self) -> &'static str {
        "otlp"
    }

    fn about(&self) -> &'static str {
        "operations, containers and phases as an OpenTelemetry trace (OTLP/JSON)"
    }

    fn write(&self, session: &Session, _: &Request, out: &mut dyn Write) -> Result<(), Error> {
        serde_json::to_writer(&mut *out, &traces(session)?)?;
        out.write_all(b"\n")?;
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Traces {
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans {
    resource: Resource,
    scope_spans: Vec<ScopeSpans>,
    schema_url: &'static str,
}

#[derive(Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
struct ScopeSpans {
    scope: Scope,
    spans: Vec<Span>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent_span_id: String,
    name: String,
    kind: u32,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Serialize)]
struct Status {
    code: u32,
    message: String,
}

#[derive(Serialize)]
struct Attribute {
    key: String,
    value: Value,
}

#[derive(Serialize)]
enum Value {
    #[serde(rename = "stringValue")]
    Text(String),
    #[serde(rename = "boolValue")]
    Flag(bool),
    /// 64 bits: a string in JSON.
    #[serde(rename = "intValue")]
    Int(String),
    #[serde(rename = "arrayValue")]
    List { values: Vec<Value> },
}

fn words(key: &str, value: impl AsRef<[u8]>) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Value::Text(text::visible(value.as_ref())),
    }
}

fn list<T: AsRef<[u8]>>(key: &str, values: &[T]) -> Attribute {
    let values = values
        .iter()
        .map(|value| Value::Text(text::visible(value.as_ref())))
        .collect();
    Attribute {
        key: key.to_owned(),
        value: Value::List { values },
    }
}

fn int(key: &str, value: u64) -> Attribute {
    Attribute {
        key: key.to_owned(),
        // The type is signed.
        value: Value::Int(i64::try_from(value).unwrap_or(i64::MAX).to_string()),
    }
}

fn flag(key: &str) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Value::Flag(true),
    }
}

fn traces(session: &Session) -> Result<Traces, Error> {
    if session.clocks.is_empty() {
        return Err(Error::NoClock);
    }
    let mut classifier = Classifier::default();
    // The host's spans, then each container's.
    let mut spans: BTreeMap<Option<ContainerIx>, Vec<Span>> = BTreeMap::new();
    spans.entry(None).or_default().extend(operations(session));
    for index in 0..session.containers.len() as u32 {
        let ix = ContainerIx(index);
        spans.entry(Some(ix)).or_default().push(container(session, ix));
    }
    for ix in all_phases(session) {
        let owner = session.phases[ix.ix()]
            .container
            .filter(|owner| owner.ix() < session.containers.len());
        let span = phase(session, ix, &mut classifier);
        spans.entry(owner).or_default().push(span);
    }
    let resource_spans = spans
        .into_iter()
        .map(|(owner, spans)| {
            let mut attributes = host(session);
            if let Some(container) = owner.and_then(|ix| session.containers.get(ix.ix())) {
                attributes.extend(of_container(container));
            }
            let scope = Scope {
                name: "phasegraph",
                version: env!("CARGO_PKG_VERSION"),
            };
            ResourceSpans {
                resource: Resource { attributes },
                scope_spans: vec![ScopeSpans { scope, spans }],
                schema_url: CONVENTIONS,
            }
        })
        .collect();
    Ok(Traces { resource_spans })
}

fn host(session: &Session) -> Vec<Attribute> {
    let meta = &session.meta;
    let arch = match &meta.machine[..] {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let name = if meta.name.is_empty() { "phasegraph" } else { &meta.name };
    let lost = figures::losses(session)
        .iter()
        .filter(|loss| loss.is_loss)
        .fold(0u64, |sum, loss| sum.saturating_add(loss.count));
    vec![
        words("service.name", name),
        words("host.name", &meta.hostname),
        words("host.arch", arch),
        words("host.cpu.model.name", &meta.cpu_model),
        words("os.type", "linux"),
        words("os.version", &meta.kernel),
        words("phasegraph.version", &meta.version),
        int("phasegraph.lost", lost),
    ]
}

/// Names of the semantic conventions; what is not known is left out.
fn of_container(container: &Container) -> Vec<Attribute> {
    let mut attributes = vec![words("container.id", &container.id)];
    let mut known = |key, value: &[u8]| {
        if !value.is_empty() {
            attributes.push(words(key, value));
        }
    };
    known("container.name", &container.name);
    known("container.image.name", &container.image);
    known("container.runtime.name", container.runtime.as_bytes());
    known("phasegraph.engine", container.engine.as_bytes());
    if !container.digest.is_empty() {
        let digest = [&container.image[..], b"@", &container.digest].concat();
        attributes.push(list("container.image.repo_digests", &[digest]));
    }
    attributes
}

/// What a span stands for, for its id.
#[derive(Clone, Copy)]
enum Of {
    Operation(OperationIx),
    Container(ContainerIx),
    Phase(PhaseIx),
}

/// The first bytes of a hash of the recording and of what the id stands for, in hexadecimal; never all zero, which would
/// be no id.
fn id(session: &Session, role: &str, of: Of, bytes: usize) -> String {
    let (kind, index) = match of {
        Of::Operation(ix) => ("operation", ix.0),
        Of::Container(ix) => ("container", ix.0),
        Of::Phase(ix) => ("phase", ix.0),
    };
    let real = figures::real_time(&session.clocks, session.span.from).unwrap_or(0);
    let text = format!(
        "{role} {} {real} {} {kind} {index}",
        session.meta.hostname, session.span.from
    );
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

fn span_id(session: &Session, of: Of) -> String {
    id(session, "span", of, 8)
}

/// A span of a trace whose root is `root`.
fn span(session: &Session, root: Of, of: Of, parent: Option<Of>, name: String, time: Time) -> Span {
    let date = |ns| figures::real_time(&session.clocks, ns).unwrap_or(0).to_string();
    Span {
        trace_id: id(session, "trace", root, 16),
        span_id: span_id(session, of),
        parent_span_id: parent.map_or_else(String::new, |parent| span_id(session, parent)),
        name,
        kind: INTERNAL,
        start_time_unix_nano: date(time.from),
        end_time_unix_nano: date(time.to.max(time.from)),
        attributes: Vec::new(),
        status: None,
    }
}

fn operations(session: &Session) -> Vec<Span> {
    let all = session.operations.iter().enumerate();
    all.map(|(index, operation)| {
        let of = Of::Operation(OperationIx(index as u32));
        let name = text::visible(operation.name.as_bytes());
        let mut span = span(session, of, of, None, name, operation.span);
        if let Some(process) = session.processes.get(operation.process.ix()) {
            span.attributes.push(int("process.pid", process.tgid.into()));
            let argv = process.image().map(|image| &image.argv[..]).unwrap_or_default();
            span.attributes.push(list("process.command_args", argv));
        }
        span.attributes.extend(operation.open.then(|| flag("phasegraph.open")));
        span
    })
    .collect()
}

/// The operation that a container belongs to, if there is one.
fn operation_of(session: &Session, operation: Option<OperationIx>) -> Option<Of> {
    operation
        .filter(|ix| ix.ix() < session.operations.len())
        .map(Of::Operation)
}

fn container(session: &Session, ix: ContainerIx) -> Span {
    let container = &session.containers[ix.ix()];
    let above = operation_of(session, container.operation);
    let of = Of::Container(ix);
    let name = format!("container {}", names::container(session, ix));
    span(session, above.unwrap_or(of), of, above, name, container.span)
}

fn phase(session: &Session, ix: PhaseIx, classifier: &mut Classifier) -> Span {
    let phase = &session.phases[ix.ix()];
    let of = Of::Phase(ix);
    let container = phase.container.filter(|ix| ix.ix() < session.containers.len());
    // A parent comes before its children; another container's is not this one's.
    let above = phase
        .parent
        .filter(|above| *above < ix && session.phases[above.ix()].container == phase.container);
    let parent = above
        .map(Of::Phase)
        .or(container.map(Of::Container))
        .or_else(|| operation_of(session, phase.operation));
    let root = root(session, ix);
    let mut span = span(session, root, of, parent, names::phase(session, ix), phase.span);
    let times = resources::phase(session, phase, classifier);
    let attributes = &mut span.attributes;
    attributes.push(words("phasegraph.phase", phase.kind.name()));
    attributes.push(int("phasegraph.phase.number", ix.0.into()));
    attributes.extend(phase.open.then(|| flag("phasegraph.open")));
    attributes.extend(phase.bytes.map(|bytes| int("phasegraph.bytes", bytes)));
    attributes.extend(states("phasegraph.wall", &times.wall));
    attributes.push(int("phasegraph.wall.unattributed_ns", times.unattributed));
    attributes.extend(states("phasegraph.all", &times.all));
    if let Some(thread) = phase.main.and_then(|ix| session.threads.get(ix.ix())) {
        attributes.push(int("process.pid", thread.id.tgid.into()));
    }
    if let Some(status) = figures::exit_status(session, phase) {
        attributes.push(int("process.exit.code", u64::try_from(status).unwrap_or(0)));
        if status != 0 {
            span.status = Some(Status {
                code: FAILED,
                message: format!("exit status {status}"),
            });
        }
    }
    span
}

/// The topmost span above a phase: the way up is that of the spans' parents.
fn root(session: &Session, ix: PhaseIx) -> Of {
    let phase = &session.phases[ix.ix()];
    let container = phase
        .container
        .and_then(|ix| session.containers.get(ix.ix()).map(|found| (ix, found)));
    if let Some((ix, container)) = container {
        return operation_of(session, container.operation).unwrap_or(Of::Container(ix));
    }
    // The parents of a phase of no container are of none either, down to the first.
    let mut top = ix;
    while let Some(above) = session.phases[top.ix()]
        .parent
        .filter(|above| *above < top && session.phases[above.ix()].container == phase.container)
    {
        top = above;
    }
    operation_of(session, session.phases[top.ix()].operation).unwrap_or(Of::Phase(top))
}

/// Times that are not 0, as `prefix.cpu_ns`.
fn states(prefix: &str, resources: &Resources) -> Vec<Attribute> {
    let waits = figures::waits(resources);
    [("cpu", resources.cpu), ("runqueue", resources.runqueue)]
        .into_iter()
        .chain(waits)
        .chain([("lost", resources.lost)])
        .filter(|(_, ns)| *ns > 0)
        .map(|(state, ns)| int(&format!("{prefix}.{}_ns", state.replace(' ', "_")), ns))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use serde_json::Value as Json;

    use super::*;
    use crate::report::export::tests::written;
    use crate::report::fixture;

    fn spans(session: &Session) -> Vec<Json> {
        let traces: Json = serde_json::from_slice(&written(&Otlp, session)).unwrap();
        traces["resourceSpans"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|resource| resource["scopeSpans"][0]["spans"].as_array().unwrap().clone())
            .collect()
    }

    /// Make sure that spans are one tree for each trace, with ids of the right length, and lengths of what they stand for.
    #[test]
    fn a_tree_of_spans() {
        let mut alone = fixture::session();
        alone.operations.clear();
        alone.containers[0].operation = None;
        for phase in &mut alone.phases {
            phase.operation = None;
        }
        for session in [fixture::session(), alone] {
            let spans = spans(&session);
            let operations = session.operations.len();
            assert_eq!(
                spans.len(),
                operations + session.containers.len() + session.phases.len()
            );
            let text = |span: &Json, field: &str| span[field].as_str().unwrap_or_default().to_owned();
            let by_id: HashMap<String, &Json> = spans.iter().map(|span| (text(span, "spanId"), span)).collect();
            assert_eq!(by_id.len(), spans.len());
            let mut roots = HashSet::new();
            for span in &spans {
                assert_eq!((text(span, "traceId").len(), text(span, "spanId").len()), (32, 16));
                match &text(span, "parentSpanId")[..] {
                    "" => assert!(roots.insert(text(span, "traceId")), "two roots of a trace"),
                    parent => assert_eq!(text(by_id[parent], "traceId"), text(span, "traceId")),
                }
            }
            let traces: HashSet<String> = spans.iter().map(|span| text(span, "traceId")).collect();
            assert_eq!(traces, roots);
            let run = spans.iter().find(|span| span["name"] == "run").unwrap();
            let ns = |field: &str| text(run, field).parse::<u64>().unwrap();
            assert_eq!(
                ns("endTimeUnixNano") - ns("startTimeUnixNano"),
                session.phases[4].span.len()
            );
            assert_eq!(ns("startTimeUnixNano"), 1_770_000_000_000_000_000 + 1_700 * fixture::MS);
        }
    }

    /// Make sure that a failed command is an error, and a good one is not.
    #[test]
    fn failures_are_errors() {
        let mut session = fixture::session();
        let status = |session: &Session| {
            let spans = spans(session);
            spans.iter().find(|span| span["name"] == "run").unwrap()["status"].clone()
        };
        assert!(status(&session).is_null());
        session.processes[2].exit_code = Some(3 << 8);
        assert_eq!(status(&session)["code"], 2);
        assert_eq!(status(&session)["message"], "exit status 3");
    }
}
