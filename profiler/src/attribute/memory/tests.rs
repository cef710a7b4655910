use super::*;
use crate::model::build::Builder;
use crate::model::fixture::{at, exec, exit, fork, leader, thread};
use crate::model::{Phase, PhaseKind};
use crate::recording::record::{Begin, Cgroup, CgroupOp, End, Record};

const MB: u64 = 1 << 20;

fn reading(task: TaskId, ts: u64, moment: Moment, rss: u64, peak: u64, max: u64) -> Memory {
    Memory {
        at: at(task, ts),
        moment,
        rss: rss * MB,
        peak: peak * MB,
        max: max * MB,
        memcg: 0,
        memcg_peak: 0,
        memcg_hierarchy: 0,
    }
}

/// From 0 to 1,000; the processes 10 (exec at 100, ends at 900) and 20 (a fork of it without an exec, 300 to 600).
fn session(more: impl IntoIterator<Item = Record>) -> Session {
    let (first, second) = (leader(10, 1), leader(20, 2));
    let mut builder = Builder::new();
    builder.extend([
        Begin { mono: 0, command: None }.into(),
        fork(leader(1, 0), first, 50).into(),
        exec(first, 100, &["make"]).into(),
        fork(first, second, 300).into(),
        exit(second, 600, 0).into(),
        exit(first, 900, 0).into(),
        End {
            mono: 1_000,
            exit_code: None,
        }
        .into(),
    ]);
    builder.extend(more);
    builder.finish(Vec::new())
}

fn of(session: &Session, pid: u32) -> ProcessIx {
    let found = session.processes.iter().position(|process| process.tgid == pid);
    ProcessIx(found.unwrap() as u32)
}

/// Make sure that the peak is the kernel's at the exit where the memory is still there, whatever the samples saw.
#[test]
fn exact_at_exit() {
    let task = leader(10, 1);
    let session = session([
        reading(task, 200, Moment::Sample, 5, 6, 0).into(),
        reading(task, 900, Moment::Exit, 3, 40, 99).into(),
    ]);
    let peaks = Peaks::new(&session);
    assert_eq!(peaks.process(of(&session, 10)), Some(40 * MB));
    assert_eq!(peaks.process(of(&session, 20)), None);
}

/// Make sure that where the memory is gone at the exit, what the process inherited is not taken for its own.
#[test]
fn inherited_before_6_16() {
    let task = leader(10, 1);
    let exec = || reading(task, 100, Moment::Exec, 1, 1, 60);
    let peak = |exit: u64, samples: &[u64]| {
        let samples = samples
            .iter()
            .map(|rss| reading(task, 200, Moment::Sample, *rss, *rss, 0).into());
        let session = session(samples.chain([exec().into(), reading(task, 900, Moment::Exit, 0, 0, exit).into()]));
        Peaks::new(&session).process(of(&session, 10))
    };
    assert_eq!(peak(70, &[]), Some(70 * MB));
    assert_eq!(peak(60, &[7]), Some(7 * MB));
    assert_eq!(peak(60, &[]), Some(MB));
    // Forked and never another program: what it inherited is what it held.
    let fork = leader(20, 2);
    let session = session([reading(fork, 600, Moment::Exit, 0, 0, 60).into()]);
    assert_eq!(Peaks::new(&session).process(of(&session, 20)), Some(60 * MB));
}

/// Make sure that before 6.16, too, a part of a process's life in which its last program began has that one's peak, and one that
/// begins later has not.
#[test]
fn last_program_in_a_part() {
    let task = leader(10, 1);
    let within = |exit: u64, from| {
        let session = session([
            reading(task, 100, Moment::Exec, 1, 1, 60).into(),
            reading(task, 200, Moment::Sample, 7, 7, 0).into(),
            reading(task, 900, Moment::Exit, 0, 0, exit).into(),
        ]);
        let peaks = Peaks::new(&session);
        peaks.within(of(&session, 10), Span { from, to: 1_000 })
    };
    assert_eq!(within(70, 90), Some(70 * MB));
    assert_eq!(within(60, 90), Some(7 * MB));
    assert_eq!(within(70, 300), Some(7 * MB));
}

/// Make sure that what a process held before it became the program that it was made to be is not its, and that of the
/// recorded command nothing is that was before.
#[test]
fn inherited_before_exec() {
    let task = leader(10, 1);
    let samples = || [(60, 90), (200, 5)].map(|(ts, rss)| Record::from(reading(task, ts, Moment::Sample, rss, rss, 0)));
    let plain = session(samples());
    assert_eq!(Peaks::new(&plain).process(of(&plain, 10)), Some(5 * MB));
    let mut command = session(samples());
    command.begin = Some(Begin {
        mono: 40,
        command: Some(task),
    });
    assert_eq!(Peaks::new(&command).process(of(&command, 10)), Some(5 * MB));
}

/// Make sure that a part of a process's life has what was read in it, or what was told last before, and not what came
/// later.
#[test]
fn within_a_part() {
    let task = leader(10, 1);
    let other = thread(10, 11, 7);
    let session = session([
        fork(task, other, 110).into(),
        reading(other, 200, Moment::Sample, 5, 6, 0).into(),
        reading(task, 500, Moment::Sample, 30, 30, 0).into(),
        reading(task, 700, Moment::Sample, 8, 30, 0).into(),
        reading(task, 900, Moment::Exit, 1, 30, 30).into(),
    ]);
    let peaks = Peaks::new(&session);
    let ix = of(&session, 10);
    let within = |from, to| peaks.within(ix, Span { from, to }).map(|bytes| bytes / MB);
    assert_eq!(within(0, 1_000), Some(30));
    assert_eq!(within(250, 400), Some(5));
    assert_eq!(within(250, 550), Some(30));
    assert_eq!(within(750, 800), Some(8));
    assert_eq!(within(50, 90), None);
    assert_eq!(within(950, 990), None);
    assert_eq!(
        peaks.largest(&[of(&session, 20), ix], Span { from: 0, to: 250 }),
        Some((ix, 6 * MB))
    );
}

/// Make sure that a container has the peak of its own memory cgroup, by id or by path, and none of a neighbour's or of
/// its parent's.
#[test]
fn cgroups() {
    let task = leader(10, 1);
    let charged = |memcg, hierarchy, peak: u64| Memory {
        memcg,
        memcg_hierarchy: hierarchy,
        memcg_peak: peak * MB,
        ..reading(task, 200, Moment::Sample, 1, 1, 0)
    };
    let made = |id, hierarchy, path: &str| Cgroup {
        at: at(task, 60),
        op: CgroupOp::Mkdir,
        id,
        hierarchy,
        level: 1,
        path: path.into(),
    };
    let session = session([
        charged(5, 0, 50).into(),
        charged(5, 4, 500).into(),
        charged(6, 4, 70).into(),
        charged(7, 0, 900).into(),
        charged(8, 4, 901).into(),
        made(5, 0, "/a/libpod-c1.scope").into(),
        made(6, 4, "/docker/c2").into(),
        made(7, 0, "/a").into(),
        made(8, 4, "/machine/libpod-conmon-c2.scope").into(),
    ]);
    let peaks = Peaks::new(&session);
    let container = |id: &str, cgroup| Container {
        id: id.into(),
        name: Vec::new(),
        image: Vec::new(),
        digest: Vec::new(),
        engine: String::new(),
        runtime: String::new(),
        operation: None,
        cgroup,
        entrypoint: None,
        rootfs: None,
        span: Span::default(),
    };
    assert_eq!(peaks.container(&container("c1", 5)), Some(50 * MB));
    assert_eq!(peaks.container(&container("c2", 0)), Some(70 * MB));
    assert_eq!(peaks.container(&container("c3", 0)), None);
    assert!(!is_of(b"/docker/c2", b"") && !is_of(b"/docker/xc2", b"c2"));
    assert!(is_of(b"/kubepods/cri-containerd-c2.scope/x", b"c2") && is_of(b"/c2", b"c2"));
}

/// Make sure that a kill is told with its victim, where the kernel gives its task and where it gives a number alone, and
/// with the innermost phase that it worked for.
#[test]
fn out_of_memory() {
    let killed = |ts, tgid, tid, start| Oom {
        at: at(leader(10, 1), ts),
        victim: TaskId { tgid, tid, start },
        victim_cgroup: 0,
        victim_rss: 0,
        memcg: 0,
        memcg_peak: 0,
        memcg_hierarchy: 0,
        comm: Vec::new(),
    };
    let mut session = session([
        killed(400, 20, 20, 2).into(),
        killed(500, 0, 20, 0).into(),
        killed(700, 0, 20, 0).into(),
        killed(800, 77, 77, 3).into(),
    ]);
    let phase = |kind, from, to, processes| Phase {
        bytes: None,
        kind,
        label: Vec::new(),
        span: Span { from, to },
        open: false,
        parent: None,
        operation: None,
        container: None,
        main: None,
        processes,
        evidence: (String::new(), String::new()),
    };
    let victim = of(&session, 20);
    session.phases = vec![
        phase(PhaseKind::Run, 0, 1_000, vec![victim]),
        phase(PhaseKind::User, 350, 450, vec![victim]),
        phase(PhaseKind::User, 390, 410, Vec::new()),
    ];
    let kills = kills(&session);
    let told: Vec<_> = kills.iter().map(|kill| (kill.pid, kill.process, kill.phase)).collect();
    assert_eq!(
        told,
        [
            (20, Some(victim), Some(PhaseIx(1))),
            (20, Some(victim), Some(PhaseIx(0))),
            (20, None, None),
            (77, None, None),
        ]
    );
    assert_eq!(kills[0].allocating, 10);
}
