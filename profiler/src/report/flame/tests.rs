use super::*;
use crate::model::PhaseIx;
use crate::report::fixture::{self, HOSTILE};
use crate::report::select::Query;

fn flame(query: Query, kind: Kind) -> Flame {
    let session = fixture::session();
    let selection = Selection::find(&session, &query).unwrap();
    collect(&session, &selection, kind, Roots::default()).unwrap()
}

fn step() -> Query {
    Query {
        phase: Some("step 2".into()),
        ..Query::default()
    }
}

/// Splits folded text as flamegraph.pl does.
fn parse(folded: &str) -> Vec<(Vec<&str>, u64)> {
    folded
        .lines()
        .map(|line| {
            let (frames, count) = line.rsplit_once(' ').unwrap();
            (frames.split(';').collect(), count.parse().unwrap())
        })
        .collect()
}

/// Make sure that the counts add up to the exact time of the selection, whichever it is.
#[test]
fn totals_are_exact() {
    for kind in [Kind::Cpu, Kind::OffCpu, Kind::Wall] {
        for query in [Query::default(), step()] {
            let flame = flame(query, kind);
            for lines in [flame.lines(false), flame.lines(true)] {
                let sum: u64 = parse(&lines.join("\n")).iter().map(|(_, us)| us).sum();
                assert!(sum.abs_diff(flame.total / 1_000) <= 1, "{kind:?} {sum} {}", flame.total);
            }
        }
    }
    // podman 0.3 s, runc 0.15, sh 0.02, make 0.07, cc1 4.0 and 0.6 of its short intervals, the hostile one 0.9
    assert_eq!(flame(Query::default(), Kind::Cpu).total, 6_040 * fixture::MS);
    assert_eq!(flame(step(), Kind::Cpu).total, 5_740 * fixture::MS);
}

/// Make sure that frames go from the operation through phases and processes to the stack, kernel frames marked.
#[test]
fn frames_from_operation_to_leaf() {
    let flame = flame(step(), Kind::Cpu);
    let folded = flame.folded();
    let expected = "podman build;step 2/2 RUN make -j2;container buildah-buildah1234567890;run;sh;make;cc1;main;\
                    c_parse_file;cc1+0x300;asm_exc_page_fault_[k];do_user_addr_fault_[k] ";
    assert!(folded.lines().any(|line| line.starts_with(expected)), "{folded}");
    assert!(folded.contains(";create;runc;"), "{folded}");
}

/// Make sure that a critical path's flamegraph is as wide as the phase or operation is long, and that of phases within
/// each other only the outer one counts.
#[test]
fn critical_is_wall_time() {
    let session = fixture::session();
    let steps = Query {
        phase: Some("step".into()),
        ..Query::default()
    };
    let inner = Query {
        container: Some("buildah".into()),
        ..Query::default()
    };
    let lengths = |kinds: &[PhaseIx]| kinds.iter().map(|ix| session.phases[ix.ix()].span.len()).sum::<u64>();
    for (query, expected) in [
        (Query::default(), session.operations[0].span.len()),
        (steps, lengths(&[PhaseIx(0), PhaseIx(1)])),
        (inner, {
            let own = |ix: &PhaseIx| session.phases[ix.ix()].container.is_some();
            let all: Vec<PhaseIx> = (0..session.phases.len() as u32).map(PhaseIx).filter(own).collect();
            let outer = |ix: &&PhaseIx| {
                let parent = session.phases[ix.ix()].parent;
                parent.is_none_or(|parent| session.phases[parent.ix()].container.is_none())
            };
            lengths(&all.iter().filter(outer).copied().collect::<Vec<_>>())
        }),
    ] {
        let flame = flame(query, Kind::Critical);
        assert_eq!(flame.total, expected);
        let us: u64 = parse(&flame.folded()).iter().map(|(_, us)| us).sum();
        assert!(us.abs_diff(expected / 1_000) <= 1);
    }
}

/// Make sure that waits end in their class and have their own stacks, and that short ones are there too.
#[test]
fn waits_end_in_their_class() {
    let folded = flame(step(), Kind::OffCpu).folded();
    let parsed = parse(&folded);
    let ends = |leaf: &str, frame: &str| {
        parsed
            .iter()
            .any(|(frames, _)| frames.last() == Some(&leaf) && frames[frames.len() - 2] == frame)
    };
    assert!(ends("[disk]", "io_schedule_[k]"), "{folded}");
    assert!(ends("[child]", "do_wait_[k]"), "{folded}");
    assert!(ends("[short waits]", "cc1"), "{folded}");
    assert!(!folded.contains("page_fault"), "{folded}");
}

/// Make sure that a name can't end its frame or line, or be read as a count.
#[test]
fn hostile_names_stay_in_their_frame() {
    let folded = flame(Query::default(), Kind::Cpu).folded();
    let hostile: Vec<_> = folded.lines().filter(|line| line.contains("onerror")).collect();
    assert!(!hostile.is_empty());
    for (line, (frames, _)) in hostile.iter().zip(parse(&hostile.join("\n"))) {
        assert!(frames.contains(&r"</script><img src=x onerror=alert(1)>:\x1b[31m\u{202e}x_12") || frames.len() > 3);
        assert!(line.chars().all(|char| !char.is_control()), "{line}");
    }
}

/// Make sure that the SVG is well-formed and that markup in a name is text in it, in the title too.
#[test]
fn svg_is_well_formed_and_harmless() {
    let mut session = fixture::session();
    session.phases[1].label = HOSTILE.into();
    session.meta.command = vec![HOSTILE.into()];
    session.operations[0].name = HOSTILE.into();
    for reverse in [false, true] {
        let selection = Selection::find(
            &session,
            &Query {
                phase: Some("1".into()),
                ..Query::default()
            },
        )
        .unwrap();
        let svg = collect(&session, &selection, Kind::Cpu, Roots::default())
            .unwrap()
            .svg(reverse)
            .unwrap();
        let svg = String::from_utf8(svg).unwrap();
        let mut reader = quick_xml::Reader::from_str(&svg);
        let (mut elements, mut texts) = (Vec::new(), String::new());
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Eof => break,
                quick_xml::events::Event::Start(start) | quick_xml::events::Event::Empty(start) => {
                    elements.push(String::from_utf8(start.name().as_ref().to_vec()).unwrap());
                }
                quick_xml::events::Event::Text(text) => texts.push_str(std::str::from_utf8(&text).unwrap()),
                _ => {}
            }
        }
        assert!(!elements.contains(&"img".to_owned()));
        assert_eq!(elements.iter().filter(|name| *name == "script").count(), 1);
        assert!(!svg.contains("<img") && !svg.contains('\x1b') && !svg.contains('\u{202e}'));
        assert!(texts.contains("script"), "the name is shown");
    }
}

/// Make sure that frames whose names begin alike are merged all the same: one rectangle each.
#[test]
fn neighbours_are_merged() {
    let mut flame = flame(step(), Kind::Cpu);
    flame.stacks = ["a", "a\x01b", "a-1\x01c", "a\x01c"]
        .map(|line| (line.to_owned(), 1_000_000))
        .into();
    let svg = String::from_utf8(flame.svg(false).unwrap()).unwrap();
    assert_eq!(svg.matches("<title>a (3,000 µs, 75.00%)").count(), 1, "{svg}");
}

/// Make sure that an empty selection says why it is empty.
#[test]
fn empty_says_why() {
    let mut session = fixture::session();
    let error = |session: &Session, phase: &str, kind| {
        let query = Query {
            phase: Some(phase.into()),
            ..Query::default()
        };
        let selection = Selection::find(session, &query).unwrap();
        collect(session, &selection, kind, Roots::default())
            .unwrap_err()
            .to_string()
    };
    for thread in &mut session.threads {
        thread.samples.clear();
    }
    let why = error(&session, "create", Kind::Cpu);
    assert!(
        why.contains("create") && why.contains("150 ms") && why.contains("99 Hz"),
        "{why}"
    );
    session.phases[2].processes.clear();
    assert!(error(&session, "mount", Kind::Wall).contains("no process lived in mount"));
    session.phases[5].processes.truncate(1);
    assert!(error(&session, "cleanup", Kind::Cpu).contains("no on-CPU time in cleanup"));
}

/// Make sure that processes that are their own ancestors (a broken recording) end.
#[test]
fn circular_processes() {
    let mut session = fixture::session();
    session.processes[2].parent = Some(ProcessIx(3));
    assert!(collect(&session, &Selection::all(), Kind::Cpu, Roots::default()).is_ok());
}

/// Make sure that levels can be left out and put in, down to the bare stacks, and that none changes the total.
#[test]
fn roots_as_asked() {
    let mut session = fixture::session();
    session
        .stacks
        .inlined
        .insert(2, vec![b"inner".to_vec(), b"outer".to_vec()]);
    let selection = Selection::find(&session, &step()).unwrap();
    let folded = |roots: &str| {
        let flame = collect(&session, &selection, Kind::Cpu, roots.parse().unwrap()).unwrap();
        assert_eq!(flame.total, 5_740 * fixture::MS);
        flame.folded()
    };
    let begins = |roots: &str, with: &str| {
        let folded = folded(roots);
        assert!(folded.lines().any(|line| line.starts_with(with)), "{roots}: {folded}");
    };
    begins("none", "main;c_parse_file;outer;inner;cc1+0x300");
    begins("process", "cc1;main;");
    begins("parents,process", "sh;make;cc1;main;");
    begins("phase,process", "step 2/2 RUN make -j2;run;cc1;main;");
    begins("container", "container buildah-buildah1234567890;main;");
    begins("operation,thread", "podman build;");
    begins("process,arguments", "make;-j2;");
}

/// Make sure that time which rounds to no µs is none, and that what is there can be drawn.
#[test]
fn less_than_a_microsecond() {
    let mut session = fixture::session();
    let whole = session.processes[4].span;
    for (ns, drawn) in [(499, false), (500, true)] {
        let phase = &mut session.phases[4];
        phase.processes = vec![ProcessIx(4)];
        phase.span = Span {
            from: whole.from,
            to: whole.from + ns,
        };
        let selection = Selection {
            phases: Some(vec![crate::model::PhaseIx(4)]),
            ..Selection::all()
        };
        match collect(&session, &selection, Kind::Wall, Roots::default()) {
            Ok(flame) => assert!(drawn && flame.svg(false).is_ok()),
            Err(error) => assert!(!drawn && matches!(error, Empty::NoTime { .. }), "{error}"),
        }
    }
}

/// Make sure that bytes are drawn as bytes: those read at their stack, those made dirty, all of the selection and no others.
#[test]
fn bytes_of_files() {
    use fixture::disk::{PAGE, with_disk};
    let session = with_disk();
    let flame = collect(&session, &Selection::all(), Kind::Disk, Roots::default()).unwrap();
    assert_eq!(flame.total, 19 * PAGE);
    let sum: u64 = parse(&flame.folded()).iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(sum, flame.total);
    let read = flame
        .folded()
        .lines()
        .find(|line| line.contains("[read cold]"))
        .unwrap()
        .to_owned();
    assert!(
        read.ends_with(&format!("io_schedule_[k];[read cold] {}", 10 * PAGE)),
        "{read}"
    );
    assert!(
        flame.title().starts_with("bytes read cold and made dirty: 77.8 kB"),
        "{}",
        flame.title()
    );
    let svg = String::from_utf8(flame.svg(false).unwrap()).unwrap();
    assert!(svg.contains("bytes") && !svg.contains("µs"));
    let none = collect(&fixture::session(), &Selection::all(), Kind::Disk, Roots::default());
    assert!(matches!(none, Err(Empty::NoTime { .. })));
    let waits = collect(&session, &Selection::all(), Kind::DiskTime, Roots::default()).unwrap();
    // podman 100 ms, cc1 900 ms
    assert_eq!(waits.total, 1_000 * fixture::MS);
}
