//! The recording of a busy host, made up: an hour of `podman run`, four at a time, each with a compiler's processes,
//! CPU samples and waits. As large as it takes to see whether a report of it is still usable.

use std::path::Path;

use phasegraph::recording::Writer;
use phasegraph::recording::record::{
    At, Begin, Cgroup, CgroupOp, Clock, Cycle, End, Exec, Exit, File, Fork, Frame, Meta, Place, Record, Sample, Stack,
    Symbol, Syscall, TaskId,
};
use profiler_common::container::call;
use profiler_common::sched::flag;

const MS: u64 = 1_000_000;
const BEGIN: u64 = 1_000_000 * MS;
/// Containers that live at the same time, and how long.
const LANES: u64 = 4;
const LIFE_MS: u64 = 7_000;
/// Functions, and stacks made of them.
const FUNCTIONS: u32 = 3_000;
const STACKS: u32 = 8_000;
const DEEPEST: u32 = 40;
/// Compilers of a container.
const COMPILERS: u64 = 6;
/// ns between two samples.
const PERIOD: u64 = 1_000 * MS / 99;
const MS_BIND: u64 = 4096;
/// Ids of containers' cgroups begin here.
const CGROUPS: u64 = 10_000;

/// What every container's image and every third compiler is called, besides.
pub(crate) const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\x1b[31m\"'\n\u{202e}";

/// How much there is in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub containers: u64,
    /// CPU samples of each.
    pub samples: u64,
}

/// Random enough, and the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Writes it.
pub(crate) fn write(path: &Path, size: Size) {
    let mut writer = Writer::create(path, true).unwrap();
    let mut put = |record: Record| writer.write(&record).unwrap();
    let length = size.containers.div_ceil(LANES) * (LIFE_MS + 200) * MS;
    put(Record::Meta(Meta {
        version: "0.1.0".into(),
        hostname: HOSTILE.into(),
        kernel: "6.12.0".into(),
        machine: "x86_64".into(),
        cpus: 64,
        memory_bytes: 256 << 30,
        page_size: 4096,
        sample_hz: 99,
        ..Meta::default()
    }));
    put(Record::Clock(Clock {
        mono: BEGIN,
        real: 1_770_000_000_000_000_000,
    }));
    put(Record::Begin(Begin {
        mono: BEGIN,
        command: None,
    }));
    let mut dice = Dice(88_172_645_463_325_252);
    stacks(&mut dice, &mut put);
    let mut pid = 1_000;
    for first in (0..size.containers).step_by(LANES as usize) {
        let mut records = Vec::new();
        for lane in 0..LANES.min(size.containers - first) {
            let from = BEGIN + first / LANES * (LIFE_MS + 200) * MS + lane * 37 * MS;
            let mut container = Container {
                number: first + lane,
                first: None,
                from,
                pid: &mut pid,
                dice: &mut dice,
                records: &mut records,
            };
            container.live(size.samples);
        }
        records.sort_by_key(|(ts, _)| *ts);
        records.into_iter().for_each(|(_, record)| put(record));
    }
    put(Record::End(End {
        mono: BEGIN + length,
        exit_code: None,
    }));
    writer.finish().unwrap();
}

fn stacks(dice: &mut Dice, put: &mut impl FnMut(Record)) {
    put(Record::File(File {
        id: 1,
        path: b"/usr/lib/gcc/x86_64-linux-gnu/14/cc1plus".to_vec(),
        dev: 1,
        ino: 2,
        generation: 0,
        build_id: Vec::new(),
    }));
    for id in 1..=FUNCTIONS {
        // One in ten is the kernel's.
        let place = match id % 10 {
            0 => Place::Kernel(0xffff_ffff_8100_0000 + u64::from(id) * 64),
            _ => Place::File {
                file: 1,
                offset: u64::from(id) * 64,
            },
        };
        put(Record::Frame(Frame { id, place }));
        let name = match id {
            7 => HOSTILE.repeat(1_000).into_bytes(),
            11 => vec![0xff, 0xfe, b'x'],
            _ => format!("ns_{}::function_{id}(tree_node*, unsigned long)", id % 50).into_bytes(),
        };
        put(Record::Symbol(Symbol {
            frame: id,
            name,
            offset: 0,
        }));
    }
    for id in 1..=STACKS {
        // A walk down a tree: which function is called depends on the caller, so stacks share their roots.
        let depth = 8 + dice.roll(u64::from(DEEPEST) - 8) as u32;
        let mut frame = 1;
        let mut frames = vec![frame];
        for level in 1..depth {
            let ways = if level < 6 { 2 } else { 4 };
            frame = (frame * 31 + level * 17 + dice.roll(ways) as u32 * 101) % FUNCTIONS + 1;
            frame += u32::from(frame % 10 == 0);
            frames.push(frame.min(FUNCTIONS - 1));
        }
        frames.reverse();
        put(Record::Stack(Stack {
            id,
            kernel: 0,
            frames,
            user_error: 0,
        }));
    }
}

struct Container<'a> {
    number: u64,
    first: Option<TaskId>,
    from: u64,
    pid: &'a mut u32,
    dice: &'a mut Dice,
    records: &'a mut Vec<(u64, Record)>,
}

impl Container<'_> {
    fn put(&mut self, at: At, record: impl Into<Record>) {
        self.records.push((at.ts, record.into()));
    }

    fn at(&self, ms: u64, task: TaskId, cgroup: u64) -> At {
        At {
            ts: self.from + ms * MS,
            task,
            cgroup,
            mnt_ns: 1,
            cpu: 0,
        }
    }

    /// Pid namespace and pid in there: the first process in the container's cgroup is its first.
    fn inside(&mut self, task: TaskId, cgroup: u64) -> (u32, u32) {
        if cgroup < CGROUPS {
            return (4_026_531_836, task.tid);
        }
        let first = *self.first.get_or_insert(task);
        let pid = if task == first { 1 } else { task.tid };
        (4_026_540_000 + self.number as u32, pid)
    }

    /// Forks and, with words, executes at `ms`.
    fn start(&mut self, ms: u64, parent: TaskId, cgroup: u64, words: &[&str]) -> TaskId {
        *self.pid += 1;
        let task = TaskId {
            tgid: *self.pid,
            tid: *self.pid,
            start: self.from + ms * MS,
        };
        let at = self.at(ms, task, cgroup);
        let (pid_ns, ns_tid) = self.inside(task, cgroup);
        let fork = Fork {
            at,
            parent,
            clone_flags: 0,
            pid_ns,
            ns_tid,
            comm: b"forked".to_vec(),
        };
        self.put(at, fork);
        if !words.is_empty() {
            self.exec(ms, task, cgroup, words);
        }
        task
    }

    fn exec(&mut self, ms: u64, task: TaskId, cgroup: u64, words: &[&str]) {
        let at = At {
            ts: self.from + ms * MS + 1,
            ..self.at(ms, task, cgroup)
        };
        let (pid_ns, ns_tid) = self.inside(task, cgroup);
        let exec = Exec {
            at,
            old_tid: task.tid,
            pid_ns,
            ns_tid,
            exe_dev: 1,
            exe_ino: 7,
            comm: words[0].as_bytes().iter().copied().take(15).collect(),
            filename: words[0].into(),
            argv: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
            argv_cut: 0,
        };
        self.put(at, exec);
    }

    /// A thread's time from `from` to `to`, ms: `busy` of ten parts on a CPU, the others in the run queue and waiting.
    fn work(&mut self, task: TaskId, cgroup: u64, (from, to): (u64, u64), busy: u64, iowait: bool) {
        let (mut ts, end) = (task.start.max(self.from + from * MS), self.from + to * MS);
        let step = ((end - ts) / 24).max(MS);
        while ts < end {
            let next = if end - ts < 2 * step { end } else { ts + step };
            let off = ts + (next - ts) * busy / 10;
            let wake = off + (next - off) * 3 / 4;
            let last = next == end;
            let at = At {
                ts: next,
                ..self.at(0, task, cgroup)
            };
            let cycle = Cycle {
                at,
                from: ts,
                on_start: ts,
                off: if last { next } else { off },
                wake: if last { next } else { wake },
                sum_cpu: 0,
                sum_runqueue: 0,
                sum_blocked: 0,
                sum_count: 0,
                waker_tgid: 0,
                waker_tid: 0,
                state: 1,
                syscall: -2,
                flags: if last {
                    flag::END
                } else {
                    u16::from(iowait) * flag::IOWAIT
                },
                stack: 0,
            };
            self.put(at, cycle);
            ts = next;
        }
    }

    fn exit(&mut self, ms: u64, task: TaskId, cgroup: u64) {
        let at = self.at(ms, task, cgroup);
        let exit = Exit {
            at,
            code: 0,
            group_dead: Some(true),
            utime: 0,
            stime: 0,
        };
        self.put(at, exit);
    }

    fn live(&mut self, samples: u64) {
        let id = format!(
            "{:064x}",
            (u128::from(self.number) + 1) * 0x9e37_79b9_7f4a_7c15_f39c_c060
        );
        let name = format!("job-{}", self.number);
        let merged = format!("/b/graph/overlay/{}/merged", &id[..32]);
        let (host, cgroup) = (1, CGROUPS + self.number);
        let shell = TaskId {
            tgid: 1,
            tid: 1,
            start: 1,
        };
        let image = format!("localhost/builder{HOSTILE}");
        let podman = self.start(
            0,
            shell,
            host,
            &["podman", "run", "--rm", "--name", &name, &image, "make"],
        );
        let create = ["/usr/bin/crun", "create", "--bundle", "/b", &id];
        let creator = self.start(100, podman, host, &create);
        let path = format!("/libpod_parent/libpod-{id}").into_bytes();
        let event = |at, op| Cgroup {
            at,
            op,
            id: cgroup,
            hierarchy: 0,
            level: 2,
            path: path.clone(),
        };
        let at = self.at(105, creator, host);
        self.put(at, event(at, CgroupOp::Mkdir));
        let at = self.at(106, creator, host);
        self.put(at, event(at, CgroupOp::Populated(true)));
        let init = self.start(107, creator, cgroup, &[]);
        let at = self.at(120, init, cgroup);
        let mount = Syscall {
            at,
            enter: at.ts - MS,
            result: 0,
            args: [MS_BIND, 0],
            call: call::MOUNT,
            a: merged.clone().into_bytes(),
            b: merged.into_bytes(),
            c: Vec::new(),
            d: Vec::new(),
        };
        self.put(at, mount);
        self.work(creator, host, (100, 150), 6, true);
        self.exit(150, creator, host);
        let starter = self.start(160, podman, host, &["/usr/bin/crun", "start", &id]);
        self.exec(180, init, cgroup, &["/bin/make", "-j6"]);
        self.work(starter, host, (160, 190), 5, false);
        self.exit(190, starter, host);
        let end = LIFE_MS - 300;
        for compiler in 0..COMPILERS {
            let (from, to) = (200 + compiler * 50, end - 100 - compiler * 40);
            let source = format!("unit-{compiler}.cc");
            let hostile = if compiler % 3 == 2 { HOSTILE } else { "cc1plus" };
            let task = self.start(from, init, cgroup, &[hostile, "-quiet", &source]);
            self.work(task, cgroup, (from, to), 3 + self.number % 5, compiler % 2 == 0);
            for number in 0..samples / COMPILERS {
                let ts = (self.from + from * MS + 2 + number * PERIOD).min(self.from + to * MS - 1);
                let stack = 1 + self.dice.roll(u64::from(STACKS)) as u32;
                let at = At {
                    ts,
                    ..self.at(0, task, cgroup)
                };
                self.put(at, Sample { at, stack });
            }
            self.exit(to, task, cgroup);
        }
        self.work(init, cgroup, (107, end), 1, false);
        self.exit(end, init, cgroup);
        let at = self.at(end + 1, init, cgroup);
        self.put(at, event(at, CgroupOp::Populated(false)));
        let deleter = self.start(end + 20, podman, host, &["/usr/bin/crun", "delete", "--force", &id]);
        let at = self.at(end + 60, deleter, host);
        self.put(at, event(at, CgroupOp::Rmdir));
        self.work(deleter, host, (end + 20, end + 80), 4, false);
        self.exit(end + 80, deleter, host);
        self.work(podman, host, (0, end + 200), 1, false);
        self.exit(end + 200, podman, host);
    }
}
