//! What holds of all sinks.

use super::*;
use crate::report::fixture;

/// What a sink makes of a whole session.
pub(super) fn written(sink: &dyn Sink, session: &Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    sink.write(session, &everything(), &mut bytes).unwrap();
    bytes
}

fn everything() -> Request {
    Request {
        selection: Selection::all(),
        kind: Kind::Wall,
    }
}

/// The fixture, with everything called `name` that a container, a program or an image can be called.
pub(super) fn hostile(name: &[u8]) -> Session {
    let mut session = fixture::session();
    for container in &mut session.containers {
        container.id = name.to_vec();
        container.name = name.to_vec();
        container.image = name.to_vec();
        container.digest = name.to_vec();
        container.engine = String::from_utf8_lossy(name).into_owned();
        container.runtime = container.engine.clone();
    }
    for operation in &mut session.operations {
        operation.name = String::from_utf8_lossy(name).into_owned();
    }
    for phase in &mut session.phases {
        phase.label = name.to_vec();
        phase.container = Some(crate::model::ContainerIx(0));
    }
    for process in &mut session.processes {
        for image in &mut process.images {
            image.comm = name.to_vec();
            image.filename = name.to_vec();
            image.argv = vec![name.to_vec(); 3];
        }
    }
    for thread in &mut session.threads {
        thread.comm = name.to_vec();
    }
    for symbol in session.stacks.symbols.values_mut() {
        symbol.name = name.to_vec();
    }
    for file in session.stacks.files.values_mut() {
        file.path = name.to_vec();
        file.build_id = name[..name.len().min(20)].to_vec();
    }
    session.meta.hostname = String::from_utf8_lossy(name).into_owned();
    session.meta.name = session.meta.hostname.clone();
    session.meta.command = vec![name.to_vec(); 2];
    session
}

/// Names that attack one form or the other.
pub(super) fn hostile_names() -> Vec<Vec<u8>> {
    vec![
        fixture::HOSTILE.into(),
        b"\"'`\\\n\r\t\0;,|={}[]".to_vec(),
        b"../../../../etc/passwd".to_vec(),
        b"\xff\xfe\xc3(\xf0\x9f".to_vec(),
        b"\x1b]0;owned\x07\x1b[2J".to_vec(),
        vec![b'A'; 100_000],
        vec![0xff; 100_000],
        Vec::new(),
        b"=1+1".to_vec(),
        b"# HELP x y\nx 1".to_vec(),
    ]
}

/// Make sure that every sink has a name and a line of its own, and is found by it.
#[test]
fn sinks_are_found() {
    for sink in SINKS {
        assert_eq!(find(sink.name()).unwrap().about(), sink.about());
    }
    assert!(find("html").is_none());
}

/// Make sure that every sink writes something for every session, hostile, empty or cut off, or says why not, and that the
/// length of a name is bounded in all of them.
#[test]
fn hostile_names_are_bounded() {
    let plain: usize = SINKS
        .iter()
        .filter(|sink| sink.name() != "json")
        .map(|sink| written(*sink, &fixture::session()).len())
        .max()
        .unwrap();
    for name in hostile_names() {
        let session = hostile(&name);
        for sink in SINKS {
            let bytes = written(sink, &session);
            if sink.name() != "json" {
                // 8 kB of a name, four times as long when escaped, some dozen times for each of the fixture's stacks.
                assert!(bytes.len() < plain + 16_000_000, "{}: {}", sink.name(), bytes.len());
            }
            if !matches!(sink.name(), "pprof" | "perfetto") {
                let text = String::from_utf8(bytes).unwrap();
                let control = text.chars().find(|char| char.is_control() && !"\n\t\r".contains(*char));
                assert_eq!(control, None, "{}", sink.name());
            }
        }
    }
    for sink in SINKS {
        let mut bytes = Vec::new();
        let done = sink.write(&Session::default(), &everything(), &mut bytes);
        let empty = matches!(sink.name(), "folded" | "pprof" | "speedscope" | "otlp");
        assert_eq!(done.is_err(), empty, "{}: {done:?}", sink.name());
        assert_eq!(bytes.is_empty(), empty, "{}", sink.name());
    }
}
