use serde_json::Value;

use super::*;
use crate::report::fixture;

fn parsed(session: &Session) -> Value {
    serde_json::from_slice(&render(session).unwrap()).unwrap()
}

/// Make sure that the fields that are promised are there, with their types.
#[test]
fn promised_fields() {
    let report = parsed(&fixture::session());
    for pointer in [
        "/schema",
        "/span/begin_ns",
        "/span/end_ns",
        "/host/cpus",
        "/host/clocks/0/real_ns",
        "/operations/0/wall_ns",
        "/operations/0/unattributed_ns",
        "/containers/0/cgroup",
        "/containers/0/phases/0/wall_ns",
        "/containers/0/phases/1/wall/cpu_ns",
        "/containers/0/phases/1/all/unattributed_ns",
        "/containers/0/phases/1/cut_ns",
        "/containers/0/phases/1/processes/0",
        "/phases/0/index",
        "/processes/0/pid",
        "/processes/1/parent",
        "/processes/0/threads/0/tid",
        "/processes/0/threads/0/resources/child_ns",
        "/waits/0/wait_ns",
        "/self/host_cpu_ns",
    ] {
        assert!(report.pointer(pointer).is_some_and(Value::is_u64), "{pointer}");
    }
    for pointer in [
        "/version",
        "/host/hostname",
        "/containers/0/id/text",
        "/containers/0/image/text",
        "/containers/0/engine",
        "/containers/0/runtime",
        "/phases/1/name",
        "/phases/1/label/text",
        "/processes/0/comm/text",
        "/processes/0/argv/0/text",
        "/containers/0/phases/1/evidence/from",
        "/waits/0/class",
    ] {
        assert!(report.pointer(pointer).is_some_and(Value::is_string), "{pointer}");
    }
    // What is not measured says so and is no empty list.
    for field in ["layers", "copy_ups", "block_devices"] {
        assert!(report[field].is_null());
        assert!(report["not_measured"].as_array().unwrap().contains(&field.into()));
    }
    for field in ["losses", "damage"] {
        assert!(report[field].is_array());
    }
}

/// Make sure that each phase stands in the tree exactly once, below its container or its step.
#[test]
fn phases_once() {
    fn collect(phases: &Value, found: &mut Vec<u64>) {
        for phase in phases.as_array().unwrap() {
            found.push(phase["index"].as_u64().unwrap());
            collect(&phase["phases"], found);
        }
    }
    let report = parsed(&fixture::session());
    let mut found = Vec::new();
    collect(&report["phases"], &mut found);
    assert_eq!(found, [0, 1, 2]);
    collect(&report["containers"][0]["phases"], &mut found);
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2, 3, 4, 5]);
}

/// Make sure that a phase's wall time and each thread's life are the sum of their parts.
#[test]
fn times_add_up() {
    let session = fixture::session();
    let sum = |times: &Value| {
        times
            .as_object()
            .unwrap()
            .values()
            .map(|ns| ns.as_u64().unwrap())
            .sum::<u64>()
    };
    let report = parsed(&session);
    for phase in report["containers"][0]["phases"].as_array().unwrap() {
        assert_eq!(
            sum(&phase["wall"]),
            phase["wall_ns"].as_u64().unwrap(),
            "{}",
            phase["name"]
        );
    }
    for process in report["processes"].as_array().unwrap() {
        for thread in process["threads"].as_array().unwrap() {
            let life = thread["to_ns"].as_u64().unwrap() - thread["from_ns"].as_u64().unwrap();
            assert_eq!(sum(&thread["resources"]), life);
        }
    }
}

/// Make sure that bytes that are no UTF-8 are kept exactly, and hostile text stays text.
#[test]
fn bytes_are_kept() {
    let mut session = fixture::session();
    session.containers[0].name = b"a\xffb".to_vec();
    let report = parsed(&session);
    assert_eq!(report["containers"][0]["name"]["text"], "a\u{fffd}b");
    assert_eq!(report["containers"][0]["name"]["text_hex"], "61ff62");
    assert!(report["containers"][0]["id"].get("text_hex").is_none());
    assert_eq!(report["processes"][5]["argv"][1]["text"], fixture::HOSTILE);
}

/// Make sure that an exit status and a signal are told apart.
#[test]
fn exits() {
    let mut session = fixture::session();
    session.processes[0].exit_code = Some(3 << 8);
    session.processes[1].exit_code = Some(9);
    session.processes[2].exit_code = None;
    let report = parsed(&session);
    let exit = |index: usize| {
        (
            &report["processes"][index]["exit_status"],
            &report["processes"][index]["signal"],
        )
    };
    assert_eq!(exit(0), (&Value::from(3), &Value::Null));
    assert_eq!(exit(1), (&Value::Null, &Value::from(9)));
    assert_eq!(exit(2), (&Value::Null, &Value::Null));
}

/// Make sure that a broken tree of phases ends.
#[test]
fn circular_phases() {
    let mut session = fixture::session();
    session.phases[0].parent = Some(PhaseIx(1));
    session.phases[1].parent = Some(PhaseIx(0));
    parsed(&session);
}

/// Make sure that an empty session is a report.
#[test]
fn empty_session() {
    assert!(parsed(&Session::default())["phases"].as_array().unwrap().is_empty());
}

/// Make sure that an operation's critical path has segments that tile its time, and shares and states that add up to it.
#[test]
fn critical_path_adds_up() {
    let report: serde_json::Value = serde_json::from_slice(&render(&fixture::session()).unwrap()).unwrap();
    let path = &report["critical_path"][0];
    let wall = path["wall_ns"].as_u64().unwrap();
    assert_eq!(Some(wall), report["operations"][0]["wall_ns"].as_u64());
    let sum = |object: &serde_json::Value| {
        object
            .as_object()
            .unwrap()
            .values()
            .filter_map(|ns| ns.as_u64())
            .sum::<u64>()
    };
    assert_eq!(sum(&path["times"]), wall);
    let shares = path["shares"].as_array().unwrap().iter();
    assert_eq!(
        shares.map(|share| share["time_ns"].as_u64().unwrap()).sum::<u64>(),
        wall
    );
    let mut at = path["from_ns"].as_u64().unwrap();
    for segment in path["segments"].as_array().unwrap() {
        assert_eq!(segment["from_ns"].as_u64(), Some(at));
        at = segment["to_ns"].as_u64().unwrap();
    }
    assert_eq!(Some(at), path["to_ns"].as_u64());
}
