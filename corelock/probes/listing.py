"""What there is to probe, for people to choose from: probes by what is written for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Optional

from corelock.errors import CorelockError, UnusableFile
from corelock.probes.finding import Finder, Matched
from corelock.probes.patterns import PatternKind, parse_pattern
from corelock.probes.places import Field, Place

if TYPE_CHECKING:
    from corelock.probes.code_files import Found

#: Shown as an example where the kernel has it.
_WELL_KNOWN = ("t:sched:sched_switch", "vfs_read")

#: Of a file with a colon in its name: all that it has are static probes, by u::PROBE.
_UNNAMED = "no pattern can name it"


class Listed(NamedTuple):
    """One probe: all places that share a label.

    ``pattern`` is what can be written for it. ``doubt`` says why it may not be possible to
    attach to it, "" if nothing speaks against it. ``fields`` are those of the event, or of the
    first place.
    """

    kind: PatternKind
    pattern: str
    places: tuple[Place, ...]
    fields: tuple[Field, ...] = ()
    doubt: str = ""

    @property
    def fields_differ(self) -> bool:
        """Whether other places have other arguments."""
        return any(_shape(place.fields) != _shape(self.fields) for place in self.places[1:])


def _shape(fields: Sequence[Field]) -> list[tuple[str, str]]:
    return [(field.name, field.type) for field in fields]


class Listing(NamedTuple):
    """Probes by name, and names of those that nothing can be attached to, by reason."""

    probes: tuple[Listed, ...]
    refused: dict[str, tuple[str, ...]]


def list_probes(finder: Finder, matched: Iterable[Matched], with_fields: bool) -> Listing:
    """All that ``matched`` has, each once; ``with_fields``: tracepoints have theirs, too.

    Raises:
        CorelockError: tracefs cannot be read.
    """
    probes: dict[tuple[str, str], Listed] = {}
    refused: dict[str, dict[str, None]] = {}
    for one in matched:
        by_label: dict[str, list[Place]] = {}
        doubts = {each.place.label: each.doubt for each in one.candidates}
        for each in one.candidates:
            by_label.setdefault(each.place.label, []).append(each.place)
        for label, places in by_label.items():
            probe = _listed(one.pattern.kind, label, tuple(places), doubts[label])
            if with_fields and one.pattern.kind == "TRACEPOINT":
                category, _, event = label.partition(":")
                probe = probe._replace(fields=finder.tracepoints.fields(category, event))
            probes.setdefault((one.pattern.kind, label), probe)
        for reason, labels in one.refused.items():
            refused.setdefault(reason, {}).update(dict.fromkeys(labels))
    in_order = sorted(probes.values(), key=lambda probe: probe.pattern)
    return Listing(tuple(in_order), {reason: tuple(those) for reason, those in refused.items()})


def _listed(kind: PatternKind, label: str, places: tuple[Place, ...], doubt: str) -> Listed:
    first = places[0]
    written = {"TRACEPOINT": "t:", "STATIC": "u:"}.get(kind, "") + label
    if kind == "FUNCTION" and label != first.name:  # "name [module]"
        written = f"kprobe:{label.rpartition('[')[2].rstrip(']')}:{first.name}"
    file, *probe = label.rsplit(":", 2)
    if kind == "STATIC" and ":" in file:  # which a pattern cannot have
        written = ":".join(("u:", *probe))
    return Listed(kind, written, places, first.fields, doubt)


class KindOfProbe(NamedTuple):
    """A line of the overview: how many there are (None: not counted, or ``why``), one of them."""

    name: str
    written: str
    number: Optional[int]
    example: str
    why: str = ""


def overview(finder: Finder) -> list[KindOfProbe]:
    """What kinds of probes there are here, how to write them, and how many there are."""
    return [
        _kind(finder, "tracepoint", "t:CATEGORY:EVENT", "t:*:*"),
        _kind(finder, "kernel function", "FUNCTION", "*"),
        KindOfProbe("user function", "FILE:FUNCTION", None, "libc:malloc"),
        KindOfProbe("static probe", "u:FILE:PROBE", None, "u:postgres:transaction__start"),
    ]


def _kind(finder: Finder, name: str, written: str, pattern: str) -> KindOfProbe:
    try:
        found = list_probes(finder, [finder.find(parse_pattern(pattern))], with_fields=False)
    except CorelockError as error:
        return KindOfProbe(name, written, None, "", str(error))
    there = [each.pattern for each in found.probes]
    example = next((each for each in _WELL_KNOWN if each in there), there[0] if there else "")
    return KindOfProbe(name, written, len(there), example)


class FileOfProcess(NamedTuple):
    """A program or library of a process: its name for patterns, path there, static probes.

    ``static_probes`` is None if it cannot be looked at. ``problem`` says why it cannot, or cannot
    be named, "" if it can.
    """

    name: str
    path: str
    static_probes: Optional[int]
    problem: str = ""


def files_of_process(pid: int) -> list[FileOfProcess]:
    """What functions and static probes of a process can be in, and what they cannot, last.

    Raises:
        NoSuchTarget, MissingPrivilege, UnusableFile: as of
            :func:`corelock.probes.libraries.all_files`.
    """
    from corelock.probes.code_files import short_name
    from corelock.probes.libraries import all_files

    found, problems = all_files(pid)
    files = [_looked_at(file) for file in found] + [
        FileOfProcess(short_name(path), path, None, problem) for path, problem in problems.items()
    ]
    return sorted(files, key=lambda file: bool(file.problem))


def _looked_at(file: Found) -> FileOfProcess:
    from corelock.probes import usdt
    from corelock.probes.code_files import why_not

    try:
        probes = {(probe.provider, probe.name) for probe in usdt.probes_of(file)}
    except UnusableFile as error:
        return FileOfProcess(file.shown_name, file.own_path, None, why_not(file, error))
    problem = _UNNAMED if ":" in file.shown_name else ""
    return FileOfProcess(file.shown_name, file.own_path, len(probes), problem)
