//! A pprof profile: `go tool pprof`, Pyroscope, Parca, Speedscope.
//!
//! Values of a sample: CPU samples, and ns on CPUs, blocked, and of all kinds together (with run queues and what no event
//! covers). Labels say whose they are: `operation`, `container`, `phase`, `process`, `thread`, `state`, and the number
//! `pid`. Numbers of the fields: <https://github.com/google/pprof/blob/main/proto/profile.proto>.

use std::collections::HashMap;
use std::io::Write;

use prost::Message;

use super::{Error, Request, Sink, program};
use crate::attribute::stacks::{self, LOST, RUN_QUEUE, SHORT_WAITS, StackRow};
use crate::attribute::waits::Classifier;
use crate::model::{ProcessIx, Session, Span};
use crate::recording::record::Place;
use crate::report::flame::frames::Frames;
use crate::report::flame::{Empty, Roots};
use crate::report::{figures, names, text};

pub(super) struct Pprof;

impl Sink for Pprof {
    fn name(&self) -> &'static str {
        "pprof"
    }

    fn about(&self) -> &'static str {
        "stacks with phase, container and process as labels, for go tool pprof"
    }

    fn ending(&self) -> Option<&'static str> {
        Some("pprof")
    }

    fn takes_part(&self) -> bool {
        true
    }

    fn write(&self, session: &Session, request: &Request, out: &mut dyn Write) -> Result<(), Error> {
        let mut builder = Builder::new(session);
        let frames = Frames::new(session, Roots::default());
        let mut classifier = Classifier::default();
        for (index, spans) in request.selection.spans(session).into_iter().enumerate() {
            let process = ProcessIx(index as u32);
            for span in spans {
                for slice in frames.slices(process, span) {
                    builder.slice(&frames, process, slice, &mut classifier);
                }
            }
        }
        if builder.samples.is_empty() {
            let selection = match &request.selection.title[..] {
                "" => "the recording".to_owned(),
                title => title.to_owned(),
            };
            return Err(Empty::NoProcess { selection }.into());
        }
        out.write_all(&builder.finish().encode_to_vec())?;
        Ok(())
    }
}

/// What a sample stands for, besides its stack.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    locations: Vec<u64>,
    /// Key and value, as strings of the table.
    labels: Vec<(i64, i64)>,
    pid: u32,
}

struct Builder<'a> {
    session: &'a Session,
    profile: Profile,
    strings: HashMap<String, i64>,
    functions: HashMap<String, u64>,
    /// By frame; synthetic ones by label.
    locations: HashMap<u32, u64>,
    synthetic: HashMap<&'static str, u64>,
    /// By file; 0 is the kernel.
    mappings: HashMap<u32, u64>,
    samples: HashMap<Key, [i64; 4]>,
    /// In the order in which they came, so that the file is the same each time.
    order: Vec<Key>,
}

impl<'a> Builder<'a> {
    fn new(session: &'a Session) -> Builder<'a> {
        let mut builder = Builder {
            session,
            profile: Profile::default(),
            strings: HashMap::new(),
            functions: HashMap::new(),
            locations: HashMap::new(),
            synthetic: HashMap::new(),
            mappings: HashMap::new(),
            samples: HashMap::new(),
            order: Vec::new(),
        };
        // String 0 must be empty.
        builder.string("");
        for (name, unit) in [
            ("samples", "count"),
            ("cpu", "nanoseconds"),
            ("blocked", "nanoseconds"),
            ("wall", "nanoseconds"),
        ] {
            let value = builder.value_type(name, unit);
            builder.profile.sample_type.push(value);
        }
        builder
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(known) = self.strings.get(text) {
            return *known;
        }
        let index = self.profile.string_table.len() as i64;
        self.strings.insert(text.to_owned(), index);
        self.profile.string_table.push(text.to_owned());
        index
    }

    fn value_type(&mut self, name: &str, unit: &str) -> ValueType {
        ValueType {
            kind: self.string(name),
            unit: self.string(unit),
        }
    }

    /// The time of a process in a span in which nothing that labels tell changes.
    fn slice(&mut self, frames: &Frames<'_>, process: ProcessIx, span: Span, classifier: &mut Classifier) {
        let phase = frames.owners().phase(process, span.from);
        let found = phase.and_then(|ix| self.session.phases.get(ix.ix()));
        let operation = found.and_then(|phase| phase.operation);
        let operation = operation.and_then(|ix| self.session.operations.get(ix.ix()));
        let mut common = vec![("process", program(self.session, process))];
        common.extend(operation.map(|operation| ("operation", text::visible(operation.name.as_bytes()))));
        let container = found.and_then(|phase| phase.container);
        common.extend(container.map(|ix| ("container", names::container(self.session, ix))));
        common.extend(phase.map(|ix| ("phase", names::phase(self.session, ix))));
        let common: Vec<(i64, i64)> = common
            .iter()
            .map(|(key, value)| (self.string(key), self.string(value)))
            .collect();
        let ns = |row: &StackRow| i64::try_from(row.ns).unwrap_or(i64::MAX);
        for row in stacks::on_cpu(self.session, &[process], span) {
            let count = i64::try_from(row.count).unwrap_or(i64::MAX);
            self.row(&common, &row, "cpu", [count, ns(&row), 0, ns(&row)]);
        }
        for row in stacks::wall(self.session, &[process], span, classifier) {
            let state = match (row.wait, row.label) {
                (Some(wait), _) => wait.name(),
                (None, Some(RUN_QUEUE)) => "run queue",
                (None, Some(LOST)) => "lost",
                (None, Some(SHORT_WAITS)) => "short waits",
                // `[no stack: disk]`; what is left is on CPUs, and was counted.
                (None, Some(label)) => match label.strip_prefix("[no stack: ") {
                    Some(class) => class.trim_end_matches(']'),
                    None => continue,
                },
                (None, None) => continue,
            };
            let blocked = if matches!(state, "run queue" | "lost") {
                0
            } else {
                ns(&row)
            };
            self.row(&common, &row, state, [0, 0, blocked, ns(&row)]);
        }
    }

    fn row(&mut self, common: &[(i64, i64)], row: &StackRow, state: &str, values: [i64; 4]) {
        let session = self.session;
        let mut labels = common.to_vec();
        labels.push((self.string("state"), self.string(state)));
        if let Some(thread) = session.threads.get(row.thread.ix()) {
            let name = text::visible(&thread.comm);
            labels.push((self.string("thread"), self.string(&name)));
        }
        // The leaf comes first.
        let mut locations: Vec<u64> = Vec::new();
        locations.extend(row.label.map(|label| self.label(label)));
        let stack = session.stacks.get(row.stack);
        let kernel = stack.map_or(0, |stack| usize::from(stack.kernel));
        for (index, frame) in stack
            .map(|stack| &stack.frames[..])
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            locations.push(self.location(*frame, index < kernel));
        }
        let pid = session
            .processes
            .get(row.process.ix())
            .map_or(0, |process| process.tgid);
        let key = Key { locations, labels, pid };
        let sums = match self.samples.get_mut(&key) {
            Some(sums) => sums,
            None => {
                self.order.push(key.clone());
                self.samples.entry(key).or_default()
            }
        };
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = sum.saturating_add(value);
        }
    }

    fn function(&mut self, name: &str) -> u64 {
        if let Some(known) = self.functions.get(name) {
            return *known;
        }
        let id = self.profile.function.len() as u64 + 1;
        let name_index = self.string(name);
        self.functions.insert(name.to_owned(), id);
        self.profile.function.push(Function {
            id,
            name: name_index,
            system_name: name_index,
        });
        id
    }

    fn add_location(&mut self, mapping: u64, address: u64, functions: &[u64]) -> u64 {
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location {
            id,
            mapping_id: mapping,
            address,
            line: functions.iter().map(|id| Line { function_id: *id }).collect(),
        });
        id
    }

    /// What stands for a stack that there is not.
    fn label(&mut self, label: &'static str) -> u64 {
        if let Some(known) = self.synthetic.get(label) {
            return *known;
        }
        let function = self.function(label);
        let id = self.add_location(0, 0, &[function]);
        self.synthetic.insert(label, id);
        id
    }

    fn location(&mut self, frame: u32, kernel: bool) -> u64 {
        if let Some(known) = self.locations.get(&frame) {
            return *known;
        }
        let stacks = &self.session.stacks;
        let inlined = stacks.inlined.get(&frame).map(Vec::as_slice).unwrap_or_default();
        let mut functions: Vec<u64> = Vec::with_capacity(inlined.len() + 1);
        for name in inlined {
            functions.push(self.function(&text::visible(name)));
        }
        functions.push(self.function(&text::visible(&stacks.name(frame))));
        let (mapping, address) = match stacks.frames.get(&frame) {
            Some(Place::Kernel(address)) => (self.mapping(0), *address),
            Some(Place::File { file, offset }) => (self.mapping(*file), *offset),
            Some(Place::Unmapped(address)) if kernel => (self.mapping(0), *address),
            Some(Place::Unmapped(address)) => (0, *address),
            None => (0, 0),
        };
        let id = self.add_location(mapping, address, &functions);
        self.locations.insert(frame, id);
        id
    }

    /// Addresses of a file's frames are offsets in it.
    fn mapping(&mut self, file: u32) -> u64 {
        if let Some(known) = self.mappings.get(&file) {
            return *known;
        }
        let id = self.profile.mapping.len() as u64 + 1;
        let found = self.session.stacks.files.get(&file);
        let (name, build_id) = match (file, found) {
            (0, _) => ("[kernel]".to_owned(), String::new()),
            (_, Some(file)) => (
                text::visible(&file.path),
                file.build_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            ),
            (_, None) => ("[unknown file]".to_owned(), String::new()),
        };
        let (filename, build_id) = (self.string(&name), self.string(&build_id));
        self.profile.mapping.push(Mapping {
            id,
            filename,
            build_id,
            // Names are there: nothing is to be looked up on the machine that reads this.
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
        });
        self.mappings.insert(file, id);
        id
    }

    fn finish(mut self) -> Profile {
        let session = self.session;
        let pid_key = self.string("pid");
        for key in std::mem::take(&mut self.order) {
            let values = self.samples.get(&key).copied().unwrap_or_default();
            let mut label: Vec<Label> = key
                .labels
                .iter()
                .map(|(key, value)| Label {
                    key: *key,
                    str: *value,
                    num: 0,
                })
                .collect();
            label.push(Label {
                key: pid_key,
                str: 0,
                num: key.pid.into(),
            });
            self.profile.sample.push(Sample {
                location_id: key.locations,
                value: values.to_vec(),
                label,
            });
        }
        let real = figures::real_time(&session.clocks, session.span.from);
        self.profile.time_nanos = real.and_then(|ns| i64::try_from(ns).ok()).unwrap_or(0);
        self.profile.duration_nanos = i64::try_from(session.span.len()).unwrap_or(i64::MAX);
        let period_type = self.value_type("cpu", "nanoseconds");
        self.profile.period_type = Some(period_type);
        self.profile.period = 1_000_000_000 / i64::from(session.meta.sample_hz.max(1));
        self.profile.default_sample_type = self.string("cpu");
        let mut comments = vec![format!("phasegraph {}", text::visible(session.meta.version.as_bytes()))];
        for loss in figures::losses(session).iter().filter(|loss| loss.is_loss) {
            let cause = text::visible(loss.text.as_bytes());
            comments.push(format!("lost: {} {cause}", loss.count));
        }
        self.profile.comment = comments.iter().map(|comment| self.string(comment)).collect();
        self.profile
    }
}

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
    #[prost(int64, tag = "3")]
    num: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(int64, tag = "6")]
    build_id: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_filenames: bool,
    #[prost(bool, tag = "9")]
    has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::export::tests::written;
    use crate::report::fixture;
    use crate::report::select::Selection;

    /// Make sure that the values are the threads' exact times, and every index leads somewhere.
    #[test]
    fn values_are_the_time() {
        let session = fixture::session();
        let profile = Profile::decode(&written(&Pprof, &session)[..]).unwrap();
        let spans = Selection::all().spans(&session);
        let all = figures::selected(&session, &spans, &mut Classifier::default());
        let sum = |index: usize| profile.sample.iter().map(|sample| sample.value[index]).sum::<i64>() as u64;
        let samples: usize = session.threads.iter().map(|thread| thread.samples.len()).sum();
        assert_eq!(sum(0), samples as u64);
        assert_eq!(sum(1), all.cpu);
        assert_eq!(sum(2), all.blocked());
        assert_eq!(sum(3), all.total());

        let string = |index: i64| &profile.string_table[index as usize][..];
        assert_eq!(string(0), "");
        for sample in &profile.sample {
            assert_eq!(sample.value.len(), profile.sample_type.len());
            assert!(!sample.location_id.is_empty());
            for id in &sample.location_id {
                assert_eq!(profile.location[*id as usize - 1].id, *id);
            }
        }
        for location in &profile.location {
            assert!(location.mapping_id as usize <= profile.mapping.len());
            for line in &location.line {
                assert!(!string(profile.function[line.function_id as usize - 1].name).is_empty());
            }
        }
        // Each phase's CPU time is what its label says, as far as no deeper phase has it.
        let labelled = |value: &str| {
            let with = profile.sample.iter().filter(|sample| {
                sample
                    .label
                    .iter()
                    .any(|label| string(label.key) == "phase" && string(label.str) == value)
            });
            with.map(|sample| sample.value[1]).sum::<i64>() as u64
        };
        let run = &session.phases[4];
        let expected = crate::attribute::resources::phase(&session, run, &mut Classifier::default())
            .all
            .cpu;
        assert_eq!(labelled("run"), expected);
    }
}
