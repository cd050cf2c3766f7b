"""Writing Perfetto's protobuf packets: tracks, slices, flows, and names said once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, Optional, Union

from corelock.extras import needs

with needs("report", "perfetto"):
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

_PACKETS_AT_A_TIME = 4096
_SEQUENCE = 1

Args = Mapping[str, Union[int, bool, str]]


class TraceWriter:
    """Packets of one sequence on ``CLOCK_MONOTONIC`` of one host, written as they come.

    Names, categories, names of arguments and their texts are interned: said in the first
    packet that has them, and by number from there on.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._trace: Any = protos.Trace()
        self._tracks = 0
        self._interned: dict[tuple[str, str], int] = {}
        first = self._packet()
        first.sequence_flags = protos.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        first.trace_packet_defaults.timestamp_clock_id = protos.BUILTIN_CLOCK_MONOTONIC

    def flush(self) -> None:
        """Write what is pending."""
        self._stream.write(self._trace.SerializeToString())
        # A new one: what is cleared keeps its memory.
        self._trace = protos.Trace()

    def _packet(self) -> Any:
        if len(self._trace.packet) >= _PACKETS_AT_A_TIME:
            self.flush()
        packet = self._trace.packet.add()
        packet.trusted_packet_sequence_id = _SEQUENCE
        return packet

    def _timed(self, ns: int) -> Any:
        packet = self._packet()
        packet.timestamp = ns
        # Its clock, and the names in it, are said by earlier packets.
        packet.sequence_flags = protos.TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        return packet

    def clocks(self, monotonic_ns: int, realtime_ns: int, boottime_ns: int) -> None:
        """What the clocks said at one moment."""
        snapshot = self._packet().clock_snapshot
        snapshot.primary_trace_clock = protos.BUILTIN_CLOCK_MONOTONIC
        for clock, ns in (
            (protos.BUILTIN_CLOCK_MONOTONIC, monotonic_ns),
            (protos.BUILTIN_CLOCK_REALTIME, realtime_ns),
            (protos.BUILTIN_CLOCK_BOOTTIME, boottime_ns),
        ):
            snapshot.clocks.add(clock_id=clock, timestamp=ns)

    def system(self, kernel: str, arch: str) -> None:
        """The host, for the viewer's page about the trace."""
        names = self._packet().system_info.utsname
        names.sysname, names.release, names.machine = "Linux", kernel, arch

    def _track(self) -> Any:
        self._tracks += 1
        track = self._packet().track_descriptor
        track.uuid = self._tracks
        return track

    def process(self, pid: int, name: str) -> int:
        """A new track for a process; returns its number."""
        track = self._track()
        track.process.pid, track.process.process_name = pid, name
        return int(track.uuid)

    def thread(self, process: int, pid: int, tid: int, name: str) -> int:
        """A new track for a thread of a process."""
        track = self._track()
        track.parent_uuid = process
        track.thread.pid, track.thread.tid, track.thread.thread_name = pid, tid, name
        return int(track.uuid)

    def other(self, name: str, parent: Optional[int] = None) -> int:
        """A new track of that name, within another one or on its own."""
        track = self._track()
        track.name = name
        if parent is not None:
            track.parent_uuid = parent
        return int(track.uuid)

    def begin(
        self, track: int, ns: int, category: str, name: str, args: Args,
        flows: Iterable[int] = (), ended_flows: Iterable[int] = (),
    ) -> None:  # fmt: skip
        """A slice begins; an arrow goes from one that has a flow to one in which it ends."""
        event = self._event(track, ns, protos.TrackEvent.TYPE_SLICE_BEGIN, category, name, args)
        event.flow_ids.extend(flows)
        event.terminating_flow_ids.extend(ended_flows)

    def end(self, track: int, ns: int) -> None:
        """The track's slice that began last ends."""
        event = self._timed(ns).track_event
        event.type = protos.TrackEvent.TYPE_SLICE_END
        event.track_uuid = track

    def instant(self, track: int, ns: int, category: str, name: str, args: Args) -> None:
        """Something that takes no time."""
        self._event(track, ns, protos.TrackEvent.TYPE_INSTANT, category, name, args)

    def _event(
        self, track: int, ns: int, type_: int, category: str, name: str, args: Args
    ) -> Any:  # fmt: skip
        packet = self._timed(ns)
        event = packet.track_event
        event.type = type_
        event.track_uuid = track
        event.category_iids.append(self._iid(packet, "event_categories", category))
        event.name_iid = self._iid(packet, "event_names", name)
        for key, value in args.items():
            self._annotate(packet, event.debug_annotations.add(), key, value)
        return event

    def _annotate(self, packet: Any, to: Any, key: str, value: Union[int, bool, str]) -> None:
        to.name_iid = self._iid(packet, "debug_annotation_names", key)
        if isinstance(value, bool):
            to.bool_value = value
        elif isinstance(value, int):
            to.int_value = value
        else:
            to.string_value_iid = self._iid(packet, "debug_annotation_string_values", value)

    def _iid(self, packet: Any, kind: str, text: str) -> int:
        number = self._interned.get((kind, text))
        if number is None:
            number = self._interned[kind, text] = len(self._interned) + 1
            entry = getattr(packet.interned_data, kind).add(iid=number)
            if kind == "debug_annotation_string_values":
                entry.str = text.encode()
            else:
                entry.name = text
        return number
