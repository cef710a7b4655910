//! Rungs that the caller forces: for tests, and to find out what a kernel's refusal is about.

use std::str::FromStr;

use super::registry::{PROBES, Probe, Rung};

/// Forces rungs, from the environment: as [`Forced`] parses.
pub const ENVIRONMENT: &str = "PHASEGRAPH_RUNGS";
/// Forces `task_state=hash`.
const HASH: &str = "PHASEGRAPH_FORCE_HASH";

/// What one signal is forced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Rung(Rung),
    /// The signal is left out.
    None,
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Choice::Rung(rung) => rung.name(),
            Choice::None => "none",
        })
    }
}

/// Why a forced rung makes no sense. Whether the kernel has it is another question.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForceError {
    #[error("`{0}` is no SIGNAL=RUNG")]
    Shape(String),
    #[error("there is no signal `{signal}`; there are {}", PROBES.iter().map(|probe| probe.program).collect::<Vec<_>>().join(", "))]
    Signal { signal: String },
    #[error("the signal `{signal}` has no rung `{rung}`; it has {has}")]
    Rung { signal: String, rung: String, has: String },
}

/// Forced rungs: `SIGNAL=RUNG`, several separated by commas, the last one of a signal counts. `*` is every signal that
/// has that rung, and the rung `none` leaves a signal out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forced(Vec<(String, Choice)>);

impl FromStr for Forced {
    type Err = ForceError;

    fn from_str(text: &str) -> Result<Forced, ForceError> {
        let mut forced = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (signal, name) = word.split_once('=').ok_or_else(|| ForceError::Shape(word.to_owned()))?;
            let choice = if name == "none" {
                Some(Choice::None)
            } else {
                Rung::of(name).map(Choice::Rung)
            };
            let rungs: Vec<Rung> = if signal == "*" {
                PROBES.iter().flat_map(|probe| probe.attach.rungs()).copied().collect()
            } else {
                let probe = PROBES.iter().find(|probe| probe.program == signal);
                let probe = probe.ok_or_else(|| ForceError::Signal {
                    signal: signal.to_owned(),
                })?;
                probe.attach.rungs().to_vec()
            };
            match choice {
                Some(Choice::None) if signal != "*" => {}
                Some(Choice::Rung(rung)) if rungs.contains(&rung) => {}
                _ => {
                    let mut names: Vec<&str> = Vec::new();
                    for rung in &rungs {
                        if !names.contains(&rung.name()) {
                            names.push(rung.name());
                        }
                    }
                    return Err(ForceError::Rung {
                        signal: signal.to_owned(),
                        rung: name.to_owned(),
                        has: names.join(", "),
                    });
                }
            }
            if let Some(choice) = choice {
                forced.push((signal.to_owned(), choice));
            }
        }
        Ok(Forced(forced))
    }
}

impl Forced {
    /// What the environment forces.
    pub fn from_environment() -> Result<Forced, ForceError> {
        let mut forced = match std::env::var(ENVIRONMENT) {
            Ok(text) => text.parse()?,
            Err(_) => Forced::default(),
        };
        if std::env::var_os(HASH).is_some() {
            forced.0.push(("task_state".to_owned(), Choice::Rung(Rung::Hash)));
        }
        Ok(forced)
    }

    /// Adds what counts more than what is there.
    pub fn and(mut self, other: Forced) -> Forced {
        self.0.extend(other.0);
        self
    }

    /// What a signal is forced to.
    pub fn of(&self, probe: &Probe) -> Option<Choice> {
        self.0
            .iter()
            .rev()
            .find(|(signal, choice)| match choice {
                _ if signal == probe.program => true,
                Choice::Rung(rung) => signal == "*" && probe.attach.rungs().contains(rung),
                Choice::None => false,
            })
            .map(|(_, choice)| *choice)
    }

    /// The rungs to try for a signal, best first.
    pub fn rungs(&self, probe: &Probe) -> Vec<Rung> {
        match self.of(probe) {
            Some(Choice::Rung(rung)) => vec![rung],
            Some(Choice::None) => Vec::new(),
            None => probe.attach.rungs().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(name: &str) -> &'static Probe {
        PROBES.iter().find(|probe| probe.program == name).unwrap()
    }

    /// Make sure that one signal, all signals and no signal can be forced, the last one counting.
    #[test]
    fn forced() {
        let forced: Forced = "*=raw_tp, cgroup_mkdir=tp_btf,cgroup_rmdir=none".parse().unwrap();
        assert_eq!(forced.rungs(probe("sched_switch")), [Rung::RawTp]);
        assert_eq!(forced.rungs(probe("cgroup_mkdir")), [Rung::TpBtf]);
        assert_eq!(forced.rungs(probe("cgroup_rmdir")), []);
        assert_eq!(forced.rungs(probe("mount_calls")), probe("mount_calls").attach.rungs());
        let forced = forced.and("sched_switch=tp_btf".parse().unwrap());
        assert_eq!(forced.of(probe("sched_switch")), Some(Choice::Rung(Rung::TpBtf)));
        assert_eq!(Forced::default().of(probe("sched_switch")), None);
    }

    /// Make sure that what there is not is refused with what there is.
    #[test]
    fn refused() {
        let refused = |text: &str| text.parse::<Forced>().unwrap_err().to_string();
        assert!(refused("sched_switch").contains("SIGNAL=RUNG"));
        assert!(refused("nothing=kprobe").contains("mount_calls"));
        let has = refused("sched_switch=fentry");
        assert!(has.contains("tp_btf") && has.contains("raw_tp"), "{has}");
        assert!(refused("*=none").contains("no rung `none`"));
    }
}
