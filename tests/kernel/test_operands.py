"""Operands and filters on this kernel: in records, registers, arguments and memory.

What is to be found is known beforehand: this process does it, alone.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings

from corelock import _ffi
from corelock._native.tables import Tables
from corelock.probes import filters
from corelock.probes.operands import COMMON, TEXT_BYTES, Index, Operand
from corelock.probes.tracefs import open_tracefs
from corelock.probes.tracepoints import Tracepoints
from tests.filter_expressions import EXPRESSIONS, FIELDS, FORMS, Event, Expression, events
from tests.libbpf import BpfObject, compile_object, ffi

pytestmark = pytest.mark.kernel

ROOM = 256
PR_SET_NAME, AT_FDCWD = 15, -100
# Where struct pt_regs has the first four arguments.
ARGUMENTS = {"x86_64": (112, 104, 96, 88), "aarch64": (0, 8, 16, 24)}[platform.machine()]
libc = ctypes.CDLL(None, use_errno=True)


class Found(NamedTuple):
    """What the program found at one event."""

    accepted: bool
    numbers: list[int]
    texts: list[bytes]


class Probe(BpfObject):
    """tests/kernel/operand_probe.bpf.c, loaded once for many tables."""

    def __init__(self, path: Path, program: str, *, of_all: bool = False) -> None:
        constants = {"longest_filter": filters.MOST_TESTS, "number_count": 8, "text_count": 4}
        constants["target_tgid"] = 0 if of_all else os.getpid()
        sizes = {"operands": ROOM, "tests": ROOM, "texts": ROOM}
        super().__init__(path, program, constants, sizes)
        self._operands: Sequence[Operand] = ()

    def prepare(
        self,
        numbers: Sequence[Operand] = (),
        texts: Sequence[Operand] = (),
        tests: Optional[tuple[filters.Test, ...]] = None,
    ) -> None:
        """Look for these from now on."""
        nothing = Operand("CONSTANT")
        self._operands = [*numbers, *[nothing] * (8 - len(numbers)), *texts]
        self._operands += [COMMON["comm"]] * (12 - len(self._operands))
        tables = Tables(ffi, _ffi.library()[1])
        for place, operand in enumerate(self._operands):
            assert tables.operand(operand, place) == place
        # What is accepted without a filter is not asked for here.
        tables.filter(tests or filters.compile_filter("pid || !pid", {}))
        options = tables.options()
        for name, size in ("operands", 32), ("tests", 16), ("texts", TEXT_BYTES):
            content = bytes(ffi.buffer(options[name]))
            for index in range(len(content) // size):
                self.put(name, index, content[index * size :][:size])
        self.set_variable("seen", 0)

    def found(self) -> list[Found]:
        """At each event since then, in order."""
        return [self._found(self.get("events", i)) for i in range(self.variable("seen"))]

    def _found(self, event: bytes) -> Found:
        numbers = [
            int.from_bytes(event[at : at + 8], "little", signed=operand.signed)
            for at, operand in zip(range(8, 72, 8), self._operands)
        ]
        texts = [event[at : at + TEXT_BYTES] for at in range(72, len(event), TEXT_BYTES)]
        for text in texts:
            assert not text.partition(b"\0")[2].strip(b"\0")
        return Found(bool(event[0]), numbers, [text.rstrip(b"\0") for text in texts])

    @property
    def faults(self) -> int:
        offset = ffi.offsetof("struct corelock_probe_state", "faults")
        return self.variable("state", offset, 8)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).with_name("operand_probe.bpf.c")
    return compile_object(source, tmp_path_factory.mktemp("bpf"))


def fields_of(category: str, name: str) -> dict[str, Operand]:
    with open_tracefs() as tracefs:
        fields = Tracepoints(tracefs).fields(category, name)
    return {field.name: field.operand for field in fields if field.operand is not None}


@contextmanager
def recording(path: Path, category: str, name: str, *, of_all: bool = False) -> Iterator[Probe]:
    probe = Probe(path, "on_record", of_all=of_all)
    try:
        probe.prepare()
        probe.attach_record(category, name)
        yield probe
    finally:
        probe.close()


@contextmanager
def named(name: bytes) -> Iterator[None]:
    """This thread, called so."""
    before = Path("/proc/thread-self/comm").read_bytes().rstrip(b"\n")
    libc.prctl(PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_NAME, ctypes.c_char_p(before), 0, 0, 0)


# --- records --------------------------------------------------------------------


def test_numbers_texts_and_signs_in_a_record(built: Path) -> None:
    fields = fields_of("task", "task_rename")
    adjust = Path("/proc/self/oom_score_adj")
    before = adjust.read_text()
    # Lower than it was it may not be.
    scores = (1000, 999, int(before))
    with recording(built, "task", "task_rename") as probe, named(b"before"):
        numbers = [fields["oom_score_adj"], COMMON["pid"], COMMON["tid"]]
        probe.prepare(numbers, [fields["oldcomm"], fields["newcomm"], COMMON["comm"]])
        for score in scores:
            adjust.write_text(str(score))
            with named(b"fifteen letters"):
                pass
        found = probe.found()
        assert probe.faults == 0
    ids = [os.getpid(), os.getpid()]
    both = [b"before", b"fifteen letters"]
    assert [(each.numbers[:3], each.texts[:3]) for each in found] == [
        ([score, *ids], [*names, names[0]]) for score in scores for names in (both, both[::-1])
    ]


def test_filters_of_records(built: Path) -> None:
    def send(number: int, to_thread: bool) -> dict[str, int]:
        if to_thread:
            signal.pthread_kill(libc.pthread_self(), number)
        else:
            os.kill(os.getpid(), number)
        return {"sig": number, "code": -6 if to_thread else 0}

    fields = fields_of("signal", "signal_generate")
    cases: Mapping[str, Callable[[dict[str, int]], bool]] = {
        "sig == 23": lambda event: event["sig"] == 23,
        "code < 0": lambda event: event["code"] < 0,
        "code < 0xffffffff && code != -6": lambda event: event["code"] == 0,
        "code & 0xffffffff == 0xfffffffa": lambda event: event["code"] == -6,
        "!code || sig & 1": lambda event: event["code"] == 0 or event["sig"] % 2 == 1,
        f'comm == "signals" && pid == {os.getpid()}': lambda event: True,
        'comm != "signals" || sig > 20 && !(sig == 28)': lambda event: event["sig"] == 23,
    }
    libc.pthread_self.restype = ctypes.c_ulong
    sent = [(number, to_thread) for number in (17, 23, 28) for to_thread in (True, False)]
    with recording(built, "signal", "signal_generate") as probe, named(b"signals"):
        for text, holds in cases.items():
            probe.prepare(tests=filters.compile_filter(text, fields))
            expected = [holds(send(*one)) for one in sent]
            assert [each.accepted for each in probe.found()] == expected, text


@pytest.mark.parametrize("length", [62, 63, 64, 90])
def test_a_text_elsewhere_in_the_record(built: Path, length: int) -> None:
    program = Path(f"/tmp/{os.getpid()}-".ljust(length, "p"))
    shutil.copy("/bin/true", program)
    fields = fields_of("sched", "sched_process_exec")
    wanted = str(program)[:63]
    with recording(built, "sched", "sched_process_exec", of_all=True) as probe:
        tests = filters.compile_filter(f'filename == "{wanted}"', fields)
        probe.prepare([fields["pid"]], [fields["filename"]], tests)
        child = subprocess.Popen([program])
        child.wait()
        program.unlink()
        accepted = [each for each in probe.found() if each.accepted]
    assert [(each.numbers[0], each.texts[0]) for each in accepted] == [(child.pid, wanted.encode())]


def test_texts_that_system_calls_are_given(built: Path) -> None:
    fields = fields_of("syscalls", "sys_enter_unlinkat")
    results = fields_of("syscalls", "sys_exit_unlinkat")
    path = filters.pointed_text(fields["pathname"])
    assert path is not None
    with recording(built, "syscalls", "sys_enter_unlinkat") as probe:
        text = 'str(pathname) == "/n" && dfd == -100'
        probe.prepare(texts=[path], tests=filters.compile_filter(text, fields))
        for name in (b"/n", b"/nowhere", None):
            libc.unlinkat(AT_FDCWD, ctypes.c_char_p(name), 0)
        found = probe.found()
        assert [each.accepted for each in found] == [True, False, False]
        assert [each.texts[0] for each in found] == [b"/n", b"/nowhere", b""]
        # No address is no text, and nothing that could not be read.
        assert probe.faults == 0
    with recording(built, "syscalls", "sys_exit_unlinkat") as probe:
        probe.prepare([results["ret"]], tests=filters.compile_filter("ret == -2", results))
        libc.unlinkat(AT_FDCWD, ctypes.c_char_p(b"/nowhere"), 0)
        assert [(each.accepted, each.numbers[0]) for each in probe.found()] == [(True, -2)]


def test_a_system_calls_argument_never_leads_into_the_kernel(built: Path) -> None:
    (code,) = (
        int(line.split()[0], 16)
        for line in Path("/proc/kallsyms").read_text().splitlines()
        if line.endswith(" T schedule")
    )
    fields = fields_of("syscalls", "sys_enter_unlinkat")
    path = filters.pointed_text(fields["pathname"])
    anyones = filters.pointed_text(fields["pathname"]._replace(of_user=False))
    assert path is not None and anyones is not None
    with recording(built, "syscalls", "sys_enter_unlinkat") as probe:
        tests = filters.compile_filter('str(pathname) != ""', fields)
        probe.prepare(texts=[path, anyones], tests=tests)
        libc.unlinkat(AT_FDCWD, ctypes.c_void_p(code), 0)
        (found,) = probe.found()
        assert probe.faults == 2  # the text's and the filter's
    assert not found.accepted
    assert found.texts[0] == b"" != found.texts[1]


# --- arguments of a tracepoint, untyped and typed -------------------------------


@pytest.mark.parametrize("program", ["on_arguments", "on_typed_arguments"])
def test_arguments_lead_to_texts_of_the_kernel(built: Path, program: str) -> None:
    # task_rename(task, comm)
    comm = Operand("CONTEXT", 8, text="POINTED", length=TEXT_BYTES)
    probe = Probe(built, program)
    try:
        tests = filters.compile_filter(
            'str(arg1) == "in the kernel"', {"arg1": Operand("CONTEXT", 8)}
        )
        probe.prepare(texts=[comm], tests=tests)
        if program == "on_arguments":
            probe.attach_arguments("task_rename")
        else:
            probe.attach()
        with named(b"in the kernel"):
            pass
        found = probe.found()
        assert probe.faults == 0
    finally:
        probe.close()
    assert [each.accepted for each in found] == [True, False]
    assert found[0].texts[0] == b"in the kernel"


# --- registers and memory -------------------------------------------------------

PROBED = "int probed(const void *record, const void *text, const void *path, long number)"


class Function:
    """A function of the user's with a probe on it."""

    def __init__(self, built: Path, directory: Path) -> None:
        library = directory / "probed.so"
        source = f"{PROBED}\n{{ return record != text && path && number; }}\n"
        subprocess.run(
            ["cc", "-O1", "-shared", "-fPIC", "-xc", "-", "-o", library],
            input=source, text=True, check=True,
        )  # fmt: skip
        with library.open("rb") as file:
            elf = ELFFile(file)
            (symbol,) = elf.get_section_by_name(".dynsym").get_symbol_by_name("probed")
            (offset,) = elf.address_offsets(symbol["st_value"])
        self.probe = Probe(built, "on_registers")
        self.probe.attach_user(library, offset)
        self._call = ctypes.CDLL(str(library)).probed

    def __call__(self, record: bytes, text: bytes, path: bytes, number: int) -> None:
        # The last one as wide as a register.
        self._call(
            ctypes.c_char_p(record), ctypes.c_char_p(text), ctypes.c_char_p(path),
            ctypes.c_int64(number),
        )  # fmt: skip


@pytest.fixture(scope="module")
def function(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    made = Function(built, tmp_path_factory.mktemp("probed"))
    yield made
    made.probe.close()


def test_registers(function: Function) -> None:
    function.probe.prepare(
        [Operand("CONTEXT", ARGUMENTS[3], size, signed) for size, signed in FORMS]
    )
    number = -0x1122334455667788
    function(b"", b"", b"", number)
    (found,) = function.probe.found()
    low = number.to_bytes(8, "little", signed=True)
    assert found.numbers == [
        int.from_bytes(low[:size], "little", signed=signed) for size, signed in FORMS
    ]


@pytest.mark.parametrize("index", [0, 3, -2])
def test_memory_by_two_registers(function: Function, index: int) -> None:
    record = bytes(range(160, 224))
    memory = [
        Operand("MEMORY", ARGUMENTS[0], size, signed, 24, Index(ARGUMENTS[3], 4, True, 3))
        for size, signed in FORMS
    ]
    function.probe.prepare(memory)
    # Only the low half of it is the index.
    function(record, b"", b"", 5 << 32 | index % 2**32)
    (found,) = function.probe.found()
    at = 24 + 8 * index
    assert found.numbers == [
        int.from_bytes(record[at : at + size], "little", signed=signed) for size, signed in FORMS
    ]


def test_memory_that_is_not_there_is_0_and_counted(function: Function) -> None:
    before = function.probe.faults
    function.probe.prepare([Operand("MEMORY", ARGUMENTS[3], constant=8)])
    function(b"", b"", b"", 0)
    (found,) = function.probe.found()
    assert found.numbers[0] == 0
    assert function.probe.faults == before + 1


#: The fields of the expressions, as arguments of the function.
AS_ARGUMENTS = {
    name: operand._replace(source="MEMORY", constant=operand.offset, offset=ARGUMENTS[0])
    for name, operand in FIELDS.items()
    if not operand.is_text
}
AS_ARGUMENTS["address"] = Operand("CONTEXT", ARGUMENTS[1])
AS_ARGUMENTS["path"] = Operand("CONTEXT", ARGUMENTS[2], text="POINTED", length=TEXT_BYTES)
AS_ARGUMENTS["name"] = Operand("MEMORY", ARGUMENTS[0], constant=80, text="POINTED", length=8)


@settings(max_examples=150)
@given(EXPRESSIONS, events())
def test_any_filter_of_any_event(function: Function, expression: Expression, event: Event) -> None:
    cpu = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    name = ctypes.create_string_buffer(bytes(event.values["name"]))
    path, text = (bytes(event.values[key]) for key in ("path", "str(address)"))
    record = event.record[:80] + ctypes.addressof(name).to_bytes(8, "little")
    try:
        with named(event.task.comm):
            tests = filters.compile_filter(expression.text, AS_ARGUMENTS)
            function.probe.prepare(tests=tests)
            function(record, text, path, 0)
    finally:
        os.sched_setaffinity(0, before)
    here = {"pid": os.getpid(), "tid": os.getpid(), "cpu": cpu}
    (found,) = function.probe.found()
    assert found.accepted == expression.holds(event._replace(values={**event.values, **here}))
