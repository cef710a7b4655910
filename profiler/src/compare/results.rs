//! `results.json` of a series of runs: the types are its definition, `docs/series.schema.json` is made of them and of their
//! comments. All times are integers in ns, all sizes integers in bytes, all shares integers in millionths. Text is
//! harmless: what a container called something is escaped for display.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::stats::Summary;
use crate::report::json::schema::Times;
use crate::report::text;

/// Raised when a field's meaning changes or a field goes.
pub const SCHEMA: u32 = 1;

/// What says that a JSON file is one of these.
pub const KIND: &str = "phasegraph series";

/// File name in a folder of runs.
pub const FILE: &str = "results.json";

/// Key of the command as a whole.
pub const TOTAL: &str = "total";

/// Series of runs of one command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Results {
    /// Always `phasegraph series`.
    pub kind: String,
    /// Version of this schema. Fields are added without a new one; it is raised when a field's meaning changes or a field
    /// goes.
    pub schema: u32,
    /// phasegraph's version that ran it.
    pub version: String,
    /// As `--name` gave it; empty without.
    pub name: String,
    /// When the first run began, ns since 1970-01-01 UTC.
    pub began_real_ns: u64,
    /// As it was given, with its parameters' places; secrets masked.
    pub command: Vec<String>,
    pub host: Host,
    /// Commit of the git checkout around the working folder; `null` when there is none.
    pub commit: Option<String>,
    /// As `--note` gave them; nothing of them is checked.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
    pub settings: Settings,
    pub series: Vec<Series>,
    /// It ended before all runs were done: somebody interrupted it, or something failed.
    pub interrupted: bool,
    /// SHA-256 of this object without this field (its keys sorted, no spaces), hexadecimal: a file that was changed after it
    /// was written is not taken for a measurement.
    pub checksum: String,
}

/// Where it ran: times of one host say nothing about another's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Host {
    pub hostname: String,
    pub kernel: String,
    pub machine: String,
    pub cpu_model: String,
    pub cpus: u32,
    /// Physical cores behind them; `null` where the kernel does not tell.
    #[serde(default)]
    pub cores: Option<u32>,
    pub memory_bytes: u64,
}

/// How it was run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Settings {
    /// Runs of each series that were asked for.
    pub runs: u32,
    /// Unprofiled runs before each warm series.
    pub warmup: u32,
    /// Commands before each cold run.
    pub cold: Vec<Vec<String>>,
    /// Whether the kernel's caches were emptied before each cold run.
    pub drop_caches: bool,
    /// Copies of the command that ran at once.
    pub concurrency: u32,
    /// After which a run was ended; `null` for never.
    pub timeout_ns: Option<u64>,
    /// CPU samples a second on each CPU.
    pub sample_hz: u32,
}

/// Runs under the same circumstances.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Series {
    /// `warm`, `cold j=4`.
    pub name: String,
    /// Each run was preceded by what `settings.cold` and `settings.drop_caches` say.
    pub cold: bool,
    pub params: BTreeMap<String, String>,
    pub runs: Vec<Run>,
    /// Runs without the profiler, each beside the profiled run of the same number.
    pub unprofiled: Vec<Unprofiled>,
    /// Successful runs as a share of all, millionths.
    pub success_ppm: u32,
    /// What the runs come to, of successful runs, in order of the keys.
    pub measures: Vec<Measure>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    #[default]
    Ok,
    /// Exit status other than 0.
    Failed,
    /// Ended by us when its time was up.
    Timeout,
    /// The recording was cut off.
    Broken,
}

/// One profiled run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Run {
    /// From 1, in order of time within the series.
    pub number: u32,
    /// When it began, ns since 1970-01-01 UTC; 0 when that is not known.
    pub began_real_ns: u64,
    pub outcome: Outcome,
    /// 128 + signal when it was killed; `null` when its end was not seen.
    pub exit_status: Option<i32>,
    /// From the moment in which the command was let go to its exit.
    pub wall_ns: u64,
    /// File in the same folder; `null` when it was not kept.
    pub recording: Option<String>,
    /// phasegraph's version that recorded.
    pub version: String,
    /// Events that are missing from the recording.
    pub lost: u64,
    /// CPU time of the profiler meanwhile, its BPF programs included; `null` where the kernel does not tell.
    pub self_cpu_ns: Option<u64>,
    /// CPUs × length of the recording.
    pub host_cpu_ns: u64,
    /// Files that overlays copied to their upper layers; `null` when the recording does not tell.
    #[serde(default)]
    pub copy_ups: Option<CopyUps>,
    /// In order of the recording; the command as a whole stands first, as `total`.
    pub phases: Vec<PhaseRun>,
    /// By CPU time.
    pub programs: Vec<ProgramRun>,
    /// What all threads waited for, longest first.
    pub waits: Vec<WaitRun>,
    /// What the operations' ends waited for, by innermost phase, reason and program; adds up to the lengths of those that no
    /// other operation asked for.
    pub path: Vec<PathShare>,
}

/// All copy-ups of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CopyUps {
    /// Files and folders that were copied up.
    pub files: u64,
    pub bytes: u64,
    /// How long programs stood still for them, ns.
    pub stall_ns: u64,
}

/// A phase in one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PhaseRun {
    /// What it is called in every run: operation, container, phases from the outermost to itself.
    pub key: String,
    /// `create`, `step`; `total` for the command as a whole.
    pub kind: String,
    pub wall_ns: u64,
    /// It had not ended when the recording did: its length is no measurement.
    pub open: bool,
    /// Bytes that it moved; `null` for phases that move none.
    pub bytes: Option<u64>,
    /// Resident set of its largest process; `null` when nothing told.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// States along its critical path; they add up to `wall_ns`. Of `total`, which has none, all are 0.
    pub critical: Times,
    /// States of all its threads.
    pub all: Times,
}

/// What ran.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProgramRun {
    pub name: String,
    pub processes: u32,
    pub cpu_ns: u64,
}

/// What was waited for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct WaitRun {
    pub class: String,
    pub detail: String,
    pub wait_ns: u64,
    pub count: u64,
}

/// A part of the operations' critical paths.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PathShare {
    /// Key of the innermost phase; empty outside of all phases.
    pub phase: String,
    /// A resource state.
    pub class: String,
    /// The same in a few words.
    pub reason: String,
    pub program: String,
    pub ns: u64,
}

/// A run without the profiler.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Unprofiled {
    /// Of the profiled run beside it.
    pub number: u32,
    /// Whether it came before the profiled one.
    pub first: bool,
    #[serde(default)]
    pub outcome: Outcome,
    /// 128 + signal when it was killed.
    pub exit_status: i32,
    /// Of one that was ended when its time was up: until it had ended.
    pub wall_ns: u64,
}

impl Unprofiled {
    /// Whether its figures count.
    pub fn is_good(&self) -> bool {
        // Files of before `outcome` have the status alone.
        self.outcome == Outcome::Ok && self.exit_status == 0
    }
}

/// One figure of one phase over the runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Measure {
    /// The phase.
    pub key: String,
    /// `wall`; `cpu`, `runqueue`, `disk` …, of the critical path; `cpu_all`, of all threads; `bytes`; `memory`,
    /// the resident set of its largest process, bytes.
    pub measure: String,
    #[serde(flatten)]
    pub summary: Summary,
    /// Standard deviation as a part of the mean, millionths; `null` of a mean of 0.
    pub cv_ppm: Option<u64>,
    /// Numbers of the runs that stand far apart from the others.
    pub outliers: Vec<u32>,
}

/// Why a file is no series that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("it is no JSON object of a series: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is no series of runs (`kind` is not {KIND:?}); `phasegraph bench` writes one")]
    Kind,
    #[error("its schema is version {0}, this phasegraph knows {SCHEMA}; use a newer one")]
    Newer(u64),
    #[error("it was changed after it was written (its checksum does not hold): it is no measurement any more")]
    Changed,
}

impl Results {
    /// The file's text with its checksum, and that.
    ///
    /// # Errors
    ///
    /// None that depends on the content: all keys are strings and all numbers integers.
    pub fn to_json(&self) -> serde_json::Result<(Vec<u8>, String)> {
        let mut value = serde_json::to_value(self)?;
        let sum = checksum(&mut value)?;
        value["checksum"] = sum.clone().into();
        let mut bytes = serde_json::to_vec(&value)?;
        bytes.push(b'\n');
        Ok((bytes, sum))
    }

    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// [`Unusable`].
    pub fn from_json(bytes: &[u8]) -> Result<Results, Unusable> {
        let mut value: serde_json::Value = serde_json::from_slice(bytes)?;
        if value.get("kind").and_then(serde_json::Value::as_str) != Some(KIND) {
            return Err(Unusable::Kind);
        }
        let schema = value.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if schema > u64::from(SCHEMA) {
            return Err(Unusable::Newer(schema));
        }
        let told = value
            .get("checksum")
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned);
        if Some(checksum(&mut value)?) != told {
            return Err(Unusable::Changed);
        }
        value["checksum"] = told.into();
        // Whoever wrote the file could give it a checksum too. A recording's name is opened, not shown.
        let recordings: Vec<_> = runs(&mut value)
            .map(|run| run.get_mut("recording").map(serde_json::Value::take))
            .collect();
        harmless(&mut value);
        for (run, recording) in runs(&mut value).zip(recordings) {
            if let (Some(place), Some(recording)) = (run.get_mut("recording"), recording) {
                *place = recording;
            }
        }
        Ok(serde_json::from_value(value)?)
    }
}

/// Runs of all series.
fn runs(value: &mut serde_json::Value) -> impl Iterator<Item = &mut serde_json::Value> {
    fn list<'a>(
        value: &'a mut serde_json::Value,
        name: &str,
    ) -> impl Iterator<Item = &'a mut serde_json::Value> + use<'a> {
        value
            .get_mut(name)
            .and_then(serde_json::Value::as_array_mut)
            .into_iter()
            .flatten()
    }
    list(value, "series").flat_map(|series| list(series, "runs"))
}

/// Makes all text harmless, names of fields included.
fn harmless(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => *text = text::visible(text.as_bytes()),
        Value::Array(values) => values.iter_mut().for_each(harmless),
        Value::Object(fields) => {
            let old = std::mem::take(fields);
            fields.extend(old.into_iter().map(|(name, mut value)| {
                harmless(&mut value);
                (text::visible(name.as_bytes()), value)
            }));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Of the value without its checksum; serde_json sorts keys.
fn checksum(value: &mut serde_json::Value) -> serde_json::Result<String> {
    if let Some(object) = value.as_object_mut() {
        object.remove("checksum");
    }
    let digest = Sha256::digest(serde_json::to_vec(value)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Series {
    /// Runs whose figures count.
    pub fn good(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.outcome == Outcome::Ok)
    }

    /// Fills in what follows from the runs.
    pub fn summarize(&mut self) {
        let good = self.good().count() as u64;
        let all = self.runs.len() as u64;
        self.success_ppm = u32::try_from(good * 1_000_000 / all.max(1)).unwrap_or(u32::MAX);
        self.measures = super::samples::measures(self);
    }
}

#[cfg(test)]
pub(crate) mod tests;
