//! Who is who: processes, threads, programs, places.

use profiler_common::sched::flag;

use crate::model::fixture::*;
use crate::model::{Image, Process, Session};
use crate::recording::record::{Adopt, Cgroup, CgroupOp, Cycle, Exec, Exit, Fork, Record};

fn process(session: &Session, tgid: u32, start: u64) -> &Process {
    &session.processes[process_ix(session, tgid, start).ix()]
}

/// Make sure that the tree of processes is the one that forks tell, and that a thread is not a process.
#[test]
fn tree() {
    let (shell, make) = (leader(10, 5), leader(20, 100));
    let worker = thread(20, 21, 150);
    let gcc = leader(30, 200);
    let records = vec![
        adopt(shell, 10).into(),
        fork(shell, make, 101).into(),
        fork(make, worker, 151).into(),
        fork(worker, gcc, 201).into(),
        last(gcc, 201, 300).into(),
        last(make, 101, 350).into(),
        last(worker, 151, 400).into(),
    ];
    let session = session(span(0, 1000), records);
    assert_eq!(session.processes.len(), 3);
    let make_ix = process_ix(&session, 20, 100);
    let make = process(&session, 20, 100);
    assert_eq!(make.parent, Some(process_ix(&session, 10, 5)));
    assert_eq!(make.threads.len(), 2);
    assert_eq!(make.span, span(101, 400), "it lives as long as its last thread");
    assert!(!make.open && !make.adopted);
    assert_eq!(make.children, [process_ix(&session, 30, 200)]);
    assert_eq!(process(&session, 30, 200).parent, Some(make_ix));
    assert!(process(&session, 10, 5).adopted && process(&session, 10, 5).open);
}

/// Make sure that a pid that was given out twice names two processes, each with its own threads and children.
#[test]
fn pids_wrap() {
    let init = leader(1, 1);
    let (old, new) = (leader(20, 100), leader(20, 500));
    let (old_thread, new_thread) = (thread(20, 21, 110), thread(20, 22, 510));
    let (old_child, new_child) = (leader(30, 120), leader(30, 520));
    let mut records: Vec<Record> = vec![adopt(init, 5).into()];
    for (leader, thread, child, ts) in [(old, old_thread, old_child, 100), (new, new_thread, new_child, 500)] {
        records.push(fork(init, leader, ts).into());
        records.push(fork(leader, thread, ts + 10).into());
        records.push(fork(thread, child, ts + 20).into());
        for task in [leader, thread, child] {
            records.push(last(task, task.start, ts + 100).into());
        }
    }
    let session = session(span(0, 1000), records);
    assert_eq!(session.processes.len(), 5);
    for (leader, child) in [(old, old_child), (new, new_child)] {
        let ix = process_ix(&session, leader.tgid, leader.start);
        assert_eq!(process(&session, child.tgid, child.start).parent, Some(ix));
        assert_eq!(process(&session, leader.tgid, leader.start).threads.len(), 2);
    }
}

/// Make sure that a process of which neither end nor last events came does not live on beside its pid's next owner.
#[test]
fn reuse_ends_the_forgotten() {
    let init = leader(1, 1);
    let (old, new) = (leader(20, 100), leader(20, 500));
    let records = vec![
        fork(init, old, 100).into(),
        fork(old, thread(20, 21, 110), 110).into(),
        fork(init, new, 500).into(),
        last(new, 500, 600).into(),
    ];
    let session = session(span(0, 1000), records);
    assert_eq!(process(&session, 20, 100).span, span(100, 500));
    assert!(!process(&session, 20, 100).open);
    assert_eq!(loss(&session, "threads whose end was not seen"), 2);
}

/// Make sure that the kernel's word that a process is dead ends all its threads.
#[test]
fn group_death_ends_threads() {
    let main = leader(20, 100);
    let dead = Exit {
        group_dead: Some(true),
        ..exit(main, 300, 9)
    };
    let records = vec![
        fork(leader(1, 1), main, 100).into(),
        fork(main, thread(20, 21, 110), 110).into(),
        dead.into(),
        last(main, 100, 310).into(),
    ];
    let session = session(span(0, 1000), records);
    assert_eq!(
        session.threads[thread_ix(&session, thread(20, 21, 110)).ix()].span,
        span(110, 300)
    );
    assert_eq!(process(&session, 20, 100).exit_code, Some(9));
}

/// Make sure that a process has no exit code while one of its threads lives.
#[test]
fn no_code_while_it_lives() {
    let main = leader(20, 100);
    let records = vec![
        fork(leader(1, 1), main, 100).into(),
        fork(main, thread(20, 21, 110), 110).into(),
        exit(main, 300, 0).into(),
        last(main, 100, 310).into(),
    ];
    let session = session(span(0, 1000), records);
    assert_eq!(process(&session, 20, 100).exit_code, None);
    assert!(process(&session, 20, 100).open);
}

/// Make sure that a process has its exit code although the recording ended between its exit and its last switch.
#[test]
fn code_before_the_last_switch() {
    let main = leader(20, 100);
    let open = Cycle {
        flags: flag::OPEN | flag::PREEMPTED,
        ..cycle(main, [100, 100, 310, 310, 320])
    };
    let records = vec![
        fork(leader(1, 1), main, 100).into(),
        exit(main, 300, 9).into(),
        open.into(),
    ];
    let session = session(span(0, 320), records);
    assert_eq!(process(&session, 20, 100).exit_code, Some(9));
    assert!(!process(&session, 20, 100).open);
}

/// Make sure that a thread whose birth was lost is made up from its first event, and that this is told.
#[test]
fn lost_birth() {
    let worker = thread(20, 21, 150);
    let records = vec![
        cycle(worker, [200, 200, 300, 350, 360]).into(),
        last(worker, 360, 400).into(),
    ];
    let session = session(span(0, 1000), records);
    assert_eq!(session.threads[0].span, span(200, 400));
    assert_eq!((session.processes[0].tgid, session.processes[0].start), (20, 150));
    assert_eq!(loss(&session, "threads whose birth was not seen"), 1);
}

/// Make sure that a thread whose birth was lost still finds its process by its own start time.
#[test]
fn lost_birth_of_a_thread() {
    let (main, worker) = (leader(20, 100), thread(20, 21, 150));
    let records = vec![
        fork(leader(1, 1), main, 100).into(),
        last(worker, 200, 400).into(),
        last(main, 100, 500).into(),
    ];
    let session = session(span(0, 1000), records);
    assert_eq!(session.processes.len(), 1);
    assert_eq!(session.processes[0].threads.len(), 2);
}

/// Make sure that a thread that was both adopted and seen to be born was born.
#[test]
fn fork_beats_adoption() {
    let child = leader(20, 100);
    for forks_first in [true, false] {
        let mut records: Vec<Record> = vec![fork(leader(1, 1), child, 101).into(), adopt(child, 105).into()];
        if !forks_first {
            records.reverse();
        }
        records.push(last(child, 101, 200).into());
        let session = session(span(0, 1000), records);
        assert!(!session.processes[0].adopted);
        assert_eq!(session.threads[0].span, span(101, 200));
    }
}

/// Make sure that a child shows its parent's program until its own exec, and that execs and births may come late.
#[test]
fn images() {
    let (make, child) = (leader(20, 100), leader(30, 300));
    let mut records: Vec<Record> = vec![
        adopt(make, 150).into(),
        exec(make, 200, &["make", "all"]).into(),
        fork(make, child, 301).into(),
        exec(make, 350, &["make", "again"]).into(),
        exec(child, 400, &["gcc", "-c", "a.c"]).into(),
        last(child, 301, 500).into(),
    ];
    records.reverse();
    let session = session(span(0, 1000), records);
    let program = |image: &Image| (image.ts, image.exec, String::from_utf8(image.argv.join(&b' ')).unwrap());
    let of = |tgid, start| {
        process(&session, tgid, start)
            .images
            .iter()
            .map(program)
            .collect::<Vec<_>>()
    };
    let gcc = "gcc -c a.c".to_owned();
    assert_eq!(of(30, 300), [(301, false, "make all".to_owned()), (400, true, gcc)]);
    let daemon = (150, true, "daemon".to_owned());
    assert_eq!(
        of(20, 100),
        [
            daemon,
            (200, true, "make all".to_owned()),
            (350, true, "make again".to_owned())
        ]
    );
    assert_eq!(session.threads[thread_ix(&session, child).ix()].comm, b"execed");
}

/// Make sure that cgroups and mount namespaces become changes in order of time, and that version 1 hierarchies and
/// other processes' events stay out.
#[test]
fn places() {
    let (mover, moved) = (leader(10, 5), leader(20, 100));
    let attach = |ts, id, hierarchy| Cgroup {
        at: at(mover, ts),
        op: CgroupOp::Attach(moved),
        id,
        hierarchy,
        level: 1,
        path: b"/x".to_vec(),
    };
    let mut later = cycle(moved, [101, 101, 300, 300, 300]);
    later.at.cgroup = 88;
    later.at.mnt_ns = 9;
    let mut end = last(moved, 300, 400);
    end.at.cgroup = 88;
    end.at.mnt_ns = 0;
    let records = vec![
        adopt(mover, 50).into(),
        fork(mover, moved, 101).into(),
        end.into(),
        later.into(),
        attach(150, 88, 0).into(),
        attach(160, 99, 4).into(),
    ];
    let session = session(span(0, 1000), records);
    let process_ = process(&session, 20, 100);
    assert_eq!(process_.cgroups, [(101, CGROUP), (150, 88)]);
    assert_eq!(process_.mnt_ns, [(101, MNT_NS), (300, 9)]);
    assert_eq!(process(&session, 10, 5).cgroups, [(50, CGROUP)]);
}

/// What a take-over by exec is tested with: leader (tgid 20, start 100) and thread 25 (start 200) that executes at
/// 500 and lives to 900. `leaders_last` are the leader's last cycles, from 410.
fn takeover(leaders_last: Vec<Cycle>, leave_out: impl Fn(&Record) -> bool) -> Session {
    let (main, worker) = (leader(20, 100), thread(20, 25, 200));
    let exec = Exec {
        old_tid: 25,
        ..exec(main, 500, &["new"])
    };
    let boundary = Cycle {
        flags: flag::BOUNDARY,
        ..cycle(main, [450, 450, 500, 500, 500])
    };
    let mut records: Vec<Record> = vec![
        fork(leader(1, 1), main, 100).into(),
        cycle(main, [100, 100, 300, 400, 410]).into(),
        fork(main, worker, 200).into(),
        cycle(worker, [200, 200, 250, 400, 405]).into(),
        exit(main, 415, 0).into(),
        sample(main, 412, 1).into(),
        // The survivor waits for the leader, becomes it, and goes on under its name.
        cycle(main, [405, 405, 408, 440, 450]).into(),
        boundary.into(),
        exec.into(),
        sample(main, 600, 2).into(),
        cycle(main, [500, 500, 700, 800, 800]).into(),
        exit(main, 890, 7 << 8).into(),
        last(main, 800, 900).into(),
    ];
    records.extend(leaders_last.into_iter().map(Record::from));
    records.retain(|record| !leave_out(record));
    session(span(0, 1000), records)
}

/// Make sure that a thread that executes and so becomes the leader keeps one timeline over both names, and that the
/// former leader ends where it ended: no time is lost, none is counted twice.
#[test]
fn exec_by_a_thread() {
    // The leader's last event comes before the exchange of tids or after it.
    for id in [leader(20, 100), thread(20, 25, 100)] {
        let session = takeover(vec![last(id, 410, 420)], |_| false);
        assert_eq!((session.processes.len(), session.threads.len()), (1, 2));
        let former = &session.threads[thread_ix(&session, thread(20, 25, 100)).ix()];
        assert_eq!(
            letters(former),
            [(100, 300, 'c'), (300, 400, 'b'), (400, 410, 'r'), (410, 420, 'c')]
        );
        assert_eq!(former.samples, [(412, 1)]);
        let survivor = &session.threads[thread_ix(&session, leader(20, 100)).ix()];
        let expected = [
            (200, 250, 'c'),
            (250, 400, 'b'),
            (400, 405, 'r'),
            (405, 408, 'c'),
            (408, 440, 'b'),
            (440, 450, 'r'),
            (450, 700, 'c'),
            (700, 800, 'b'),
            (800, 900, 'c'),
        ];
        assert_eq!(letters(survivor), expected);
        assert_eq!(survivor.samples, [(600, 2)]);
        assert_eq!(session.processes[0].exit_code, Some(7 << 8));
        assert_eq!(session.losses.named, []);
    }
}

/// Make sure that what a leader does between its exit and the exchange of tids is not taken for the survivor's.
#[test]
fn leader_preempted_in_its_exit() {
    let (main, exchanged) = (leader(20, 100), thread(20, 25, 100));
    let preempted = Cycle {
        flags: flag::PREEMPTED,
        ..cycle(main, [410, 410, 416, 416, 418])
    };
    let session = takeover(vec![preempted, last(exchanged, 418, 420)], |_| false);
    let former = &session.threads[thread_ix(&session, exchanged).ix()];
    assert_eq!(
        letters(former)[3..],
        [(410, 416, 'c'), (416, 418, 'r'), (418, 420, 'c')]
    );
    let survivor = &session.threads[thread_ix(&session, main).ix()];
    assert_eq!(letters(survivor)[3], (405, 408, 'c'));
    assert_eq!(session.losses.named, []);
}

/// Make sure that such an exec is survived when any one record of it was lost: the time that is known stays.
#[test]
fn exec_by_a_thread_with_losses() {
    for lost in 0..14 {
        let index = std::cell::Cell::new(0);
        let session = takeover(vec![last(leader(20, 100), 410, 420)], |_| {
            index.replace(index.get() + 1) == lost
        });
        assert_eq!(session.processes.len(), 1, "without record {lost}");
        let total: u64 = session.threads.iter().map(|thread| thread.span.len()).sum();
        assert!((1000..=1120).contains(&total), "without record {lost}: {total} ns");
    }
}

/// Make sure that an exec ends the other threads, also when their own ends were lost.
#[test]
fn exec_ends_others() {
    let (main, worker) = (leader(20, 100), thread(20, 25, 200));
    let records = vec![
        fork(leader(1, 1), main, 100).into(),
        fork(main, worker, 200).into(),
        cycle(worker, [200, 200, 250, 300, 300]).into(),
        exec(main, 500, &["new"]).into(),
        last(main, 100, 900).into(),
    ];
    let session = session(span(0, 1000), records);
    assert_eq!(session.threads[thread_ix(&session, worker).ix()].span, span(200, 500));
}

/// Make sure that a recording that claims that two processes made each other does not make a circle.
#[test]
fn no_circles() {
    let (one, two) = (leader(20, 100), leader(30, 100));
    let records = vec![fork(one, two, 101).into(), fork(two, one, 101).into()];
    let session = session(span(0, 1000), records);
    assert_eq!(
        session
            .processes
            .iter()
            .filter(|process| process.parent.is_some())
            .count(),
        1
    );
}

/// Make sure that an adopted process finds its parent, of the right age.
#[test]
fn adopted_parent() {
    let (shim, child) = (leader(20, 100), leader(30, 200));
    let child = Adopt {
        parent_tgid: 20,
        ..adopt(child, 300)
    };
    let records = vec![
        child.into(),
        adopt(shim, 301).into(),
        fork(shim, leader(20, 900), 901).into(),
    ];
    let session = session(span(0, 1000), records);
    assert_eq!(process(&session, 30, 200).parent, Some(process_ix(&session, 20, 100)));
}

/// Make sure that clone flags of a damaged record do not outweigh the ids.
#[test]
fn ids_outweigh_flags() {
    let child = Fork {
        clone_flags: 0x10000,
        ..fork(leader(1, 1), leader(20, 100), 100)
    };
    let session = session(
        span(0, 1000),
        vec![child.into(), last(leader(20, 100), 100, 200).into()],
    );
    assert_eq!(session.processes[0].tgid, 20);
}
