"""Holders: whose hands each lock was in at the latest look, and how many waited for it."""

from __future__ import annotations

from collections.abc import Sequence

from corelock.locks import SeenLock
from corelock.render import units
from corelock.render.columns import Label, fitted, process_label, thread_label
from corelock.render.grouping import Name
from corelock.render.spark import sparkline
from corelock.render.text import cut, pad
from corelock.top.history import History
from corelock.top.lines import Line
from corelock.top.picture import Locks
from corelock.top.sorting import Field, Sorting

_FIELDS: Sequence[Field[SeenLock]] = (
    Field("name", lambda seen: 0, by_name=True),
    Field("held", lambda seen: seen.held_ns),
    Field("waiting", lambda seen: seen.lock.waiter_count),
)
_SPARK = 12
_FIXED = 27 + _SPARK  # all but the names, and the blanks between these
#: How sure the holder's name is, behind it.
_MARKS = {"owner": "", "hint": "?", "gone": "", "not-visible": "", "unknown": ""}
_NOBODY = {"gone": "(exited)", "not-visible": "(not visible)", "unknown": "(not known)"}


class LocksTable:
    """This view: its history, what it is sorted by, its lines."""

    kind = "holders"

    def __init__(self, *, ascii_only: bool = False) -> None:
        self.sorting = Sorting(_FIELDS, "held")
        self._history: History[SeenLock] = History()
        self._ascii = ascii_only

    def add(self, seconds: float, locks: Locks) -> None:
        """Take a look at the locks."""
        self._history.add(seconds, ((seen.lock.mm_key, seen) for seen in locks.held))

    def entries(self, wanted: str) -> list[SeenLock]:
        """The locks held at the latest look with ``wanted`` in a name, in their order."""
        found = [now for _, now in self._history.known() if now is not None]
        if wanted:
            found = [seen for seen in found if wanted in _words(seen).lower()]
        self.sorting.sort(found, lambda seen: (_words(seen), seen.lock.mm_key))
        return found

    def lines(self, entries: Sequence[SeenLock], width: int) -> list[Line]:
        """The head, and a line for each lock."""
        mark = self.sorting.mark
        titles = [mark("name", "PROCESS", ascii_only=self._ascii), "HOLDER", "OPERATION"]
        columns = [
            [Label(titles[0]), *map(_process, entries)],
            [Label(titles[1]), *map(_holder, entries)],
            [Label(titles[2]), *(Label(_operation(seen)) for seen in entries)],
        ]
        widths = fitted(columns, max(width - _FIXED, 3))
        widths[1] += max(0, width - _FIXED - sum(widths))
        names = [
            " ".join(
                pad(cut(label.head, label.tail, room), room) for label, room in zip(row, widths)
            )
            for row in zip(*columns)
        ]
        lines: list[Line] = [[(names[0] + " M", "head")]]
        for field, header, room in ("held", "HELD FOR", 9), ("waiting", "WAITING", 8):
            chosen = field == self.sorting.field.name
            marked = mark(field, header, ascii_only=self._ascii)
            lines[0] += [("  ", "head"), (f"{marked:>{room}}", "chosen" if chosen else "head")]
        lines[0].append((f"  {cut('waiting', '', _SPARK)}", "head"))
        for name, seen in zip(names[1:], entries):
            lines.append(self._line(name, seen))
        return lines

    def _line(self, name: str, seen: SeenLock) -> Line:
        lock = seen.lock
        # Seen once, it may have been taken just then.
        held = units.duration(seen.held_ns) + "+" if seen.same_hold else "-"
        more = "" if lock.waiters_counted else "+"
        numbers = f" {'W' if lock.mode == 'write' else 'R'}  {held:>9}"
        waiting = f"  {units.count(lock.waiter_count) + more:>8}  "
        values = [
            float(value.lock.waiter_count) if value is not None else 0.0
            for _, value in self._history.series(lock.mm_key)
        ]
        return [
            (name + numbers, "foreign" if lock.foreign else ""),
            (waiting, "warn" if lock.waiter_count else ""),
            (sparkline(values, _SPARK, ascii_only=self._ascii), "history"),
        ]


def _process(seen: SeenLock) -> Label:
    processes = seen.lock.processes
    if not processes:
        return Label("(exited)")
    return process_label(Name(processes[0].comm, processes[0].pid))


def _holder(seen: SeenLock) -> Label:
    holder = seen.lock.holder
    if holder.thread is None:
        return Label(_NOBODY.get(holder.certainty, "(not known)"))
    head, tail = thread_label(Name(holder.thread.comm, holder.thread.tid), seen.lock.foreign)
    return Label(head, tail + _MARKS[holder.certainty])


def _operation(seen: SeenLock) -> str:
    thread = seen.lock.holder.thread
    return thread.operation if thread is not None else "-"


def _words(seen: SeenLock) -> str:
    return " ".join(["".join(_process(seen)), "".join(_holder(seen)), _operation(seen)])
