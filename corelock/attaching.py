"""Patterns attached to: what count, hist and trace have in common before the first hit."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Optional

from corelock import target
from corelock._native.probes import Attached, Probes
from corelock.errors import InvalidArgument, LoadError
from corelock.lock_probe import LockProbe
from corelock.probes.finding import Finder, Matched
from corelock.probes.patterns import parse_pattern
from corelock.probes.places import Candidate

MAX_PROBES = 1000

#: The kernel's own, which no C library has a name for.
_ENOTSUPP = 524

#: What the kernel means by these, when it is asked to attach.
_REASONS = {
    errno.EOPNOTSUPP: "this kernel has no way to attach there",
    errno.ENOENT: "the kernel's BTF or tracefs does not have it, and it has no other way",
    errno.EADDRNOTAVAIL: "several have its name, and kernel addresses are hidden",
    errno.EPERM: "a policy forbids it",
    errno.EBUSY: "another tracer that excludes others is attached there",
    errno.EINVAL: "the kernel takes no probe there",
    errno.EILSEQ: "the kernel takes no probe in the midst of an instruction",
    _ENOTSUPP: "the kernel cannot execute its first instruction elsewhere",
}


@dataclass(frozen=True)
class Coverage:
    """What of the patterns is attached to, and how; labels of the rest by reason.

    ``ways`` counts places by how they are attached. ``incomplete`` are labels of which a part
    could not be attached: their numbers would be too small, so they have none. ``attach_ns``
    is how long it took to attach.
    """

    labels: tuple[str, ...]
    ways: Mapping[str, int]
    refused: Mapping[str, tuple[str, ...]]
    incomplete: frozenset[str]
    attach_ns: int

    @property
    def refused_count(self) -> int:
        """How many functions and the like could not be attached to."""
        return sum(map(len, self.refused.values()))


@contextmanager
def finding(pid: Optional[int]) -> Iterator[Finder]:
    """What finds places, of files as process ``pid`` has them; it waits for no mmap_lock.

    Raises:
        NoSuchTarget, InvalidArgument, MissingPrivilege: as of ``target.check_process``.
    """
    if pid is not None:
        target.check_process(pid)
    probe = LockProbe()
    try:
        with Finder(pid, probe.may_be_waited_for) as finder:
            yield finder
    finally:
        probe.close()


def match(
    patterns: Sequence[str],
    finder: Finder,
    *,
    regex: bool = False,
    max_probes: int = MAX_PROBES,
) -> list[Matched]:
    """What patterns match, each place once.

    Raises:
        InvalidArgument: a pattern cannot be meant, or they match more than ``max_probes`` places.
        NoSuchProbe, CorelockError: as of :meth:`Finder.find`.
    """
    if not patterns:
        raise InvalidArgument("no pattern is given", "Name what to probe: see docs/probes.md.")
    matched = [finder.find(parse_pattern(text, regex)) for text in patterns]
    seen: set[tuple[object, ...]] = set()
    for number, one in enumerate(matched):
        fresh = []
        for candidate in one.candidates:
            place = candidate.place
            # What no name or address tells apart is the same.
            key = (place.kind, place.name, place.address)
            if key not in seen:
                seen.add(key)
                fresh.append(candidate)
        matched[number] = one._replace(candidates=tuple(fresh))
    if len(seen) > max_probes:
        raise InvalidArgument(
            f"{' '.join(patterns)} match {len(seen):,} places, more than {max_probes:,}",
            "Each costs its hits some time. Say less, or allow more with "
            f"--max-probes {len(seen)}.",
        )
    return matched


def attach(
    probes: Probes, matched: Sequence[Matched], indices: Sequence[int]
) -> tuple[int, Coverage]:
    """Attach to all candidates, in their order, and let their hits count.

    The moment that began, in ns, and what is covered.

    Raises:
        LoadError: nothing of one of the patterns could be attached to, or not all it spells out.
        CorelockError: the kernel refused all.
    """
    candidates = [each for one in matched for each in one.candidates]
    before_ns = time.monotonic_ns()
    start_ns, results = probes.attach(candidates, indices)
    became = dict(zip(candidates, results))
    for one in matched:
        _check(one, became)
    refused: dict[str, dict[str, None]] = defaultdict(dict)
    for one in matched:
        for reason, labels in one.refused.items():
            refused[reason].update(dict.fromkeys(labels))
    failed = set()
    for candidate, result in became.items():
        if result.way is None:
            refused[_reason(candidate, result)][candidate.place.label] = None
            failed.add(candidate.place.label)
    attached = {candidate.place.label: None for candidate, result in became.items() if result.way}
    ways = Counter(result.way for result in results if result.way)
    return start_ns, Coverage(
        tuple(label for label in attached if label not in failed),
        ways,
        {reason: tuple(labels) for reason, labels in refused.items()},
        frozenset(failed & attached.keys()),
        start_ns - before_ns,
    )


def _reason(candidate: Candidate, result: Attached) -> str:
    return candidate.doubt or _REASONS.get(result.errno) or os.strerror(result.errno)


def _check(one: Matched, became: Mapping[Candidate, Attached]) -> None:
    """Raise unless enough of a pattern is attached to."""
    failed = [each for each in one.candidates if became[each].way is None]
    nothing = len(failed) == len(one.candidates)
    if not nothing and not (one.whole and (failed or one.refused)):
        return
    why = ""
    labels: Optional[list[str]] = None
    if failed:
        why = _reason(failed[0], became[failed[0]])
        labels = [failed[0].place.label]
    elif one.refused:
        why, those = next(iter(one.refused.items()))
        labels = list(those[:1])
    else:  # everything it matches is another pattern's
        return
    what = f"{labels[0]} cannot be probed"
    if not one.whole:
        count = len(failed) + sum(map(len, one.refused.values()))
        what = f"nothing that {one.pattern.text} matches can be probed ({count:,} places)"
    raise LoadError(f"{what}: {why}", "Try another one, or -v for all that is not to be had.")
