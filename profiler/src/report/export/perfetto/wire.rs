//! Those of Perfetto's messages that are written. Numbers of the fields:
//! <https://github.com/google/perfetto/tree/main/protos/perfetto/trace>.

use prost::Message;

/// `BuiltinClock` of `protos/perfetto/common/builtin_clock.proto`.
pub(super) const REALTIME: u32 = 1;
pub(super) const MONOTONIC: u32 = 3;

/// `TrackEvent.Type`.
#[derive(Clone, Copy)]
pub(super) enum EventType {
    SliceBegin = 1,
    SliceEnd = 2,
    Instant = 3,
    Counter = 4,
}

/// All packets are of one writer.
const SEQUENCE: u32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(super) struct TracePacket {
    #[prost(message, optional, tag = "6")]
    pub(super) clock_snapshot: Option<ClockSnapshot>,
    #[prost(uint64, optional, tag = "8")]
    pub(super) timestamp: Option<u64>,
    #[prost(uint32, tag = "10")]
    pub(super) trusted_packet_sequence_id: u32,
    #[prost(message, optional, tag = "11")]
    pub(super) track_event: Option<TrackEvent>,
    #[prost(uint32, optional, tag = "58")]
    pub(super) timestamp_clock_id: Option<u32>,
    #[prost(message, optional, tag = "60")]
    pub(super) track_descriptor: Option<TrackDescriptor>,
}

impl TracePacket {
    pub(super) fn at(timestamp: u64) -> TracePacket {
        TracePacket {
            timestamp: Some(timestamp),
            timestamp_clock_id: Some(MONOTONIC),
            ..TracePacket::default()
        }
    }

    /// As field 1 of a `Trace`, which is nothing but packets.
    pub(super) fn framed(mut self) -> Vec<u8> {
        self.trusted_packet_sequence_id = SEQUENCE;
        Trace { packet: vec![self] }.encode_to_vec()
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Trace {
    #[prost(message, repeated, tag = "1")]
    pub(super) packet: Vec<TracePacket>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ClockSnapshot {
    #[prost(message, repeated, tag = "1")]
    pub(super) clocks: Vec<Clock>,
    #[prost(int32, tag = "2")]
    pub(super) primary_trace_clock: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Clock {
    #[prost(uint32, tag = "1")]
    pub(super) clock_id: u32,
    #[prost(uint64, tag = "2")]
    pub(super) timestamp: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TrackDescriptor {
    #[prost(uint64, tag = "1")]
    pub(super) uuid: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, optional, tag = "3")]
    pub(super) process: Option<ProcessDescriptor>,
    #[prost(message, optional, tag = "4")]
    pub(super) thread: Option<ThreadDescriptor>,
    #[prost(uint64, optional, tag = "5")]
    pub(super) parent_uuid: Option<u64>,
    #[prost(message, optional, tag = "8")]
    pub(super) counter: Option<CounterDescriptor>,
}

impl TrackDescriptor {
    pub(super) fn named(uuid: u64, parent_uuid: Option<u64>, name: &str) -> TrackDescriptor {
        TrackDescriptor {
            uuid,
            name: name.to_owned(),
            parent_uuid,
            ..TrackDescriptor::default()
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ProcessDescriptor {
    #[prost(int32, tag = "1")]
    pub(super) pid: i32,
    #[prost(string, repeated, tag = "2")]
    pub(super) cmdline: Vec<String>,
    #[prost(string, tag = "6")]
    pub(super) process_name: String,
    #[prost(int64, tag = "7")]
    pub(super) start_timestamp_ns: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ThreadDescriptor {
    #[prost(int32, tag = "1")]
    pub(super) pid: i32,
    #[prost(int64, tag = "2")]
    pub(super) tid: i64,
    #[prost(string, tag = "5")]
    pub(super) thread_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CounterDescriptor {
    /// 3 is bytes; else `unit_name` says.
    #[prost(int32, tag = "3")]
    pub(super) unit: i32,
    #[prost(string, tag = "6")]
    pub(super) unit_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    pub(super) debug_annotations: Vec<DebugAnnotation>,
    #[prost(int32, tag = "9")]
    pub(super) kind: i32,
    #[prost(uint64, tag = "11")]
    pub(super) track_uuid: u64,
    #[prost(string, optional, tag = "23")]
    pub(super) name: Option<String>,
    #[prost(int64, optional, tag = "30")]
    pub(super) counter_value: Option<i64>,
    #[prost(double, optional, tag = "44")]
    pub(super) double_counter_value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DebugAnnotation {
    #[prost(uint64, optional, tag = "3")]
    pub(super) uint_value: Option<u64>,
    #[prost(string, optional, tag = "6")]
    pub(super) string_value: Option<String>,
    #[prost(string, tag = "10")]
    pub(super) name: String,
}

impl DebugAnnotation {
    pub(super) fn text(name: &str, value: String) -> DebugAnnotation {
        DebugAnnotation {
            name: name.to_owned(),
            string_value: Some(value),
            uint_value: None,
        }
    }

    pub(super) fn number(name: &str, value: u64) -> DebugAnnotation {
        DebugAnnotation {
            name: name.to_owned(),
            string_value: None,
            uint_value: Some(value),
        }
    }
}
