"""Reads Perfetto's traces as its trace processor does, by the messages that its authors publish.

Events of a track are ordered by time and then by their place in the file; an end ends what began
last. Asserts what the trace processor would only count as an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

Event = protos.TrackEvent


@dataclass
class Track:
    uuid: int
    parent: Optional[int]
    name: str
    pid: int = 0
    tid: int = 0
    is_thread: bool = False


@dataclass
class Slice:
    track: Track
    begin_ns: int
    category: str
    name: str
    args: dict[str, Any]
    end_ns: int = -1


@dataclass
class Trace:
    tracks: dict[int, Track] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)
    instants: list[Slice] = field(default_factory=list)
    #: From the slice that has a flow to the one that it ends in.
    arrows: list[tuple[Slice, Slice]] = field(default_factory=list)
    clocks: dict[int, int] = field(default_factory=dict)
    primary_clock: int = 0
    kernel: str = ""

    def thread_of(self, track: Track) -> Track:
        """The thread's track that a track is, or lies within."""
        while not track.is_thread and track.parent is not None:
            track = self.tracks[track.parent]
        return track


def read(data: bytes) -> Trace:
    """The trace in a file."""
    trace, interned, events = Trace(), {}, []
    default_clock = None
    for packet in protos.Trace.FromString(data).packet:
        assert packet.trusted_packet_sequence_id == 1
        if packet.sequence_flags & protos.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED:
            assert not events and not interned
            default_clock = packet.trace_packet_defaults.timestamp_clock_id
        for kind, entries in packet.interned_data.ListFields():
            for entry in entries:
                text = entry.str.decode() if hasattr(entry, "str") else entry.name
                assert interned.setdefault((kind.name, entry.iid), text) == text
        _take(trace, packet, events, interned)
    assert default_clock == protos.BUILTIN_CLOCK_MONOTONIC
    _play(trace, sorted(events, key=lambda event: event[0]))
    return trace


def _take(trace: Trace, packet: Any, events: list[Any], interned: Any) -> None:
    if packet.HasField("track_descriptor"):
        said = packet.track_descriptor
        assert said.uuid and said.uuid not in trace.tracks
        parent = said.parent_uuid if said.HasField("parent_uuid") else None
        name = said.name or said.process.process_name or said.thread.thread_name
        pid = said.process.pid or said.thread.pid
        trace.tracks[said.uuid] = Track(
            said.uuid, parent, name, pid, said.thread.tid, said.HasField("thread")
        )
    elif packet.HasField("clock_snapshot"):
        trace.clocks = {clock.clock_id: clock.timestamp for clock in packet.clock_snapshot.clocks}
        trace.primary_clock = packet.clock_snapshot.primary_trace_clock
    elif packet.HasField("system_info"):
        trace.kernel = packet.system_info.utsname.release
    elif packet.HasField("track_event"):
        event = packet.track_event
        assert packet.sequence_flags & protos.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        # Named now: what comes later in the file is not known yet.
        made = Slice(
            trace.tracks[event.track_uuid],
            packet.timestamp,
            ",".join(interned["event_categories", iid] for iid in event.category_iids),
            interned["event_names", event.name_iid] if event.name_iid else "",
            {_key(a, interned): _value(a, interned) for a in event.debug_annotations},
        )
        events.append((packet.timestamp, event, made))


def _key(annotation: Any, interned: Any) -> str:
    return str(interned["debug_annotation_names", annotation.name_iid])


def _value(annotation: Any, interned: Any) -> Any:
    kind = annotation.WhichOneof("value")
    if kind == "string_value_iid":
        return interned["debug_annotation_string_values", annotation.string_value_iid]
    return getattr(annotation, kind)


def _play(trace: Trace, events: list[Any]) -> None:
    open_: dict[int, list[Slice]] = {uuid: [] for uuid in trace.tracks}
    flows: dict[int, Slice] = {}
    for at, event, made in events:
        stack = open_[event.track_uuid]
        if event.type == Event.TYPE_SLICE_BEGIN:
            stack.append(made)
            trace.slices.append(made)
            for flow in event.flow_ids:
                assert flow not in flows
                flows[flow] = made
            for flow in event.terminating_flow_ids:
                trace.arrows.append((flows.pop(flow), made))
        elif event.type == Event.TYPE_SLICE_END:
            stack.pop().end_ns = at
        else:
            assert event.type == Event.TYPE_INSTANT
            trace.instants.append(made)
    assert not any(open_.values()), "slices that do not end"
    assert not flows, "flows that lead nowhere"
