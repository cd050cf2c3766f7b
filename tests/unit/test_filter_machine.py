"""Values and filters as the BPF programs find them, on the host, against Python's own arithmetic.

What is expected of expressions is worked out by ``tests/filter_expressions.py``.
"""

from __future__ import annotations

from typing import Any, Optional

import pytest
from cffi import FFI
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corelock._native.tables import Tables
from corelock.probes import filters
from corelock.probes.operands import COMMON, NO_REGISTER, TEXT_BYTES, Index, Operand
from tests import host
from tests.filter_expressions import (
    EDGES,
    EXPRESSIONS,
    FIELDS,
    FORMS,
    USER,
    Event,
    Expression,
    Task,
    events,
    numbers_within,
    within,
)
from tools import generate_ffi

ffi = FFI()
ffi.cdef(
    generate_ffi.declarations(generate_ffi.ABI)
    + """
struct memory { uint64_t address; uint32_t size; uint8_t bytes[256]; };
extern struct memory user, kernel;
extern uint8_t context[256];
extern uint32_t task_pid, task_tid, task_cpu;
extern char task_comm[16];
extern struct corelock_operand operand_table[256];
extern struct corelock_test test_table[256];
extern char text_table[16384];
uint64_t machine_faults(void);
uint64_t machine_number(uint32_t operand);
void machine_text(uint32_t operand, char *text);
int machine_accepts(uint32_t first, uint32_t longest);
int machine_order(uint64_t left, uint8_t left_signed, uint64_t right, uint8_t right_signed);
"""
)

KERNEL = 0xFFFF888000001000


class Machine:
    """The C code, and what it finds around it."""

    library: Any

    def set(
        self,
        context: bytes = b"",
        user: bytes = b"",
        kernel: bytes = b"",
        task: Optional[Task] = None,
    ) -> None:
        lib = self.library
        ffi.buffer(lib.context)[:] = context.ljust(256, b"\xee")
        for memory, address, content in (lib.user, USER, user), (lib.kernel, KERNEL, kernel):
            memory.address, memory.size = address, len(content)
            ffi.memmove(memory.bytes, content, len(content))
        task = task or Task()
        lib.task_pid, lib.task_tid, lib.task_cpu = task.pid, task.tid, task.cpu
        ffi.buffer(lib.task_comm)[:] = task.comm.ljust(16, b"\0")

    def put(self, *operands: Operand) -> list[int]:
        """Make tables of these; their places."""
        tables = Tables(ffi, self.library)
        places = [tables.operand(operand) for operand in operands]
        self._fill(tables)
        return places

    def put_filters(self, *compiled: tuple[filters.Test, ...]) -> list[int]:
        """Make tables of filters; where each begins."""
        tables = Tables(ffi, self.library)
        firsts = [tables.filter(tests) for tests in compiled]
        self._fill(tables)
        return firsts

    def _fill(self, tables: Tables) -> None:
        options = tables.options()
        for name in "operand", "test", "text":
            table = getattr(self.library, f"{name}_table")
            content = bytes(ffi.buffer(options[f"{name}s"]))
            assert len(content) <= ffi.sizeof(table)
            ffi.memmove(table, content, len(content))

    def number(self, operand: Operand) -> int:
        """With the sign that the operand has."""
        pattern = int(self.library.machine_number(*self.put(operand)))
        return pattern - 2**64 if operand.signed and pattern >> 63 else pattern

    def text(self, operand: Operand) -> bytes:
        """All bytes of it."""
        text = ffi.new("char[]", TEXT_BYTES)
        self.library.machine_text(*self.put(operand), text)
        return bytes(ffi.buffer(text))

    def accepts(self, text: str, fields: dict[str, Operand]) -> bool:
        tests = filters.compile_filter(text, fields)
        return bool(self.library.machine_accepts(*self.put_filters(tests), len(tests)))

    @property
    def faults(self) -> int:
        return int(self.library.machine_faults())


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    Machine.library = ffi.dlopen(str(host.build("filter_machine", tmp_path_factory.mktemp("host"))))
    return Machine()


def padded(text: bytes) -> bytes:
    return text.ljust(TEXT_BYTES, b"\0")


# --- numbers --------------------------------------------------------------------


@given(st.sampled_from(FORMS), st.data())
def test_a_field_has_the_number_that_its_bytes_are(
    machine: Machine, form: tuple[int, bool], data: st.DataObject
) -> None:
    size, signed = form
    number = data.draw(numbers_within(*within(size, signed)))
    machine.set(b"\xaa" * 9 + number.to_bytes(size, "little", signed=signed) + b"\xaa")
    assert machine.number(Operand("CONTEXT", offset=9, size=size, signed=signed)) == number


@pytest.mark.parametrize("left", [n for n in EDGES if -(2**63) <= n < 2**64])
def test_numbers_of_either_sign_compare_as_numbers(machine: Machine, left: int) -> None:
    for right in (n for n in EDGES if -(2**63) <= n < 2**64):
        # Both forms that a number may have.
        for left_signed in {left < 0, left < 2**63}:
            for right_signed in {right < 0, right < 2**63}:
                order = machine.library.machine_order(
                    left % 2**64, left_signed, right % 2**64, right_signed
                )
                assert order == (left > right) - (left < right)


@settings(max_examples=300)
@given(
    st.sampled_from(FORMS),
    st.binary(min_size=8, max_size=8),
    st.integers(-64, 264),
    st.none() | st.tuples(st.sampled_from(FORMS), st.integers(0, 2**64 - 1), st.integers(0, 3)),
)
def test_memory_is_found_by_registers(
    machine: Machine,
    form: tuple[int, bool],
    content: bytes,
    at: int,
    added: Optional[tuple[tuple[int, bool], int, int]],
) -> None:
    (size, signed), memory = form, bytes(range(100)) + content * 16
    address, index, register = USER + at, None, 0
    if added is not None:
        (index_size, index_signed), register, shift = added
        index = Index(16, index_size, index_signed, shift)
        low = register.to_bytes(8, "little")[:index_size]
        address -= int.from_bytes(low, "little", signed=index_signed) << shift
    base = (address - 24) % 2**64
    machine.set(base.to_bytes(8, "little") * 2 + register.to_bytes(8, "little"), user=memory)
    before = machine.faults
    found = machine.number(
        Operand("MEMORY", offset=8, size=size, signed=signed, constant=24, added=index)
    )
    mapped = 0 <= at <= len(memory) - size
    there = memory[at : at + size] if mapped else b"\0"
    assert found == int.from_bytes(there, "little", signed=signed)
    assert machine.faults - before == (not mapped)


def test_memory_below_a_register(machine: Machine) -> None:
    machine.set((USER + 8).to_bytes(8, "little"), user=b"\xfe\xff\xff\xff" + bytes(8))
    found = machine.number(Operand("MEMORY", offset=0, size=4, signed=True, constant=-8))
    assert found == -2


def test_memory_without_a_register_for_its_address(machine: Machine) -> None:
    machine.set((3).to_bytes(8, "little"), user=bytes(range(100)))
    address = Operand("MEMORY", offset=NO_REGISTER, size=1, constant=USER + 4)
    assert machine.number(address) == 4
    assert machine.number(address._replace(added=Index(0, shift=3))) == 4 + 3 * 8


def test_what_a_task_is(machine: Machine) -> None:
    machine.set(task=Task(2**31 - 1, 2**22, 255))
    assert [machine.number(COMMON[name]) for name in ("pid", "tid", "cpu")] == [
        2**31 - 1, 2**22, 255,
    ]  # fmt: skip


@pytest.mark.parametrize("number", [-(2**63), -1, 0, 2**64 - 1])
def test_a_constant_is_itself(machine: Machine, number: int) -> None:
    assert machine.number(Operand("CONSTANT", constant=number, signed=number < 0)) == number


# --- texts ----------------------------------------------------------------------

LETTERS = st.binary(max_size=80).map(lambda text: text.replace(b"\0", b"x"))


@example(b"")
@example(b"a" * 62)
@example(b"a" * 63)
@example(b"a" * 64)
@given(LETTERS)
def test_texts_are_cut_and_have_no_stray_bytes(machine: Machine, text: bytes) -> None:
    content = text + b"\0" + b"\xdd" * 30
    located = len(content) - 30 << 16 | 120
    record = located.to_bytes(4, "little") * 2
    machine.set(record.ljust(120, b"\xcc") + content)
    cut = padded(text[:63])
    assert machine.text(Operand("CONTEXT", 120, text="INLINE", length=64)) == cut
    assert machine.text(Operand("CONTEXT", 0, size=4, text="DATA_LOC", length=64)) == cut
    # From its own end on: 4 bytes less to go.
    at = len(content) - 30 << 16 | 112
    machine.set(at.to_bytes(4, "little").rjust(8).ljust(120) + content)
    assert machine.text(Operand("CONTEXT", 4, size=4, text="REL_LOC", length=64)) == cut
    for address, memory in (USER, {"user": content}), (KERNEL, {"kernel": content}):
        machine.set(address.to_bytes(8, "little"), **memory)
        assert machine.text(Operand("CONTEXT", text="POINTED", length=64)) == cut
        of_user = machine.text(Operand("CONTEXT", text="OF_USER", length=64))
        assert of_user == (cut if address == USER else padded(b""))


@pytest.mark.parametrize("text", ["INLINE", "DATA_LOC"])
def test_a_text_is_cut_at_its_room(machine: Machine, text: Any) -> None:
    machine.set((16 << 16 | 4).to_bytes(4, "little") + b"0123456789abcdefg")
    operand = Operand("CONTEXT", 4 if text == "INLINE" else 0, text=text, length=8)
    assert machine.text(operand) == padded(b"0123456")


def test_an_empty_place_in_the_record_has_no_text(machine: Machine) -> None:
    machine.set((4).to_bytes(4, "little") + b"something else")
    before = machine.faults
    assert machine.text(Operand("CONTEXT", size=4, text="DATA_LOC", length=64)) == padded(b"")
    assert machine.faults == before


def test_a_text_whose_address_is_in_memory(machine: Machine) -> None:
    machine.set(USER.to_bytes(8, "little"), user=(USER + 8).to_bytes(8, "little") + b"there\0")
    assert machine.text(Operand("MEMORY", text="POINTED", length=64)) == padded(b"there")


@pytest.mark.parametrize("address", [8, USER - 1, USER + 200, KERNEL - 1, 2**64 - 1])
def test_a_text_that_cannot_be_read_is_empty_and_counted(machine: Machine, address: int) -> None:
    machine.set(address.to_bytes(8, "little"), user=b"a", kernel=b"b")
    before = machine.faults
    assert machine.text(Operand("CONTEXT", text="POINTED", length=64)) == padded(b"")
    assert machine.faults == before + 1


def test_a_users_address_never_leads_into_the_kernel(machine: Machine) -> None:
    machine.set(KERNEL.to_bytes(8, "little"), user=b"a", kernel=b"b\0")
    before = machine.faults
    assert machine.text(Operand("CONTEXT", text="OF_USER", length=64)) == padded(b"")
    assert machine.faults == before + 1


@pytest.mark.parametrize("text", ["POINTED", "OF_USER"])
def test_no_address_is_no_text_and_no_fault(machine: Machine, text: Any) -> None:
    machine.set(bytes(8), user=b"a", kernel=b"b")
    before = machine.faults
    assert machine.text(Operand("CONTEXT", text=text, length=64)) == padded(b"")
    assert machine.text(Operand("CONSTANT", text=text, length=64)) == padded(b"")
    assert machine.faults == before


def test_a_text_whose_address_is_known(machine: Machine) -> None:
    machine.set(user=b"there\0")
    operand = Operand("CONSTANT", constant=USER, text="OF_USER", length=64)
    assert machine.text(operand) == padded(b"there")


def test_the_name_of_the_task(machine: Machine) -> None:
    machine.set(task=Task(comm=b"fifteen letters"))
    assert machine.text(COMMON["comm"]) == padded(b"fifteen letters")


# --- any expression on any event ------------------------------------------------


@settings(max_examples=400)
@given(EXPRESSIONS, st.lists(events(), min_size=1, max_size=5))
def test_the_program_accepts_what_the_expression_says(
    machine: Machine, expression: Expression, some: list[Event]
) -> None:
    for event in some:
        machine.set(event.record, event.user, task=event.task)
        before = machine.faults
        assert machine.accepts(expression.text, FIELDS) == expression.holds(event)
        assert machine.faults == before


@given(EXPRESSIONS)
def test_tests_lead_forward_to_an_end(expression: Expression) -> None:
    tests = filters.compile_filter(expression.text, FIELDS)
    assert len(tests) == expression.tests
    for index, test in enumerate(tests):
        for following in (test.on_true, test.on_false):
            assert index < following < len(tests) or following in (filters.ACCEPT, filters.REJECT)


@settings(max_examples=50)
@given(st.lists(EXPRESSIONS, min_size=2, max_size=3), events())
def test_one_table_has_many_filters(
    machine: Machine, several: list[Expression], event: Event
) -> None:
    compiled = [filters.compile_filter(one.text, FIELDS) for one in several]
    machine.set(event.record, event.user, task=event.task)
    longest = max(map(len, compiled))
    for one, first in zip(several, machine.put_filters(*compiled)):
        assert machine.library.machine_accepts(first, longest) == one.holds(event)


def test_without_a_filter_everything_is_accepted(machine: Machine) -> None:
    machine.set(b"")
    never = filters.compile_filter("u8 != u8", FIELDS)
    assert machine.put_filters(never) == [0]
    assert not machine.library.machine_accepts(0, 1)
    assert machine.library.machine_accepts(machine.library.CORELOCK_NO_FILTER, 1)
    assert machine.library.machine_accepts(0, 0)


def test_limits_are_those_of_the_contract(machine: Machine) -> None:
    lib = machine.library
    assert filters.MOST_TESTS == lib.CORELOCK_TESTS
    assert (filters.ACCEPT, filters.REJECT) == (lib.CORELOCK_ACCEPT, lib.CORELOCK_REJECT)
    assert TEXT_BYTES == lib.CORELOCK_TEXT_BYTES
