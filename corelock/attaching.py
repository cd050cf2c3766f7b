"""Attaching to what patterns match, and what becomes of it."""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Optional

from corelock import target
from corelock._native.probes import Attached, Probes, ways_tried
from corelock.errors import CorelockError, LoadError, UnusableFile
from corelock.lock_probe import LockProbe
from corelock.matching import Files
from corelock.probes.breakpoints import files_without
from corelock.probes.finding import Matched
from corelock.probes.places import Candidate, Place, version_of

#: Functions that are attached to, to see whether any can be.
_TRIED = 3

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


def check_matched(matched: Sequence[Matched]) -> None:
    """Raise as :func:`attach` would if what seems to be possible is.

    Raises:
        LoadError: nothing that one of the patterns matches can be probed, or not all it spells out.
    """
    for one in matched:
        _check(one, dict.fromkeys(one.candidates, Attached("TP", 0)))


def attach(
    probes: Probes, matched: Sequence[Matched], indices: Sequence[int], pid: Optional[int]
) -> tuple[int, Coverage]:
    """Attach to all candidates, in their order, and let their hits count, of process ``pid``.

    What is one place and has one index is attached to once. The moment that hits began to count,
    in ns, and what is covered.

    Raises:
        LoadError: nothing of one of the patterns could be attached to, or not all it spells out.
        UnusableFile: a file was replaced since it was looked at, or the process runs another copy.
        CorelockError: the kernel refused all.
    """
    candidates = [each for one in matched for each in one.candidates]
    files = Files()
    first: dict[tuple[Hashable, int], Candidate] = {}
    keys = [(files.key(each.place), index) for each, index in zip(candidates, indices)]
    for key, candidate in zip(keys, candidates):
        first.setdefault(key, candidate)
    places = [each.place for each in first.values()]
    before_ns = time.monotonic_ns()
    _check_files(places)
    start_ns, results = probes.attach(list(first.values()), [index for _, index in first])
    _check_files(places)
    by_key = dict(zip(first, results))
    became = {candidate: by_key[key] for key, candidate in zip(keys, candidates)}
    for one in matched:
        _check(one, became)
    if pid is not None:
        _check_breakpoints(pid, (each.place for each, one in became.items() if one.way))
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


def why_no_functions(candidates: Iterable[Candidate]) -> str:
    """Why this kernel takes no probe at its functions, whichever; "" if it does.

    Found out by attaching to a few, one after the other, for a moment. Who may attach to nothing
    at all does not learn it here: "".
    """
    with closing(Probes()) as probes:
        try:
            probes.check()
        except CorelockError:
            return ""
    reason = ""
    certain = (each for each in candidates if not each.doubt)
    for candidate in itertools.islice(certain, _TRIED):
        with closing(Probes()) as probes:
            try:
                probes.load("COUNT", 1)
                _, (result,) = probes.attach([candidate], [0])
            except CorelockError as error:
                reason = error.message
                continue
        # Others are why this one function takes none.
        if result.way is not None or result.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            return ""
        reason = _reason(candidate, result)
    return reason


def _check_files(places: Iterable[Place]) -> None:
    """An offset in one file is anything in another: a breakpoint there would break programs."""
    for path, version in {(place.name, place.version) for place in places if place.version}:
        if version_of(path) != version:
            raise UnusableFile(
                f"{path} was replaced or changed while it was looked at", "Try again."
            )


def _check_breakpoints(pid: int, places: Iterable[Place]) -> None:
    of_files = [place for place in places if place.kind == "USER"]
    if not of_files:
        return
    # From before there was a program to see it.
    target.check_main_thread(pid)
    with closing(LockProbe()) as probe:
        missing = files_without(pid, of_files, probe.may_be_waited_for)
    if missing:
        raise UnusableFile(
            f"process {pid} runs another copy of {missing[0]}, in which there is no breakpoint",
            "An overlay copies a file that is written to or touched; and the kernel puts none "
            "where code can be written to. Restart the process.",
        )


def _reason(candidate: Candidate, result: Attached) -> str:
    if candidate.place.kind == "USER" and result.errno == errno.ENOENT:
        return "the file has gone"
    return candidate.doubt or _REASONS.get(result.errno) or os.strerror(result.errno)


def _check(one: Matched, became: Mapping[Candidate, Attached]) -> None:
    """Raise unless enough of a pattern is attached to."""
    failed = [each for each in one.candidates if became[each].way is None]
    reasons = {reason: list(labels) for reason, labels in one.refused.items()}
    for each in failed:
        reasons.setdefault(_reason(each, became[each]), []).append(each.place.label)
    nothing = len(failed) == len(one.candidates)
    # Without a reason, everything it matches is another pattern's.
    if not reasons or not (nothing or one.whole):
        return
    why, labels = next(iter(reasons.items()))
    what = f"{labels[0]} cannot be probed"
    remedy = "Try another function, or a tracepoint near it: corelock list."
    if not one.whole:
        count = sum(map(len, reasons.values()))
        what = f"nothing that {one.pattern.name.text} matches can be probed ({count:,} names)"
        remedy = "Try others; -v names them."
    log = "".join(f"{reason}: {' '.join(labels)}\n" for reason, labels in reasons.items())
    log += ways_tried(failed, [became[each] for each in failed])
    raise LoadError(f"{what}: {why}", remedy, log)
