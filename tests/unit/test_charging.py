"""The kernel's charging rule, run on the host against the witness of blame.

A lock like the kernel's is played through: writers alone, readers together, first come, first
served or with thieves, and threads that are slow to wake. What ends in somebody's way is put on
record, as the BPF programs do it, and each wait must be charged as the witness says, which knows
every moment.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from cffi import FFI
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import blame_witness, host
from tests.witness import Event
from tools import generate_ffi

READ, WRITE = 0, 1
LONG_WAIT_NS = 4096  # waits from here on are looked into in any case
CERTAINTIES = ("observed", "convoy", "owner-word")
MM, OTHER_MM = 1, 2
THREADS = 11  # more than there are sums for one wait's holders, so that these are put away
ROOM = 512
RECENT = 1024  # records that are kept however short their holds are

ffi = FFI()
ffi.cdef(
    generate_ffi.declarations(generate_ffi.ABI)
    + """
struct kept_charge { struct corelock_charge_key key; struct corelock_charge charge; };
extern struct kept_charge kept[512];
extern uint32_t kept_count;
extern struct corelock_counters counters;
extern uint64_t examples_sent[2];
void charging_reset(uint32_t room);
void charging_row(uint32_t index, uint32_t thread, uint32_t mm_id, uint32_t mode);
void charging_begin(void);
int charging_hold(uint32_t row, uint64_t start_ns, uint64_t end_ns);
int charging_wait(uint32_t row, uint32_t owner_row, uint64_t start_ns, uint64_t end_ns);
struct corelock_contention *charging_contention(uint32_t row);
uint64_t charging_forgotten(void);
"""
)


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory: pytest.TempPathFactory) -> None:
    Kernel.library = ffi.dlopen(str(host.build("charging", tmp_path_factory.mktemp("host"))))


def row_of(thread: int, mode: int, mm: int = MM) -> int:
    """A row's index; 0 is none."""
    return 1 + thread * 2 + mode + (mm - 1) * 2 * THREADS


class Charged(NamedTuple):
    """What became of one wait."""

    by_holder: dict[int, int]  # row: ns
    certainties: dict[int, str]  # by row
    unknown_ns: int
    unheld_ns: int


class Kernel:
    """The code of the BPF programs; of two address spaces, whose records share one history."""

    library: Any

    def __init__(self, room: int = ROOM) -> None:
        self.library.charging_reset(room)
        for mm in (MM, OTHER_MM):
            for thread in range(THREADS):
                for mode in (READ, WRITE):
                    self.library.charging_row(row_of(thread, mode, mm), thread + 1, mm, mode)

    def begin(self) -> None:
        """A contended wait begins."""
        self.library.charging_begin()

    def hold(self, row: int, start_ns: int, end_ns: int) -> bool:
        """A hold that ended while somebody waited; whether it was sent as an example."""
        return bool(self.library.charging_hold(row, start_ns, end_ns))

    def wait(self, row: int, start_ns: int, end_ns: int, owner: int = 0) -> Charged:
        """A wait that ended, and what of the charges are its own."""
        before = self.charges(row)
        contention = self.library.charging_contention(row)
        unknown_ns, unheld_ns = contention.unknown_ns, contention.unheld_ns
        self.library.charging_wait(row, owner, start_ns, end_ns)
        by_holder: dict[int, int] = {}
        certainties: dict[int, str] = {}
        for key, (total_ns, _, _) in self.charges(row).items():
            ns = total_ns - before.get(key, (0, 0, 0))[0]
            if ns:
                holder, certainty = key
                by_holder[holder] = by_holder.get(holder, 0) + ns
                certainties[holder] = certainty
        contention = self.library.charging_contention(row)
        return Charged(
            by_holder, certainties,
            contention.unknown_ns - unknown_ns, contention.unheld_ns - unheld_ns,
        )  # fmt: skip

    def charges(self, waiter: int) -> dict[tuple[int, str], tuple[int, int, int]]:
        """Of one waiter, by holder and certainty: ns, waits, longest."""
        return {
            (one.key.holder_row, CERTAINTIES[one.key.certainty]): (
                one.charge.total_ns, one.charge.waits, one.charge.max_ns,
            )
            for one in self.library.kept[0 : self.library.kept_count]
            if one.key.waiter_row == waiter
        }  # fmt: skip

    @property
    def forgotten_ns(self) -> int:
        """Holds that ended up to here may be off the record."""
        return int(self.library.charging_forgotten())


# --- a lock, played through ---------------------------------------------------------------------


class Request(NamedTuple):
    """One thread asks for the lock: so long after it let go last, for so long, waking so late."""

    thread: int
    write: bool
    rest_ns: int
    hold_ns: int
    wake_ns: int


class Step(NamedTuple):
    """What a tracepoint shows, and what the programs see of the lock then."""

    ts_ns: int
    kind: str
    request: int
    wanted: bool  # somebody is queued
    contended: bool  # at a start: the lock cannot be had
    owner: int  # at a start: the request that writes, or -1


def play(requests: list[Request], handover_ns: int = 0) -> Iterator[Step]:
    """Every event in order of time, no two at the same.

    With a ``handover_ns`` who is queued gets the lock only so long after it was let go, and
    whoever comes meanwhile takes it: that makes waits that outlast many holds.
    """
    todo: dict[int, list[int]] = {}
    for index, request in enumerate(requests):
        todo.setdefault(request.thread, []).append(index)
    agenda: list[tuple[int, int, str, int]] = []
    queue: list[int] = []
    inside: set[int] = set()
    seen_inside: set[int] = set()
    order = now = 0
    handing_over = False

    def plan(after_ns: int, kind: str, index: int) -> None:
        nonlocal order
        order += 1
        heapq.heappush(agenda, (now + after_ns, order, kind, index))

    def grant(index: int) -> None:
        inside.add(index)
        plan(requests[index].wake_ns, "acquire", index)

    def free_for(index: int) -> bool:
        if requests[index].write:
            return not inside
        return not any(requests[i].write for i in inside)

    def hand_over() -> None:
        """As the kernel does it: to a writer alone, or to all readers that are queued."""
        nonlocal queue
        if not queue or not free_for(queue[0]):
            return
        first = requests[queue[0]].write
        let_in = queue[:1] if first else [i for i in queue if not requests[i].write]
        queue = [i for i in queue if i not in let_in]
        for each in let_in:
            grant(each)

    for indices in todo.values():
        plan(requests[indices[0]].rest_ns, "start", indices.pop(0))
    while agenda:
        at_ns, _, kind, index = heapq.heappop(agenda)
        now = max(at_ns, now + 1)
        if kind == "handover":
            handing_over = False
            hand_over()
            continue
        request = requests[index]
        in_line = bool(queue) and not handover_ns
        contended = kind == "start" and (in_line or not free_for(index))
        writers = [i for i in seen_inside if requests[i].write]
        yield Step(now, kind, index, bool(queue), contended, writers[0] if writers else -1)
        if kind == "start":
            if contended:
                queue.append(index)
            else:
                grant(index)
        elif kind == "acquire":
            seen_inside.add(index)
            plan(request.hold_ns, "release", index)
        else:
            inside.discard(index)
            seen_inside.discard(index)
            if todo[request.thread]:
                after = todo[request.thread].pop(0)
                plan(requests[after].rest_ns, "start", after)
        if not handover_ns:
            hand_over()
        elif kind == "release" and queue and not handing_over:
            handing_over = True
            plan(handover_ns, "handover", index)


class Played(NamedTuple):
    """A run: each wait that was looked into, as charged and as due."""

    request: Request
    wait_ns: int
    charged: Charged
    due: dict[int, int]  # row: ns
    on_record: bool  # nothing had been forgotten since it began


def run(kernel: Kernel, requests: list[Request], handover_ns: int = 0) -> list[Played]:
    """Drive the kernel's code with a run, and have the witness judge it."""
    steps = list(play(requests, handover_ns))
    assert len(steps) == 3 * len(requests)
    kinds: Any = {"start": "start", "acquire": "acquire", "release": "release"}
    # Each request is a thread of its own to the witness, so that it tells every wait apart.
    due, _ = blame_witness.blame(
        Event(step.ts_ns, step.request, kinds[step.kind], 0, requests[step.request].write)
        for step in steps
    )
    rows = [row_of(request.thread, request.write) for request in requests]
    by_wait: dict[int, Counter[int]] = {}
    for (waiter, _, holder, _), ns in due.items():
        by_wait.setdefault(waiter, Counter())[rows[holder]] += ns
    started: dict[int, Step] = {}
    acquired_ns: dict[int, int] = {}
    played = []
    for step in steps:
        index = step.request
        if step.kind == "start":
            started[index] = step
            if step.contended:
                kernel.begin()
        elif step.kind == "release":
            if step.wanted:
                kernel.hold(rows[index], acquired_ns[index], step.ts_ns)
        else:
            acquired_ns[index] = step.ts_ns
            start = started[index]
            wait_ns = step.ts_ns - start.ts_ns
            if start.contended or wait_ns >= LONG_WAIT_NS:
                owner = rows[start.owner] if start.contended and start.owner >= 0 else 0
                on_record = kernel.forgotten_ns <= start.ts_ns
                charged = kernel.wait(rows[index], start.ts_ns, step.ts_ns, owner)
                expected = dict(by_wait.pop(index, {}))
                played.append(Played(requests[index], wait_ns, charged, expected, on_record))
    # What was not looked into is nobody's fault.
    assert not by_wait
    return played


def assert_as_due(played: list[Played]) -> None:
    """Each wait is charged to the right holders to the nanosecond, and all of it is accounted."""
    for wait in played:
        charged = wait.charged
        charged_ns = sum(charged.by_holder.values())
        assert charged_ns + charged.unknown_ns == wait.wait_ns
        assert charged.unheld_ns == (charged.unknown_ns if wait.on_record else 0)
        if not wait.on_record:
            continue
        assert charged.by_holder == wait.due
        for holder, certainty in charged.certainties.items():
            reader_by_reader = not wait.request.write and holder % 2 == 1
            assert certainty == ("convoy" if reader_by_reader else "observed")


REQUESTS = st.lists(
    st.builds(
        Request,
        st.integers(0, THREADS - 1),
        st.booleans(),
        st.integers(0, 3000),
        st.integers(0, 3000),
        st.just(0) | st.integers(0, 6000),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(REQUESTS, st.just(0) | st.integers(1, 20_000))
def test_every_wait_is_charged_as_the_witness_says(
    requests: list[Request], handover_ns: int
) -> None:
    played = run(Kernel(), requests, handover_ns)
    assert all(wait.on_record for wait in played)
    assert_as_due(played)


def crowd(seed: int, longest: int, size: int = 2500) -> list[Request]:
    """Many requests, of holds up to 10 ** ``longest`` ns."""
    chance = random.Random(seed)
    writers = chance.random()
    return [
        Request(
            chance.randrange(THREADS),
            chance.random() < writers,
            chance.randrange(200),
            int(10 ** chance.uniform(1, chance.randint(2, longest))),
            chance.choice((0, 0, chance.randrange(100))),
        )
        for _ in range(size)
    ]


LONG_RUNS = st.tuples(st.integers(0, 2**32), st.integers(3, 9), st.sampled_from([0, 300_000]))


@settings(max_examples=12, deadline=None)
@given(LONG_RUNS)
def test_histories_longer_than_the_record(run_of: tuple[int, int, int]) -> None:
    """A wait that outlasts the record is charged in part, never too much, and that shows."""
    seed, longest, handover_ns = run_of
    assert_as_due(run(Kernel(), crowd(seed, longest), handover_ns))


def test_long_histories_have_all_that_is_to_be_tested() -> None:
    """Else the test before proves nothing."""
    whole, partial = Counter[str](), 0
    for seed in range(6):
        played = run(Kernel(), crowd(seed, 3), 300_000) + run(Kernel(), crowd(seed, 9))
        partial += sum(not wait.on_record and wait.charged.unknown_ns > 0 for wait in played)
        for wait in played:
            whole.update(set(wait.charged.certainties.values()) if wait.on_record else ())
    assert partial > 0
    assert whole["observed"] > 0 < whole["convoy"]
    assert not whole["owner-word"]


# --- case by case -------------------------------------------------------------------------------

A_W, B_W, C_W = (row_of(thread, WRITE) for thread in (0, 1, 2))
A_R, B_R, C_R = (row_of(thread, READ) for thread in (0, 1, 2))


def test_hold_that_began_before_the_wait_counts_from_the_wait_on() -> None:
    kernel = Kernel()
    kernel.hold(A_W, 100, 500)
    found = kernel.wait(B_W, 300, 510)
    assert found == Charged({A_W: 200}, {A_W: "observed"}, 10, 10)


def test_hold_that_ended_before_the_wait_is_not_charged() -> None:
    kernel = Kernel()
    kernel.hold(A_W, 100, 300)
    assert kernel.wait(B_W, 300, 510) == Charged({}, {}, 210, 210)


def test_of_readers_at_once_the_last_to_leave_is_charged() -> None:
    kernel = Kernel()
    kernel.hold(A_R, 100, 400)
    kernel.hold(B_R, 200, 500)
    found = kernel.wait(C_W, 50, 510)
    assert found.by_holder == {B_R: 300, A_R: 100}
    assert found.unknown_ns == 60


def test_reader_within_another_is_not_charged() -> None:
    kernel = Kernel()
    kernel.hold(A_R, 200, 300)
    kernel.hold(B_R, 100, 500)
    assert kernel.wait(C_W, 50, 500).by_holder == {B_R: 400}


def test_convoy_needs_a_writer_after_the_reader() -> None:
    kernel = Kernel()
    kernel.hold(A_W, 100, 200)
    kernel.hold(B_R, 210, 400)
    together = kernel.wait(C_R, 150, 410)
    assert together.by_holder == {A_W: 50}
    assert together.unknown_ns == 210
    kernel.hold(A_W, 405, 450)
    behind = kernel.wait(row_of(3, READ), 150, 460)
    assert behind.by_holder == {A_W: 50 + 45, B_R: 190}
    assert behind.certainties == {A_W: "observed", B_R: "convoy"}


def test_owner_word_is_for_what_no_record_covers() -> None:
    kernel = Kernel()
    kernel.hold(A_W, 300, 500)
    found = kernel.wait(C_W, 100, 510, owner=B_W)
    assert found.by_holder == {A_W: 200, B_W: 200}
    assert found.certainties == {A_W: "observed", B_W: "owner-word"}
    assert found.unknown_ns == 10


def test_owner_word_of_a_wait_without_any_record() -> None:
    kernel = Kernel()
    assert kernel.wait(C_W, 100, 510, owner=B_W) == Charged({B_W: 410}, {B_W: "owner-word"}, 0, 0)


def test_owner_whose_hold_is_on_record_is_not_charged_again() -> None:
    kernel = Kernel()
    kernel.hold(B_W, 120, 500)
    found = kernel.wait(C_W, 100, 500, owner=B_W)
    assert found.by_holder == {B_W: 380}
    assert found.unknown_ns == 20


def test_owner_is_not_believed_once_records_were_forgotten() -> None:
    kernel = Kernel()
    for n in range(RECENT + 1):
        kernel.begin()
        kernel.hold(A_W, 1000 + 10 * n, 1005 + 10 * n)
    assert kernel.forgotten_ns == 1005
    end_ns = 2000 + 10 * RECENT
    found = kernel.wait(C_W, 500, end_ns, owner=B_W)
    assert found.by_holder == {A_W: RECENT * 5}
    assert (found.unknown_ns, found.unheld_ns) == (end_ns - 500 - RECENT * 5, 0)
    # A wait that began after what was forgotten is none the worse for it.
    later = kernel.wait(C_W, 1005, end_ns)
    assert later.unheld_ns == later.unknown_ns > 0


@pytest.mark.parametrize(("long_ns", "kept"), [(64_000, 32), (4_000_000, 16), (256_000_000, 8)])
def test_long_holds_are_kept_the_longer(long_ns: int, kept: int) -> None:
    kernel = Kernel()
    now = 10
    for _ in range(kept):
        kernel.begin()
        kernel.hold(A_W, now, now + long_ns)
        now += long_ns + 10
    for _ in range(RECENT):
        kernel.begin()
        kernel.hold(B_W, now, now + 5)
        now += 10
    found = kernel.wait(C_W, 5, now)
    assert found.by_holder == {A_W: kept * long_ns, B_W: RECENT * 5}
    assert found.unheld_ns == found.unknown_ns


def test_records_of_another_address_space_are_nobodys_fault() -> None:
    kernel = Kernel()
    kernel.hold(row_of(0, WRITE, OTHER_MM), 100, 300)
    kernel.hold(A_W, 300, 400)
    kernel.hold(row_of(0, WRITE, OTHER_MM), 350, 500)
    found = kernel.wait(B_W, 100, 510)
    assert found == Charged({A_W: 100}, {A_W: "observed"}, 310, 310)
    # Nor does another's writer make a convoy.
    kernel.hold(A_R, 600, 700)
    kernel.hold(row_of(0, WRITE, OTHER_MM), 710, 720)
    assert kernel.wait(C_R, 600, 730).by_holder == {}


def test_a_wait_counts_once_for_a_holder_that_came_several_times() -> None:
    kernel = Kernel()
    for n in range(5):
        kernel.hold(A_W, 100 + 20 * n, 110 + 20 * n)
    kernel.wait(B_W, 90, 300)
    assert kernel.charges(B_W) == {(A_W, "observed"): (50, 1, 50)}
    kernel.begin()
    kernel.hold(A_W, 310, 340)
    kernel.wait(B_W, 305, 345)
    assert kernel.charges(B_W) == {(A_W, "observed"): (80, 2, 50)}


def test_a_wait_counts_once_for_each_of_many_holders() -> None:
    """More holders than sums, in turns: what is put away early belongs to the same wait."""
    kernel = Kernel()
    holders = [row_of(thread, WRITE) for thread in range(1, THREADS)]
    now = 100
    for _ in range(4):
        for holder in holders:
            kernel.hold(holder, now, now + 7)
            now += 10
    kernel.wait(A_W, 90, now)
    assert kernel.charges(A_W) == {(holder, "observed"): (28, 1, 28) for holder in holders}


def test_holds_of_one_thread_share_a_record_until_a_wait_begins() -> None:
    """As many as come: with nobody new waiting, they are in the way of the same waits."""
    kernel = Kernel()
    kernel.begin()
    for n in range(3 * RECENT):
        kernel.hold(A_W, 100 + 10 * n, 105 + 10 * n)
    assert kernel.forgotten_ns == 0
    end_ns = 100 + 30 * RECENT
    # From within the first of them on.
    assert kernel.wait(B_W, 102, end_ns).by_holder == {A_W: 3 * RECENT * 5 - 2}
    kernel.begin()
    kernel.hold(A_W, end_ns, end_ns + 50)
    kernel.hold(A_R, end_ns + 50, end_ns + 80)
    kernel.hold(A_W, end_ns + 90, end_ns + 95)
    kernel.hold(A_R, end_ns + 95, end_ns + 99)
    # A reader is let in with what the last write hold became, and waits for what the first did.
    found = kernel.wait(C_R, end_ns + 10, end_ns + 99)
    assert found.by_holder == {A_W: 45, A_R: 30}
    assert found.certainties == {A_W: "observed", A_R: "convoy"}


def test_a_wait_that_began_within_a_record_is_not_guessed_at() -> None:
    """One that seemed free of contention closes no record."""
    kernel = Kernel()
    kernel.hold(A_W, 100, 200)
    kernel.hold(A_W, 300, 400)
    found = kernel.wait(B_W, 250, 5000)
    assert found == Charged({}, {}, 4750, 0)


def test_a_full_table_is_counted_and_unknown() -> None:
    kernel = Kernel(room=1)
    kernel.hold(A_W, 100, 200)
    kernel.hold(B_W, 210, 300)
    found = kernel.wait(C_W, 100, 300)
    assert len(found.by_holder) == 1
    assert sum(found.by_holder.values()) + found.unknown_ns == 200
    assert kernel.library.counters.charges_full == 1
    # Somebody did have the lock then.
    assert found.unheld_ns == 10


def test_examples_are_twice_as_long_as_the_last() -> None:
    kernel = Kernel()
    sent = [kernel.hold(A_W, 0, ns) for ns in (100, 150, 199, 200, 399, 400)]
    assert sent == [True, False, False, True, False, True]
    assert list(kernel.library.examples_sent) == [0, 3]
    assert kernel.hold(B_W, 0, 100)


def test_hold_without_a_row_is_left_out() -> None:
    kernel = Kernel()
    assert not kernel.hold(0, 100, 500)
    assert kernel.wait(A_W, 100, 500).unknown_ns == 400
