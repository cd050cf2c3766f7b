"""Threads or operations: waits and holds of each a second, and their history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

from corelock.activity import Active
from corelock.render import units
from corelock.render.columns import Label, fitted, process_label, thread_label
from corelock.render.grouping import Name, shown_id
from corelock.render.spark import sparkline
from corelock.render.text import cut, pad
from corelock.top.history import LENGTH, History
from corelock.top.lines import Line
from corelock.top.sorting import Field, Sorting

_MIN_SPARK, _MIN_NAME = 12, 20


class Entry(NamedTuple):
    """A group: who it is, and what came at the latest refresh (None: nothing)."""

    who: Active
    now: Optional[Active]


def _number(name: str) -> Field[Entry]:
    return Field(name, lambda entry: (entry.now and getattr(entry.now, name)) or 0)


#: In the order of the columns.
FIELDS: Sequence[Field[Entry]] = (
    Field("name", lambda entry: 0, by_name=True),
    _number("waits"), _number("wait_ns"), _number("wait_p99_ns"),
    _number("holds"), _number("hold_ns"), _number("hold_p99_ns"),
)  # fmt: skip
_HEADERS = {
    "waits": "/s", "wait_ns": "time", "wait_p99_ns": "p99",
    "holds": "/s", "hold_ns": "time", "hold_p99_ns": "p99",
}  # fmt: skip


class ActivityTable:
    """One of these views: its history, what it is sorted by, its lines."""

    def __init__(self, kind: str, *, ascii_only: bool = False) -> None:
        self.kind = kind
        self.sorting = Sorting(FIELDS, "wait_ns")
        self.history: History[Active] = History()
        self._ascii = ascii_only

    def add(self, seconds: float, groups: Sequence[Active]) -> None:
        """Take what came at a refresh."""
        self.history.add(seconds, ((group.key, group) for group in groups))

    def entries(self, wanted: str) -> list[Entry]:
        """All groups with ``wanted`` in their name, in their order."""
        found = [Entry(*known) for known in self.history.known()]
        if wanted:
            found = [entry for entry in found if wanted in self._words(entry.who).lower()]
        self.sorting.sort(found, lambda entry: self._name(entry.who))
        return found

    def _name(self, who: Active) -> tuple[str, int]:
        if self.kind == "operations":
            return who.operation, 0 if who.mode == "read" else 1
        return who.comm, shown_id(who.tid, who.host_tid)

    def _words(self, who: Active) -> str:
        if self.kind == "operations":
            return f"{who.operation} {who.mode}"
        return f"{''.join(_thread(who))} {''.join(_process(who))}"

    def lines(
        self, entries: Sequence[Entry], whole: Optional[ActivityTable], several: bool, width: int
    ) -> list[Line]:
        """The heads, a line of ``whole``, and one for each entry, of at most ``width`` columns.

        ``several`` says that processes have to be told apart.
        """
        totals = whole.entries("") if whole else []
        columns = self._names(entries, several)
        rest = width - 2 * 17 - 5  # two blocks of numbers and the blanks between
        needed = sum(max(label.width for label in column) for column in columns) + len(columns) - 1
        spark = max(_MIN_SPARK, min(LENGTH, rest - max(needed, _MIN_NAME)))
        widths = fitted(columns, max(rest - spark, 1) - len(columns) + 1)
        widths[-1] += max(0, rest - spark - sum(widths) - len(widths) + 1)
        names = [
            " ".join(
                pad(cut(label.head, label.tail, room), room) for label, room in zip(row, widths)
            )
            for row in zip(*columns)
        ]
        lines = self._heads(names[0], spark)
        room = len(names[0])
        for total in totals[:1]:
            assert whole is not None
            lines.append(_styled(pad("all", room), whole._numbers(total, spark), "total"))
        for name, entry in zip(names[1:], entries):
            style = "foreign" if self.kind == "threads" and entry.who.foreign else ""
            lines.append(_styled(name, self._numbers(entry, spark), style))
        return lines

    def _names(self, entries: Sequence[Entry], several: bool) -> list[list[Label]]:
        title = self.sorting.mark("name", self.kind[:-1].upper(), ascii_only=self._ascii)
        if self.kind == "operations":
            modes = (Label("W" if entry.who.mode == "write" else "R") for entry in entries)
            operations = (Label(entry.who.operation) for entry in entries)
            return [[Label(title), *operations], [Label("M"), *modes]]
        threads = [Label(title), *(_thread(entry.who) for entry in entries)]
        if not several:
            return [threads]
        return [[Label("PROCESS"), *(_process(entry.who) for entry in entries)], threads]

    @property
    def _side(self) -> str:
        return "hold" if self.sorting.field.name.startswith("hold") else "wait"

    def _heads(self, names: str, spark: int) -> list[Line]:
        wait, hold = ("".join(each.center(17, "-")) for each in (" WAIT ", " HOLD "))
        upper = f"{' ' * len(names)} {wait}  {hold}"
        line: Line = [(names, "chosen" if self.sorting.field.by_name else "head")]
        for at, (field, header) in enumerate(_HEADERS.items()):
            marked = self.sorting.mark(field, header, ascii_only=self._ascii)
            chosen = field == self.sorting.field.name
            line.append((" " * (2 if at == 3 else 1), "head"))
            line.append((f"{marked:>5}", "chosen" if chosen else "head"))
        line.append((f"  {self._history_head(spark)}", "head"))
        return [[(upper, "head")], line]

    def _history_head(self, spark: int) -> str:
        # Refreshes come a few milliseconds late.
        span = f"last {round(spark * round(self.history.seconds, 1), 1):g}s"
        heads = f"{self._side} time, {span}", f"{self._side}, {span}", self._side
        return next((head for head in heads if len(head) <= spark), "")

    def _numbers(self, entry: Entry, spark: int) -> tuple[str, str]:
        seconds = self.history.seconds
        now = entry.now
        cells_ = ["-"] * 6
        if now is not None and seconds > 0:
            cells_ = [
                rate(now.waits / seconds), units.duration(round(now.wait_ns / seconds)),
                units.duration(now.wait_p99_ns),
                rate(now.holds / seconds), units.duration(round(now.hold_ns / seconds)),
                units.duration(now.hold_p99_ns),
            ]  # fmt: skip
        wait, hold = (" ".join(f"{cell:>5}" for cell in part) for part in (cells_[:3], cells_[3:]))
        side = f"{self._side}_ns"
        values = [
            getattr(value, side) / length if value is not None and length > 0 else 0.0
            for length, value in self.history.series(entry.who.key)
        ]
        return f" {wait}  {hold}  ", sparkline(values, spark, ascii_only=self._ascii)


def rate(per_second: float) -> str:
    """A number of times a second; seldom ones with a decimal.

    >>> rate(0), rate(0.25), rate(3), rate(4192.4)
    ('0', '0.2', '3', '4192')
    """
    if 0 < per_second < 10 and abs(per_second - round(per_second)) >= 0.05:
        return f"{max(per_second, 0.1):.1f}"
    return units.count(round(per_second))


def _styled(name: str, numbers: tuple[str, str], style: str) -> Line:
    return [
        (name, style),
        (numbers[0], "total" if style == "total" else ""),
        (numbers[1], "history"),
    ]


def _thread(who: Active) -> Label:
    return thread_label(Name(who.comm, shown_id(who.tid, who.host_tid)), who.foreign)


def _process(who: Active) -> Label:
    return process_label(Name(who.mm_comm, shown_id(who.mm_pid, who.mm_host_pid)))
