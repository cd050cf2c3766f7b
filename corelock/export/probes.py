"""Probes as one JSON object on one line; ``docs/json.md`` describes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional, TextIO

from corelock.export.fields import well_formed
from corelock.export.jsonout import write_object
from corelock.probes.listing import FileOfProcess, KindOfProbe, Listed, Listing
from corelock.probes.places import Field, Place

SCHEMA = "corelock.list/1"

KINDS = {
    "FUNCTION": "kernel_function",
    "USER": "user_function",
    "TRACEPOINT": "tracepoint",
    "STATIC": "static_probe",
}


def write_probes_json(stream: TextIO, listing: Listing) -> None:
    """Write all of ``listing`` and a line end."""
    refused = {reason: list(map(well_formed, names)) for reason, names in listing.refused.items()}
    members = (("schema", SCHEMA), ("probes", map(_probe, listing.probes)), ("refused", refused))
    write_object(stream, members)


def write_overview_json(
    stream: TextIO, kinds: list[KindOfProbe], files: Optional[list[FileOfProcess]]
) -> None:
    """Write how many there are, or of a process its files, and a line end."""
    members: list[tuple[str, Any]] = [("schema", SCHEMA)]
    if files is None:
        members.append(("kinds", [_kind(kind) for kind in kinds]))
    else:
        members.append(("files", [_file(file) for file in files]))
    write_object(stream, members)


def _kind(kind: KindOfProbe) -> dict[str, Any]:
    return {
        "kind": kind.name.replace(" ", "_"),
        "pattern": kind.written,
        "count": kind.number,
        "example": kind.example or None,
        "why_not": kind.why or None,
    }


def _file(file: FileOfProcess) -> dict[str, Any]:
    return {
        "name": well_formed(file.name),
        "path": well_formed(file.path),
        "static_probes": file.static_probes,
        "why_not": well_formed(file.problem) or None,
    }


def _probe(probe: Listed) -> dict[str, Any]:
    return {
        "kind": KINDS[probe.kind],
        "pattern": well_formed(probe.pattern),
        "doubt": probe.doubt or None,
        "fields": [_field(field) for field in probe.fields],
        "places": [dict(_place(probe, place)) for place in probe.places],
    }


def _place(probe: Listed, place: Place) -> Iterator[tuple[str, Any]]:
    if probe.kind == "TRACEPOINT":
        yield "id", place.address
    elif probe.kind == "FUNCTION":
        yield "name", place.name
        yield "address", place.address or None
    else:
        yield "file", well_formed(place.name)
        yield "offset", place.address
    if probe.kind == "STATIC":
        yield "semaphore", place.semaphore or None
        yield "arguments", [_field(field) for field in place.fields]


def _field(field: Field) -> dict[str, Any]:
    operand = field.operand
    return {
        "name": well_formed(field.name),
        "type": well_formed(field.type),
        "is_text": operand is not None and operand.is_text,
        "size": operand.size if operand and not operand.is_text else None,
        "signed": operand.signed if operand and not operand.is_text else None,
        "why_not": field.why or None,
    }
