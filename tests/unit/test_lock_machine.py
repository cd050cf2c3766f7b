"""The lock machine of the BPF programs, run on the host against a model.

The model keeps the fate of every single event; the C code keeps counters, from
which the package's own accounting is made. Both must come to the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional
from unittest import mock

import pytest
from cffi import FFI
from hypothesis import given, settings
from hypothesis import strategies as st

from corelock._native import Session
from corelock.model import Accounting
from tests import host
from tools import generate_ffi

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "tests" / "unit" / "lock_machine.c"
HEADER = ROOT / "src" / "bpf" / "lock_machine.h"

READ, WRITE = 0, 1
MODES = (READ, WRITE)
OLD, NEW, OTHER = 0xFFFF888000001000, 0xFFFF888000002000, 0xFFFF888000003000
MMS = (OLD, NEW, OTHER)


def definitions(source: Path) -> str:
    """The enums and structs of a C file, as they stand there."""
    found = re.findall(r"^(?:enum|struct) \w+ \{\n.*?^\};", source.read_text(), re.DOTALL | re.M)
    return "\n".join(found)


ffi = FFI()
ffi.cdef(
    "\n".join(
        [
            *(generate_ffi.declarations(path) for path in (generate_ffi.ABI, generate_ffi.PUBLIC)),
            *(definitions(path) for path in (HEADER, DRIVER)),
            "int machine_start(struct machine *, uint64_t, uint32_t, uint32_t, uint64_t);",
            "int machine_acquire(struct machine *, uint64_t, uint32_t, uint32_t, uint32_t,"
            " uint64_t);",
            "int machine_release(struct machine *, uint64_t, uint32_t, uint64_t);",
        ]
    )
)
SLOTS = dict(ffi.typeof("struct lock_thread").fields)["slot"].type.length
TRANSITIONS = ffi.typeof("enum lock_transition").elements


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory: pytest.TempPathFactory) -> None:
    Thread.library = ffi.dlopen(str(host.build("lock_machine", tmp_path_factory.mktemp("host"))))


class Thread:
    """One thread, run by the C code; a nanosecond passes before every event."""

    library: Any

    def __init__(self) -> None:
        self._machine = ffi.new("struct machine *")
        self.now = 0

    def start(self, mm: int, mode: int, room: bool = True) -> str:
        self.now += 1
        return TRANSITIONS[self.library.machine_start(self._machine, mm, mode, room, self.now)]

    def acquire(self, mm: int, mode: int, success: bool = True, room: bool = True) -> str:
        self.now += 1
        transition = self.library.machine_acquire(self._machine, mm, mode, success, room, self.now)
        return TRANSITIONS[transition]

    def release(self, mm: int, mode: int) -> str:
        self.now += 1
        return TRANSITIONS[self.library.machine_release(self._machine, mm, mode, self.now)]

    @property
    def slots(self) -> list[tuple[int, int, bool, int]]:
        """Open slots, oldest first: mm, mode, whether it holds, since when (0: no room)."""
        slots = self._machine.thread.slot[0 : self._machine.thread.depth]
        return [
            (s.mm, s.phase & 1, bool(s.phase & self.library.LOCK_HOLD), s.since_ns if s.row else 0)
            for s in slots
        ]

    @property
    def times(self) -> tuple[int, int, int, int, int, int]:
        """Waits and holds, their sums in ns, downgrades, failures."""
        totals = self._machine.totals
        return (
            totals.waits, totals.holds, self._machine.wait_ns, self._machine.hold_ns,
            totals.downgrades, totals.failures,
        )  # fmt: skip

    def accounting(self) -> Accounting:
        """What the package makes of the counters."""
        totals = ffi.new("struct corelock_totals *", self._machine.totals)
        for _, _, holds, since in self.slots:
            if since:
                counter = "open_holds" if holds else "open_waits"
                setattr(totals.counters, counter, getattr(totals.counters, counter) + 1)
        with mock.patch("corelock._ffi.library", lambda: (ffi, Totals(totals))):
            session = Session()
            session.detach()
            return session.accounting()


class Totals:
    """A libcorelock that has measured these totals."""

    def __init__(self, totals: Any) -> None:
        self._totals = totals

    def corelock_new(self) -> Any:
        return ffi.cast("corelock_session *", 1)

    def corelock_free(self, session: Any) -> None:
        pass

    def corelock_detach(self, session: Any, end_ns: Any) -> int:
        return 0

    def corelock_attached_by(self, session: Any) -> int:
        return 1

    def corelock_read_totals(self, session: Any, totals: Any) -> int:
        totals[0] = self._totals[0]
        return 0


# --- the model ------------------------------------------------------------------


@dataclass(eq=False)
class Entry:
    """A wait or a hold, and the event that began it (None: that one is lost already)."""

    mm: int
    mode: int
    holds: bool
    since: int
    event: Optional[int]


@dataclass
class Model:
    open: list[Entry] = field(default_factory=list)  # newest last
    fates: list[str] = field(default_factory=list)  # by event, in order
    waits: list[int] = field(default_factory=list)
    holds: list[int] = field(default_factory=list)
    downgrades: int = 0
    failures: int = 0

    def newest(self, mm: int, mode: int, holds: bool) -> Optional[Entry]:
        fitting = [e for e in self.open if (e.mm, e.mode, e.holds) == (mm, mode, holds)]
        return fitting[-1] if fitting else None

    def give_up(self, entry: Entry, fate: str) -> None:
        self.open.remove(entry)
        if entry.event is not None:
            self.fates[entry.event] = fate

    def begin(self, fits: bool) -> tuple[int, Optional[int]]:
        """The time and number of a new event; without room it is nobody's any more."""
        self.fates.append("open" if fits else "map_full")
        event = len(self.fates) - 1
        return event + 1, event if fits else None

    def start(self, mm: int, mode: int, room: bool) -> str:
        if len(self.open) == SLOTS:
            self.give_up(self.open[0], "slots_full")
        now, event = self.begin(room)
        self.open.append(Entry(mm, mode, False, now, event))
        return "LOCK_STARTED"

    def acquire(self, mm: int, mode: int, success: bool, room: bool) -> str:
        entry = self.newest(mm, mode, holds=False)
        if entry is not None:
            return self.obtain(entry) if success else self.fail(entry)
        held = self.newest(mm, WRITE, holds=True)
        if held is not None and mode == READ and success:
            return self.downgrade(held, room)
        self.fates.append("acquire_without_start" if success else "failure_without_start")
        return "LOCK_NO_MATCH"

    def obtain(self, entry: Entry) -> str:
        if entry.mode == WRITE:
            for other in [e for e in self.open if e.mm == entry.mm and e is not entry]:
                self.give_up(
                    other, "acquire_without_release" if other.holds else "start_without_acquire"
                )
        started = entry.event
        now, event = self.begin(started is not None)
        if started is not None:
            self.fates[started] = "paired"
            self.waits.append(now - entry.since)
        entry.holds, entry.since, entry.event = True, now, event
        return "LOCK_ACQUIRED"

    def fail(self, entry: Entry) -> str:
        self.fates.append("map_full" if entry.event is None else "paired")
        self.failures += entry.event is not None
        self.give_up(entry, "paired")
        return "LOCK_FAILED"

    def downgrade(self, held: Entry, room: bool) -> str:
        acquired = held.event
        now, event = self.begin(room and acquired is not None)
        if acquired is not None:
            self.fates[acquired] = "paired"
            self.holds.append(now - held.since)
            self.downgrades += 1
        held.mode, held.since, held.event = READ, now, event
        return "LOCK_DOWNGRADED"

    def release(self, mm: int, mode: int) -> str:
        held = self.newest(mm, mode, holds=True)
        if held is None:
            is_other = self.newest(mm, WRITE if mode == READ else READ, holds=True) is not None
            self.fates.append("release_of_other_mode" if is_other else "release_without_acquire")
            return "LOCK_OTHER_MODE" if is_other else "LOCK_NO_MATCH"
        self.fates.append("map_full" if held.event is None else "paired")
        if held.event is not None:
            self.holds.append(len(self.fates) - held.since)
        self.give_up(held, "paired")
        return "LOCK_RELEASED"

    @property
    def slots(self) -> list[tuple[int, int, bool, int]]:
        return [(e.mm, e.mode, e.holds, 0 if e.event is None else e.since) for e in self.open]

    @property
    def times(self) -> tuple[int, int, int, int, int, int]:
        return (
            len(self.waits), len(self.holds), sum(self.waits), sum(self.holds),
            self.downgrades, self.failures,
        )  # fmt: skip


# --- any sequence ---------------------------------------------------------------

Event = tuple[Any, ...]
# Without room now and then; never would leave that path untested, often the others.
ROOM = st.sampled_from([True] * 7 + [False])


def events(mms: tuple[int, ...]) -> st.SearchStrategy[Event]:
    mm, mode = st.sampled_from(mms), st.sampled_from(MODES)
    start = st.tuples(st.just("start"), mm, mode, ROOM)
    return st.one_of(
        start,
        start,
        st.tuples(st.just("acquire"), mm, mode, st.booleans(), ROOM),
        st.tuples(st.just("acquire"), mm, mode, st.just(True), ROOM),
        st.tuples(st.just("release"), mm, mode),
    )


SEQUENCES = st.integers(1, len(MMS)).flatmap(
    lambda n: st.lists(events(MMS[:n]), min_size=1, max_size=80)
)


@settings(max_examples=800)
@given(SEQUENCES)
def test_any_sequence_is_paired_as_the_model_pairs_it(sequence: list[Event]) -> None:
    thread, model = Thread(), Model()
    for kind, *arguments in sequence:
        assert getattr(thread, kind)(*arguments) == getattr(model, kind)(*arguments)
        assert thread.slots == model.slots
        assert thread.times == model.times
        assert len(thread.slots) <= SLOTS


@settings(max_examples=400)
@given(SEQUENCES)
def test_any_sequence_is_accounted_for_event_by_event(sequence: list[Event]) -> None:
    thread, model = Thread(), Model()
    for kind, *arguments in sequence:
        getattr(thread, kind)(*arguments)
        getattr(model, kind)(*arguments)
    found, fates = thread.accounting(), Counter(model.fates)
    assert found.unaccounted == 0
    assert found.seen == len(sequence)
    assert found.events == {
        "start_locking": sum(kind == "start" for kind, *_ in sequence),
        "acquire_returned": sum(kind == "acquire" for kind, *_ in sequence),
        "released": sum(kind == "release" for kind, *_ in sequence),
    }
    assert found.paired == fates.pop("paired", 0)
    assert found.held_at_end == fates.pop("open", 0)
    elsewhere = {**found.unmatched, **found.lost}
    assert {fate: n for fate, n in elsewhere.items() if n} == dict(fates)


# --- sequences that kernels make ------------------------------------------------


class Kernel:
    """Locks as the kernel does, and knows what it should be measured as."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.thread = Thread()
        self.draw = draw
        self.nesting = 0
        self.waits: list[int] = []
        self.holds: list[int] = []
        self.downgrades = 0
        self.failures = 0

    def interruption(self, mm: int, can_read: bool) -> None:
        """Perhaps an interrupt whose stack trace tries to read-lock this mm, and so on."""
        if self.nesting == 2 or self.draw(st.integers(0, 3)):
            return
        self.nesting += 1
        if self.lock(mm, READ, can_read, can_read):
            self.unlock(mm, READ)
        self.nesting -= 1

    def lock(self, mm: int, mode: int, success: bool = True, can_read: bool = True) -> bool:
        assert self.thread.start(mm, mode) == "LOCK_STARTED"
        start = self.thread.now
        self.interruption(mm, can_read)
        # From here a writer is inside already.
        self.interruption(mm, can_read and not (success and mode == WRITE))
        transition = self.thread.acquire(mm, mode, success)
        if success:
            assert transition == "LOCK_ACQUIRED"
            self.waits.append(self.thread.now - start)
            self.holds.append(-self.thread.now)
        else:
            assert transition == "LOCK_FAILED"
            self.failures += 1
        return success

    def unlock(self, mm: int, mode: int) -> None:
        """Release what was locked last."""
        self.interruption(mm, mode == READ)
        at = next(i for i in reversed(range(len(self.holds))) if self.holds[i] < 0)
        assert self.thread.release(mm, mode) == "LOCK_RELEASED"
        self.holds[at] += self.thread.now

    # What processes do; each leaves nothing open.

    def cycle(self, mm: int) -> None:
        mode = self.draw(st.sampled_from(MODES))
        self.lock(mm, mode)
        self.unlock(mm, mode)

    def munmap(self, mm: int) -> None:
        self.lock(mm, WRITE)
        self.interruption(mm, can_read=False)
        assert self.thread.acquire(mm, READ) == "LOCK_DOWNGRADED"
        self.holds[-1] += self.thread.now
        self.holds.append(-self.thread.now)
        self.downgrades += 1
        self.unlock(mm, READ)

    def fork(self, mm: int) -> None:
        child = NEW if mm == OLD else OLD
        self.lock(mm, WRITE)
        self.lock(child, WRITE)
        self.unlock(child, WRITE)
        self.unlock(mm, WRITE)

    def fault(self, mm: int) -> None:
        """Tries, then blocks."""
        self.lock(mm, READ, success=False, can_read=False)
        self.lock(mm, READ)
        self.unlock(mm, READ)

    def killed(self, mm: int) -> None:
        self.lock(mm, self.draw(st.sampled_from(MODES)), success=False)

    def nested(self, mm: int) -> None:
        """A read lock inside a read lock, as bpf_find_vma() takes it."""
        self.lock(mm, READ)
        if self.lock(mm, READ, success=self.draw(st.booleans())):
            self.unlock(mm, READ)
        self.unlock(mm, READ)


OPERATIONS: list[Callable[[Kernel, int], None]] = [
    Kernel.cycle, Kernel.munmap, Kernel.fork, Kernel.fault, Kernel.killed, Kernel.nested,
]  # fmt: skip


@settings(max_examples=300)
@given(st.data(), st.lists(st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(MMS[:2]))))
def test_what_kernels_do_is_paired_without_a_loss(
    data: st.DataObject, operations: list[tuple[Callable[[Kernel, int], None], int]]
) -> None:
    kernel = Kernel(data.draw)  # type: ignore[arg-type]
    for operation, mm in operations:
        operation(kernel, mm)
    found = kernel.thread.accounting()
    assert found.complete
    assert found.held_at_end == 0
    assert found.paired == found.seen == kernel.thread.now
    assert kernel.thread.times == (
        len(kernel.waits), len(kernel.holds), sum(kernel.waits), sum(kernel.holds),
        kernel.downgrades, kernel.failures,
    )  # fmt: skip


# --- the table in lock_machine.h, row by row ------------------------------------


def wait(mm: int, mode: int, since: int) -> tuple[int, int, bool, int]:
    return mm, mode, False, since


def hold(mm: int, mode: int, since: int) -> tuple[int, int, bool, int]:
    return mm, mode, True, since


def unmatched(thread: Thread) -> dict[str, int]:
    return {kind: n for kind, n in thread.accounting().unmatched.items() if n}


def lost(thread: Thread) -> dict[str, int]:
    return {cause: n for cause, n in thread.accounting().lost.items() if n}


@pytest.fixture
def thread() -> Thread:
    return Thread()


@pytest.mark.parametrize("mode", MODES)
def test_start_pushes_a_wait(thread: Thread, mode: int) -> None:
    assert thread.start(OLD, mode) == "LOCK_STARTED"
    assert thread.slots == [wait(OLD, mode, 1)]
    assert thread.accounting().held_at_end == 1


def test_start_on_a_full_stack_gives_up_the_oldest(thread: Thread) -> None:
    for mm in (OLD, NEW, OTHER, NEW):
        thread.start(mm, READ)
    assert thread.start(OLD, WRITE) == "LOCK_STARTED"
    assert thread.slots == [
        wait(NEW, READ, 2), wait(OTHER, READ, 3), wait(NEW, READ, 4), wait(OLD, WRITE, 5),
    ]  # fmt: skip
    assert lost(thread) == {"slots_full": 1}
    assert unmatched(thread) == {}


@pytest.mark.parametrize(
    ("room", "expected"), [(True, {"slots_full": 1}), (False, {"map_full": 2})]
)
def test_a_hold_given_up_is_lost_once(thread: Thread, room: bool, expected: dict[str, int]) -> None:
    thread.start(OLD, READ, room)
    thread.acquire(OLD, READ)
    for _ in range(SLOTS):
        thread.start(NEW, READ)
    assert lost(thread) == expected
    assert thread.accounting().unaccounted == 0


@pytest.mark.parametrize("mode", MODES)
def test_acquire_ends_the_wait_and_begins_the_hold(thread: Thread, mode: int) -> None:
    thread.start(OLD, mode)
    thread.now += 40
    assert thread.acquire(OLD, mode) == "LOCK_ACQUIRED"
    assert thread.slots == [hold(OLD, mode, 42)]
    assert thread.times == (1, 0, 41, 0, 0, 0)


def test_acquire_ends_the_newest_wait_that_fits(thread: Thread) -> None:
    thread.start(OLD, READ)
    thread.start(OLD, READ)
    thread.start(NEW, READ)
    thread.start(OLD, WRITE)
    assert thread.acquire(OLD, READ) == "LOCK_ACQUIRED"
    assert thread.slots == [
        wait(OLD, READ, 1), hold(OLD, READ, 5), wait(NEW, READ, 3), wait(OLD, WRITE, 4),
    ]  # fmt: skip


def test_acquire_for_writing_drops_every_other_slot_of_the_mm(thread: Thread) -> None:
    thread.start(OLD, READ)
    thread.acquire(OLD, READ)
    thread.start(NEW, READ)
    thread.start(OLD, WRITE)
    thread.start(OLD, READ)
    assert thread.acquire(OLD, WRITE) == "LOCK_ACQUIRED"
    assert thread.slots == [wait(NEW, READ, 3), hold(OLD, WRITE, 6)]
    assert unmatched(thread) == {"start_without_acquire": 1, "acquire_without_release": 1}


def test_acquire_for_reading_drops_nothing(thread: Thread) -> None:
    thread.start(OLD, READ)
    thread.acquire(OLD, READ)
    thread.start(OLD, READ)
    assert thread.acquire(OLD, READ) == "LOCK_ACQUIRED"
    assert thread.slots == [hold(OLD, READ, 2), hold(OLD, READ, 4)]
    assert unmatched(thread) == {}


@pytest.mark.parametrize("mode", MODES)
def test_failed_acquire_pops_the_wait(thread: Thread, mode: int) -> None:
    thread.start(NEW, mode)
    thread.start(OLD, mode)
    assert thread.acquire(OLD, mode, success=False) == "LOCK_FAILED"
    assert thread.slots == [wait(NEW, mode, 1)]
    assert thread.times == (0, 0, 0, 0, 0, 1)


def test_read_acquire_inside_a_write_hold_downgrades(thread: Thread) -> None:
    thread.start(OLD, WRITE)
    thread.acquire(OLD, WRITE)
    thread.now += 10
    assert thread.acquire(OLD, READ) == "LOCK_DOWNGRADED"
    assert thread.slots == [hold(OLD, READ, 13)]
    assert thread.release(OLD, READ) == "LOCK_RELEASED"
    assert thread.times == (1, 2, 1, 12, 1, 0)


def test_read_acquire_with_a_wait_is_no_downgrade(thread: Thread) -> None:
    thread.start(OLD, WRITE)
    thread.acquire(OLD, WRITE)
    thread.start(OLD, READ)
    assert thread.acquire(OLD, READ) == "LOCK_ACQUIRED"
    assert thread.slots == [hold(OLD, WRITE, 2), hold(OLD, READ, 4)]


def test_failed_read_acquire_inside_a_write_hold_is_no_downgrade(thread: Thread) -> None:
    thread.start(OLD, WRITE)
    thread.acquire(OLD, WRITE)
    assert thread.acquire(OLD, READ, success=False) == "LOCK_NO_MATCH"
    assert thread.slots == [hold(OLD, WRITE, 2)]
    assert unmatched(thread) == {"failure_without_start": 1}


@pytest.mark.parametrize(
    ("mm", "mode", "success", "kind"),
    [
        (OLD, READ, True, "acquire_without_start"),
        (OLD, READ, False, "failure_without_start"),
        (NEW, WRITE, True, "acquire_without_start"),
        (NEW, WRITE, False, "failure_without_start"),
    ],
)
def test_acquire_without_start_changes_nothing(
    thread: Thread, mm: int, mode: int, success: bool, kind: str
) -> None:
    thread.start(OLD, WRITE)
    thread.start(NEW, READ)
    before = thread.slots
    assert thread.acquire(mm, mode, success) == "LOCK_NO_MATCH"
    assert thread.slots == before
    assert unmatched(thread) == {kind: 1}


@pytest.mark.parametrize("mode", MODES)
def test_release_pops_the_newest_hold(thread: Thread, mode: int) -> None:
    for mm in (NEW, OLD):
        thread.start(mm, mode)
        thread.acquire(mm, mode)
    assert thread.release(NEW, mode) == "LOCK_RELEASED"
    assert thread.slots == [hold(OLD, mode, 4)]
    assert thread.times == (2, 1, 2, 3, 0, 0)


@pytest.mark.parametrize("mode", MODES)
def test_release_of_the_other_mode_closes_nothing(thread: Thread, mode: int) -> None:
    thread.start(OLD, mode)
    thread.acquire(OLD, mode)
    assert thread.release(OLD, 1 - mode) == "LOCK_OTHER_MODE"
    assert thread.slots == [hold(OLD, mode, 2)]
    assert unmatched(thread) == {"release_of_other_mode": 1}


@pytest.mark.parametrize("mode", MODES)
def test_release_without_a_hold_closes_nothing(thread: Thread, mode: int) -> None:
    thread.start(OLD, mode)
    thread.start(NEW, mode)
    thread.acquire(NEW, mode)
    assert thread.release(OLD, mode) == "LOCK_NO_MATCH"
    assert thread.slots == [wait(OLD, mode, 1), hold(NEW, mode, 3)]
    assert unmatched(thread) == {"release_without_acquire": 1}


def test_a_lock_without_room_counts_each_event_once_as_lost(thread: Thread) -> None:
    thread.start(OLD, WRITE, room=False)
    assert thread.acquire(OLD, WRITE) == "LOCK_ACQUIRED"
    assert thread.acquire(OLD, READ) == "LOCK_DOWNGRADED"
    assert thread.release(OLD, READ) == "LOCK_RELEASED"
    assert lost(thread) == {"map_full": 4}
    assert thread.times == (0, 0, 0, 0, 0, 0)
    assert thread.accounting().unaccounted == 0
