"""Patterns to the places that they match, each once, for what is attached to them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Optional

from corelock import target
from corelock.arguments import check_range, check_text
from corelock.errors import InvalidArgument
from corelock.lock_probe import LockProbe
from corelock.probes.finding import Finder, Matched
from corelock.probes.patterns import parse_pattern
from corelock.probes.places import Candidate, Place

MAX_PROBES = 1000
#: At most (``MAX_INDICES`` in probes.c).
MOST_PROBES = 1 << 20


@contextmanager
def finding(pid: Optional[int]) -> Iterator[Finder]:
    """What finds places, of files as process ``pid`` has them; it waits for no mmap_lock.

    Raises:
        NoSuchTarget, InvalidArgument, MissingPrivilege: as of ``target.check_process``.
    """
    if pid is not None:
        target.check_process(pid, of_locks=False)
    with closing(LockProbe()) as probe, Finder(pid, probe.may_be_waited_for) as finder:
        yield finder


class Files:
    """Which files are one, whatever they are called."""

    def __init__(self) -> None:
        self._known: dict[str, Hashable] = {}

    def identity(self, path: str) -> Hashable:
        """Of a path; one that cannot be looked at is itself."""
        if path not in self._known:
            try:
                status = os.stat(path)
                self._known[path] = status.st_dev, status.st_ino
            except OSError:
                self._known[path] = path
        return self._known[path]

    def key(self, place: Place) -> Hashable:
        """What tells a place from others."""
        if place.kind == "USER":
            return place.kind, self.identity(place.name), place.address, place.semaphore
        return place.kind, place.address or place.name


def match(
    patterns: Sequence[str],
    finder: Finder,
    *,
    regex: bool = False,
    max_probes: int = MAX_PROBES,
    aliases: bool = False,
) -> list[Matched]:
    """What patterns match, by their alternatives; each place once.

    ``aliases``: once for each label; else a function with two names is one, by the first.
    Labels of files of one name have their paths.

    Raises:
        InvalidArgument: a pattern cannot be meant, or they match more than ``max_probes`` places.
        NoSuchProbe, CorelockError: as of :meth:`Finder.find`.
    """
    if not patterns:
        raise InvalidArgument("no pattern is given", "Name what to probe: see docs/probes.md.")
    check_range("max_probes", max_probes, 1, MOST_PROBES)
    for text in patterns:
        check_text("pattern", text)
    every = [each for text in patterns for each in finder.find_each(parse_pattern(text, regex))]
    files = Files()
    matched, seen = [], set()
    for one in every:
        fresh = []
        for candidate in one.candidates:
            place, key = candidate.place, files.key(candidate.place)
            # A static probe may lie where a function begins.
            labelled = (key, place.label) if aliases else (key, one.pattern.kind)
            if labelled not in seen:
                seen.add(labelled)
                fresh.append(candidate)
        matched.append(one._replace(candidates=tuple(fresh)))
    count = len({files.key(each.place) for one in matched for each in one.candidates})
    if count > max_probes:
        raise InvalidArgument(
            f"{' '.join(patterns)}: {count:,} places, more than {max_probes:,}",
            "Each costs its hits some time. Say less, or allow more: max_probes, --max-probes "
            f"{count}.",
        )
    return _with_paths(matched, files)


def _with_paths(matched: Sequence[Matched], files: Files) -> list[Matched]:
    """Labels that are of several files name them by their paths."""
    owners: dict[str, set[Hashable]] = defaultdict(set)
    for one in matched:
        for place, _, _ in one.candidates:
            if place.kind == "USER":
                owners[place.label].add(files.identity(place.name))

    def labelled(candidate: Candidate) -> Candidate:
        place = candidate.place
        if place.kind != "USER" or len(owners[place.label]) == 1:
            return candidate
        label = f"{place.name}:{place.label.partition(':')[2]}"
        return candidate._replace(place=place._replace(label=label))

    return [one._replace(candidates=tuple(map(labelled, one.candidates))) for one in matched]


def places_of(matched: Sequence[Matched]) -> tuple[list[int], dict[str, set[int]]]:
    """Numbers of the candidates' places, in order, and by label those that it is of."""
    files = Files()
    numbers: dict[Hashable, int] = {}
    indices = []
    by_label: dict[str, set[int]] = defaultdict(set)
    for one in matched:
        for place, _, _ in one.candidates:
            index = numbers.setdefault(files.key(place), len(numbers))
            indices.append(index)
            by_label[place.label].add(index)
    return indices, dict(by_label)
