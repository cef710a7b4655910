//! `show`'s summary for people: operations, containers and phases as a timeline, where their time went, which
//! processes used it, what was lost and what the profiler itself cost.

mod answers;
mod closing;
mod critical;
pub mod disk;
mod header;
pub mod layers;
mod memory;
mod page;
mod phases;
mod processes;
mod table;
mod timeline;
mod tree;

use super::select::{NoMatch, Query, Selection};
use crate::attribute::disk::Disk;
use crate::model::Session;

pub(crate) use page::{Page, Paint, column_widths};
pub use page::{Section, Style};

/// Processes listed when nobody says how many.
pub const DEFAULT_TOP: usize = 10;

/// What phases and programs are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    Wall,
    Cpu,
    /// By start; programs, which have no one start, by CPU time.
    #[default]
    Start,
}

/// What to show.
#[derive(Clone, Debug)]
pub struct Options {
    /// Limits phases and processes.
    pub query: Query,
    pub sort: Sort,
    /// Programs and reasons listed.
    pub top: usize,
    /// The critical paths, with their chains, in place of programs and memory.
    pub critical: bool,
    /// The ten questions, as far as they are answered; only of the whole recording.
    pub answers: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            query: Query::default(),
            sort: Sort::default(),
            top: DEFAULT_TOP,
            critical: false,
            answers: false,
        }
    }
}

/// The summary, lines no wider than the style says.
///
/// # Errors
///
/// Nothing in the session is what the query asks for.
pub fn render(session: &Session, options: &Options, style: &Style) -> Result<String, NoMatch> {
    let selection = Selection::find(session, &options.query)?;
    let mut page = page::Page::new(*style);
    header::add(&mut page, session);
    phases::add(&mut page, session, &selection, options.sort);
    if options.critical {
        critical::add(&mut page, session, &selection, options.top);
    } else {
        processes::add(&mut page, session, &selection, options);
        memory::add(&mut page, session, &selection);
        disk::add(&mut page, session, &Disk::new(session), &selection);
        if options.answers && selection.title.is_empty() {
            answers::add(&mut page, session);
        }
    }
    trust(&mut page, session, &selection);
    Ok(page.finish())
}

/// How far the figures can be trusted.
fn trust(page: &mut Page, session: &Session, selection: &Selection) {
    closing::unavailable(page, session);
    closing::limits(page, session);
    closing::losses(page, session);
    closing::cap(page, session);
    closing::coverage(page, session, selection);
    closing::cpus(page, session);
    closing::cost(page, session);
}

/// The same of the whole session, with what was held in memory, for other sinks; harmless text.
pub fn trust_sections(session: &Session) -> Vec<Section> {
    // Wide enough for nothing to be cut: the lines are not used.
    let mut page = page::Page::new(Style {
        width: 200,
        color: false,
        utf8: true,
    });
    memory::add(&mut page, session, &Selection::all());
    trust(&mut page, session, &Selection::all());
    page.into_sections()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::record::{At, CpuChange, HostCpu, Memory, Moment, Oom, TaskId, Throttle};
    use crate::report::{fixture, text};

    fn rendered(width: usize, options: &Options) -> String {
        let style = Style {
            width,
            color: false,
            utf8: true,
        };
        render(&fixture::session(), options, &style).unwrap()
    }

    /// Make sure that no line is wider than it may be, at any width and with hostile names in it.
    #[test]
    fn lines_fit() {
        for width in 60..=200 {
            for line in rendered(width, &Options::default()).lines() {
                assert!(text::width(line) <= width, "{width}: {line:?}");
                assert_eq!(line, line.trim_end());
            }
        }
    }

    /// Make sure that nothing a traced process is called reaches the terminal as a control character.
    #[test]
    fn hostile_names_are_shown() {
        for color in [false, true] {
            let style = Style {
                width: 200,
                color,
                utf8: true,
            };
            let summary = render(&fixture::session(), &Options::default(), &style).unwrap();
            assert!(summary.contains(r"\x1b[31m"), "{summary}");
            assert!(!summary.contains("\x1b[31m;") && !summary.contains('\u{202e}'));
            assert_eq!(summary.contains('\x1b'), color);
        }
    }

    /// Make sure that a terminal without UTF-8 gets ASCII only, in the same columns.
    #[test]
    fn ascii() {
        let style = Style {
            width: 100,
            color: false,
            utf8: false,
        };
        let summary = render(&fixture::session(), &Options::default(), &style).unwrap();
        assert!(summary.is_ascii());
        for (ascii, utf8) in summary.lines().zip(rendered(100, &Options::default()).lines()) {
            assert_eq!(text::width(ascii), text::width(utf8), "{utf8}");
        }
    }

    /// Make sure that what the session knows is there, with its figures.
    #[test]
    fn facts_are_there() {
        let summary = rendered(120, &Options::default());
        for fact in [
            "podman build -t app .",
            "build1",
            "Linux 6.18.5",
            "99 Hz",
            "2026-02-02 02:40:00 UTC",
            "exit status 0",
            "buildah-buildah1234567890",
            "docker.io/library/debian:13",
            "step 2/2 RUN make -j2",
            "8.50 s",
            "cc1",
            "no losses",
            "unattributed 5.0 %",
            "0.2 % of the host's CPU (41.0 ms, 100,000 runs of 410 ns each)",
            "18.0 MB memory",
        ] {
            assert!(summary.contains(fact), "{fact} in\n{summary}");
        }
    }

    /// Make sure that a recording that was cut off, damaged or lossy says so.
    #[test]
    fn damage_and_losses_are_told() {
        let mut session = fixture::session();
        session.closed = None;
        session.damage.push("block 7 is damaged".into());
        session.losses.counters = vec![(4, 12_345), (9_999, 1)];
        session.losses.named = vec![("arena \x1b full".into(), 3)];
        session.phases[4].open = true;
        let style = Style {
            width: 100,
            color: false,
            utf8: true,
        };
        let summary = render(&session, &Options::default(), &style).unwrap();
        for fact in [
            "was not closed",
            "block 7 is damaged",
            "12,345",
            "scheduling intervals lost",
            "unknown counter 9999",
            "7.30 s open",
            r"arena \x1b full",
        ] {
            assert!(summary.contains(fact), "{fact} in\n{summary}");
        }
        assert!(!summary.contains("no losses"));
    }

    /// Make sure that the largest process is told, and a kill for want of memory with its victim and phase.
    #[test]
    fn memory_is_told() {
        let mut session = fixture::session();
        let index = session
            .processes
            .iter()
            .position(|process| process.tgid == 104)
            .unwrap();
        let victim = &session.processes[index];
        let task = TaskId {
            tgid: victim.tgid,
            tid: victim.tgid,
            start: victim.start,
        };
        let at = At {
            ts: victim.span.to,
            task,
            cgroup: 0,
            mnt_ns: 0,
            cpu: 0,
        };
        session.memory.push(Memory {
            at,
            moment: Moment::Exit,
            rss: 0,
            peak: 300 << 20,
            max: 0,
            memcg: 4711,
            memcg_peak: 320 << 20,
            memcg_hierarchy: 0,
        });
        session.ooms.push(Oom {
            at,
            victim: task,
            victim_cgroup: 4711,
            victim_rss: 300 << 20,
            memcg: 4711,
            memcg_peak: 320 << 20,
            memcg_hierarchy: 0,
            comm: b"cc1".to_vec(),
        });
        let style = Style {
            width: 140,
            color: false,
            utf8: true,
        };
        let summary = render(&session, &Options::default(), &style).unwrap();
        for fact in [
            "largest process: cc1 (pid 104)",
            "315 MB",
            "container buildah-buildah1234567890, with its page cache",
            "336 MB",
            "killed for want of memory: cc1 (pid 104) in container buildah-buildah1234567890, phase",
        ] {
            assert!(summary.contains(fact), "{fact} in\n{summary}");
        }
    }

    /// Make sure that what the overhead cap gave up, stolen time and CPUs that came and went are told, within the width.
    #[test]
    fn gaps_are_told() {
        let mut session = fixture::session();
        let from = session.span.from;
        let throttle = |ms: u64, value, reduced| Throttle {
            ts: from + ms * 1_000_000,
            lever: "scheduling".into(),
            value,
            reduced,
            bpf_ns: 50_000_000,
            process_ns: 10_000_000,
            window_ns: 500_000_000,
            cpus: 2,
            cap_ppm: 20_000,
            dearest: "sched_switch".into(),
        };
        session.throttles = vec![throttle(2_000, 0, true), throttle(6_000, 1, false)];
        session.throttles.push(Throttle {
            lever: "new\x1b[2J".into(),
            ..throttle(7_000, 0, true)
        });
        session.host_cpu = Some(HostCpu {
            from: session.span.from,
            to: session.span.to,
            steal_ns: 400_000_000,
            ..HostCpu::default()
        });
        session.cpu_changes = vec![CpuChange {
            ts: from + 3_000_000_000,
            cpu: 1,
            online: false,
            problem: String::new(),
        }];
        for width in [80, 120] {
            let style = Style {
                width,
                color: false,
                utf8: true,
            };
            let summary = render(&session, &Options::default(), &style).unwrap();
            let words = summary.split_whitespace().collect::<Vec<_>>().join(" ");
            for fact in [
                "overhead cap 2 % of the host's CPU",
                "from 2.00 s to 6.00 s (4.00 s)",
                "6.0 %, most of it sched_switch",
                "threads' times are not recorded",
                "400 ms (2.0 %) of the host's CPU time went to other guests",
                "CPU 1 went offline",
                "not recorded ",
            ] {
                assert!(words.contains(fact), "{fact} in\n{summary}");
            }
            assert!(summary.lines().all(|line| text::width(line) <= width), "{summary}");
            assert!(
                summary.contains("new\\x1b[2J") && !summary.contains('\x1b'),
                "{summary}"
            );
        }
        session.throttles.clear();
        session.host_cpu = None;
        assert!(!rendered(80, &Options::default()).contains("overhead cap"));
    }

    /// Make sure that answers are given to the whole recording only, within the width.
    #[test]
    fn answers() {
        let asked = Options {
            answers: true,
            ..Options::default()
        };
        for width in [60, 80, 200] {
            let shown = rendered(width, &asked);
            assert!(shown.lines().all(|line| text::width(line) <= width), "{shown}");
            assert!(shown.contains("answers"), "{shown}");
        }
        let one = Options {
            query: Query {
                phase: Some("run".into()),
                ..Query::default()
            },
            ..asked
        };
        assert!(!rendered(80, &one).contains("answers"));
        assert!(!rendered(80, &Options::default()).contains("answers"));
    }

    /// Make sure that critical paths fit any width, add nothing that a process could forge, and tell their reasons.
    #[test]
    fn critical_paths() {
        let critical = Options {
            critical: true,
            ..Options::default()
        };
        for width in [60, 80, 120, 200] {
            let shown = rendered(width, &critical);
            for line in shown.lines() {
                assert!(text::width(line) <= width, "{width}: {line:?}");
                assert!(!line.contains('\x1b'));
            }
        }
        let shown = rendered(120, &critical);
        for fact in [
            "critical path of podman build",
            "wait for a child in podman",
            "podman (100)",
            "share",
        ] {
            assert!(shown.contains(fact), "{fact} in\n{shown}");
        }
        assert!(rendered(120, &Options::default()).contains("critical path: "));
        let one = Options {
            query: Query {
                phase: Some("run".into()),
                ..Query::default()
            },
            critical: true,
            ..Options::default()
        };
        assert!(rendered(120, &one).contains("critical path of run"));
    }

    /// Make sure that an empty recording (0 phases, 0 processes) is shown and not divided by.
    #[test]
    fn empty_session() {
        let style = Style {
            width: 80,
            color: false,
            utf8: true,
        };
        let summary = render(&Session::default(), &Options::default(), &style).unwrap();
        assert!(summary.contains("no phases"), "{summary}");
        assert!(!summary.contains("NaN"));
    }

    /// Make sure that one phase can be asked for, and that the rest is then left out.
    #[test]
    fn one_phase() {
        let options = Options {
            query: Query {
                phase: Some("run".into()),
                ..Query::default()
            },
            ..Options::default()
        };
        let summary = rendered(120, &options);
        assert!(summary.contains("cc1") && !summary.contains("step 1/2"), "{summary}");
    }
}
