//! A file for speedscope (<https://github.com/jlfwong/speedscope/wiki/Importing-from-custom-sources>): one profile for
//! each kind of time, with the frames of the flamegraphs. Weights are ns.

use std::collections::HashMap;
use std::io::Write;

use serde::Serialize;

use super::{Error, Request, Sink};
use crate::model::Session;
use crate::report::flame::{self, Flame, Kind, Roots};

pub(super) struct Speedscope;

#[derive(Serialize)]
struct File {
    #[serde(rename = "$schema")]
    schema: &'static str,
    exporter: String,
    name: String,
    shared: Shared,
    profiles: Vec<Profile>,
}

#[derive(Serialize)]
struct Shared {
    frames: Vec<Frame>,
}

#[derive(Serialize)]
struct Frame {
    name: String,
}

#[derive(Serialize)]
struct Profile {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    unit: &'static str,
    #[serde(rename = "startValue")]
    start: u64,
    #[serde(rename = "endValue")]
    end: u64,
    /// Frames of each stack, root first.
    samples: Vec<Vec<usize>>,
    weights: Vec<u64>,
}

impl Sink for Speedscope {
    fn name(&self) -> &'static str {
        "speedscope"
    }

    fn about(&self) -> &'static str {
        "on-CPU, blocked and all time for speedscope"
    }

    fn ending(&self) -> Option<&'static str> {
        Some("speedscope.json")
    }

    fn takes_part(&self) -> bool {
        true
    }

    fn write(&self, session: &Session, request: &Request, out: &mut dyn Write) -> Result<(), Error> {
        let mut frames = HashMap::new();
        let mut names = Vec::new();
        let mut profiles = Vec::new();
        let mut empty = None;
        for kind in [Kind::Cpu, Kind::OffCpu, Kind::Wall] {
            match flame::collect(session, &request.selection, kind, Roots::default()) {
                Ok(flame) => profiles.push(profile(&flame, &mut frames, &mut names)),
                // A recording can have one kind of time and no other.
                Err(error) => empty = Some(error),
            }
        }
        if let Some(error) = empty.filter(|_| profiles.is_empty()) {
            return Err(error.into());
        }
        let file = File {
            schema: "https://www.speedscope.app/file-format-schema.json",
            exporter: format!("phasegraph {}", env!("CARGO_PKG_VERSION")),
            name: profiles
                .first()
                .map_or_else(String::new, |profile| profile.name.clone()),
            shared: Shared { frames: names },
            profiles,
        };
        serde_json::to_writer(&mut *out, &file)?;
        out.write_all(b"\n")?;
        Ok(())
    }
}

fn profile<'a>(flame: &'a Flame, frames: &mut HashMap<String, usize>, names: &mut Vec<Frame>) -> Profile {
    let mut samples = Vec::new();
    let mut weights = Vec::new();
    let mut frame = |name: &'a str| match frames.get(name) {
        Some(index) => *index,
        None => {
            frames.insert(name.to_owned(), names.len());
            names.push(Frame { name: name.to_owned() });
            names.len() - 1
        }
    };
    for (stack, ns) in flame.stacks().filter(|(_, ns)| *ns > 0) {
        samples.push(stack.map(&mut frame).collect());
        weights.push(ns);
    }
    Profile {
        kind: "sampled",
        name: flame.title().to_owned(),
        unit: "nanoseconds",
        start: 0,
        end: flame.total,
        samples,
        weights,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::report::export::tests::written;
    use crate::report::fixture;
    use crate::report::select::Selection;

    /// Make sure that each profile's weights are its whole time, and each stack's frames are there.
    #[test]
    fn weights_are_the_time() {
        let session = fixture::session();
        let file: Value = serde_json::from_slice(&written(&Speedscope, &session)).unwrap();
        let frames = file["shared"]["frames"].as_array().unwrap();
        let profiles = file["profiles"].as_array().unwrap();
        assert_eq!(profiles.len(), 3);
        for (profile, kind) in profiles.iter().zip([Kind::Cpu, Kind::OffCpu, Kind::Wall]) {
            let flame = flame::collect(&session, &Selection::all(), kind, Roots::default()).unwrap();
            let weights = profile["weights"].as_array().unwrap();
            let sum: u64 = weights.iter().map(|ns| ns.as_u64().unwrap()).sum();
            assert_eq!(sum, flame.total);
            assert_eq!(profile["endValue"].as_u64(), Some(sum));
            let samples = profile["samples"].as_array().unwrap();
            assert_eq!(samples.len(), weights.len());
            for index in samples.iter().flat_map(|sample| sample.as_array().unwrap()) {
                assert!((index.as_u64().unwrap() as usize) < frames.len());
            }
        }
    }
}
