use prost::Message as _;

use super::*;
use crate::report::export::tests::written;
use crate::report::fixture;

fn trace(session: &Session) -> Vec<TracePacket> {
    wire::Trace::decode(&written(&Perfetto, session)[..]).unwrap().packet
}

/// Name, length and depth of each slice of a track, which must be properly nested.
fn slices(packets: &[TracePacket], uuid: u64) -> Vec<(String, u64, usize)> {
    let mut open: Vec<(usize, u64)> = Vec::new();
    let mut found = Vec::new();
    let mut last = 0;
    for packet in packets {
        let Some(event) = packet.track_event.as_ref().filter(|event| event.track_uuid == uuid) else {
            continue;
        };
        let ts = packet.timestamp.unwrap();
        assert!(ts >= last, "events of a track are in order of time");
        last = ts;
        if event.kind == EventType::SliceBegin as i32 {
            open.push((found.len(), ts));
            found.push((event.name.clone().unwrap(), 0, open.len()));
        } else if event.kind == EventType::SliceEnd as i32 {
            let (index, from): (usize, u64) = open.pop().unwrap();
            found[index].1 = ts - from;
        }
    }
    assert!(open.is_empty());
    found
}

/// Make sure that every phase is a slice of its length, and phases that overlap are on tracks of their own.
#[test]
fn phases_are_slices() {
    let mut session = fixture::session();
    session.phases[5].span = fixture::span(8_000, 9_400);
    let packets = trace(&session);
    let lanes: Vec<u64> = packets
        .iter()
        .filter_map(|packet| packet.track_descriptor.as_ref())
        .filter(|track| track.name == "phases")
        .map(|track| track.uuid)
        .collect();
    let mut found: Vec<(String, u64)> = lanes
        .iter()
        .flat_map(|lane| slices(&packets, *lane))
        .map(|(name, length, _)| (name, length))
        .collect();
    let mut expected: Vec<(String, u64)> = all_phases(&session)
        .map(|ix| (names::phase(&session, ix), session.phases[ix.ix()].span.len()))
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    // The steps' own, and two for the container's, of which `run` and `cleanup` overlap.
    assert_eq!(lanes.len(), 3);
    let steps = slices(&packets, lanes[0]);
    assert_eq!(steps.iter().map(|step| step.2).collect::<Vec<_>>(), [1, 1, 2]);
}

/// Make sure that each thread's slices are its intervals, one after the other.
#[test]
fn threads_are_tiled() {
    let session = fixture::session();
    let packets = trace(&session);
    for (index, thread) in session.threads.iter().enumerate() {
        let slices = slices(&packets, track(Kind::Thread, index));
        let lengths: Vec<u64> = slices.iter().map(|(_, length, _)| *length).collect();
        let expected: Vec<u64> = thread.intervals.iter().map(|interval| interval.span.len()).collect();
        assert_eq!(lengths, expected);
        assert!(slices.iter().all(|(_, _, depth)| *depth == 1));
    }
}

/// Make sure that the counters' averages, times their steps' lengths, are the threads' exact times.
#[test]
fn counters_are_the_time() {
    let session = fixture::session();
    let steps = counters::Steps::of(&session);
    let spans = crate::report::select::Selection::all().spans(&session);
    let all = figures::selected(&session, &spans, &mut Classifier::default());
    let sum = |index: usize| steps.sums.iter().map(|sums| sums[index]).sum::<u64>();
    assert_eq!(
        [sum(0), sum(1), sum(2), sum(3)],
        [all.cpu, all.runqueue, all.disk, all.network]
    );
    let whole: u64 = (0..steps.sums.len()).map(|step| steps.span(step).len()).sum();
    assert_eq!(whole, session.span.len());
    let values = trace(&session)
        .into_iter()
        .filter(|packet| {
            packet
                .track_event
                .as_ref()
                .is_some_and(|event| event.double_counter_value.is_some())
        })
        .count();
    assert_eq!(values, 4 * steps.sums.len());
}

/// Make sure that a broken recording's phases and processes give a trace.
#[test]
fn broken_phases() {
    let mut session = fixture::session();
    session.phases[0].parent = Some(PhaseIx(99));
    session.phases[1].container = Some(ContainerIx(99));
    session.phases[2].span = crate::model::Span { from: 9, to: 3 };
    session.processes[0].threads.push(ThreadIx(99));
    assert!(!trace(&session).is_empty());
}
