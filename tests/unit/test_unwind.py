"""Stacks of real stopped processes, against what backtrace(3) and a shadow stack say."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

import pytest
from stopped import MACHINE, Stopped, stopped

from corelock.symbolize.cfi import ElfFrames
from corelock.symbolize.unwind import ModuleCode, Registers, UnwoundStack, unwind

pytestmark = pytest.mark.skipif(
    MACHINE not in ("x86_64", "aarch64"), reason=f"no unwinding on {MACHINE}"
)

SOURCE = Path(__file__).with_name("unwind_program.c")
FLAGS = ["-O2", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Werror"]
CHAINS = (
    "crowded", "deep", "alloca", "vla", "alignment", "arguments", "callback", "handler", "trap",
    "rare",
)  # fmt: skip
BUILDS = {
    "gcc": ["gcc"],
    "clang": ["clang"],
    "gcc-no-pie": ["gcc", "-no-pie"],
    "gcc-stripped": ["gcc", "-s"],
    "clang-O1-lazy": ["clang", "-O1", "-Wl,-z,lazy"],
}


@pytest.fixture(scope="module", params=BUILDS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler, *flags = BUILDS[request.param]
    path = tmp_path_factory.mktemp("unwind") / "program"
    subprocess.run([compiler, *FLAGS, *flags, "-o", str(path), str(SOURCE)], check=True)
    return path


@contextmanager
def at_pause(program: Path, chain: str) -> Iterator[tuple[Stopped, list[int]]]:
    """The program in pause(), and what it printed: the callers of its stop()."""
    with subprocess.Popen([str(program), chain], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        callers = [int(field, 16) for field in process.stdout.readline().split()]
        syscall = Path(f"/proc/{process.pid}/syscall")
        while len(syscall.read_text().split()) < 3:  # "running" until it waits
            time.sleep(0.001)
        with stopped(process.pid) as child:
            yield child, callers
        process.kill()


def inner_frames(child: Stopped, stack: UnwoundStack) -> int:
    """How many frames are those of stop() and of what it calls."""
    files = [child.code.find(probe) for probe in stack.probes]
    assert files[0] is not None
    # pause() of libc, then stop(); one frame if pause() were inlined.
    return next(i for i, file in enumerate(files) if file and file.frames != files[0].frames) + 1


@pytest.mark.parametrize("chain", CHAINS)
def test_known_chain(program: Path, chain: str) -> None:
    with at_pause(program, chain) as (child, callers):
        stack = child.unwind()
        own = inner_frames(child, stack)
    assert len(callers) >= 5
    assert (list(stack.addresses[own:]), stack.end) == (callers, None)


@pytest.mark.parametrize("chain", CHAINS)
def test_copy_that_ends_gives_the_first_frames(program: Path, chain: str) -> None:
    with at_pause(program, chain) as (child, _):
        whole = child.unwind()
        for size in (0, 7, 8, 64, 200, 1000):
            part = child.unwind(size)
            assert part.addresses == whole.addresses[: len(part.addresses)]
            assert part.probes == whole.probes[: len(part.probes)]
            assert part.end == "stack copy ends"
            assert len(part.addresses) < len(whole.addresses)


def test_interrupted_instruction_is_looked_up_as_it_is(program: Path) -> None:
    with at_pause(program, "trap") as (child, _):
        stack = child.unwind()
    # raise() is called; this program's function was interrupted on its first byte.
    unchanged = [i for i, pair in enumerate(zip(stack.addresses, stack.probes)) if len({*pair}) < 2]
    if platform.machine() == "x86_64":
        assert len(unchanged) == 2
    assert unchanged[0] == 0


def test_signal_stack_of_its_own_ends_the_copy(program: Path) -> None:
    with at_pause(program, "other_stack") as (child, callers):
        stack = child.unwind()
        own = inner_frames(child, stack)
    # stop()'s callers: the handler, libc's return from it, what it interrupted.
    assert list(stack.addresses[own:]) == callers[:3]
    assert stack.end == "stack copy ends"


def shadow(child: Stopped, steps: int) -> Iterator[tuple[UnwoundStack, list[int]]]:
    """Execute instructions one by one: each stack, and its return addresses by calls and returns.

    A call is told by what it does: it goes elsewhere and leaves the address
    after itself on the stack.
    """
    start = child.unwind()
    assert start.end is None
    expected = list(start.addresses[1:])
    for _ in range(steps):
        before = child.registers()
        top = child.word(before.sp)
        child.step()
        after = child.registers()
        pushed = child.word(after.sp)
        if after.sp == before.sp - 8 and 2 <= pushed - before.ip <= 10 and pushed != after.ip:
            if not 0 < after.ip - before.ip < 16:
                expected.insert(0, pushed)
        elif after.sp > before.sp and after.ip == top == expected[0]:
            del expected[0]
        yield child.unwind(), [after.ip, *expected]


@pytest.mark.skipif(MACHINE != "x86_64", reason="its calls push return addresses")
def test_every_instruction_of_a_first_call(tmp_path: Path) -> None:
    """Through the PLT, the dynamic linker's resolver, libc, and back, by a shadow stack."""
    source = tmp_path / "steps.c"
    source.write_text(STEPS)
    command = ["gcc", *FLAGS, "-Wl,-z,lazy", "-fplt", "-o", str(tmp_path / "steps"), str(source)]
    subprocess.run(command, check=True)
    places, shorter = set(), 0
    with at_pause(tmp_path / "steps", "") as (child, _):
        for stack, expected in shadow(child, 4000):
            assert (list(stack.addresses), stack.end) == (expected, None)
            # Without rbx and the red zone it is the same, or shorter and says so.
            part = child.unwind(below=0, rbx=False)
            assert list(part.addresses) == expected[: len(part.addresses)]
            whole = len(part.addresses) == len(expected)
            assert part.end in ((None,) if whole else UNKNOWN)
            shorter += not whole
            places.add(stack.addresses[0])
    assert len(places) > 1000
    assert shorter < 400


UNKNOWN = ("register 3 is not known", "register 6 is not known")

STEPS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
int main(void)
{
    char text[64];
    int values[] = {5, 2, 9, 1};
    printf("0x0\n");
    fflush(stdout);
    usleep(300000);
    qsort(values, 4, sizeof(int), compare);
    snprintf(text, sizeof(text), "%d %s %g", values[0], strstr("haystack", "st"), 2.5);
    return (int)strtol(text, NULL, 10);
}
"""


EMULATED = shutil.which("qemu-aarch64") and shutil.which("aarch64-linux-gnu-gcc")


@pytest.mark.skipif(not EMULATED, reason="no emulator of arm64, or no compiler for it")
@pytest.mark.parametrize("flag", ["-fomit-frame-pointer", "-mbranch-protection=standard"])
@pytest.mark.parametrize("chain", [c for c in CHAINS if c not in ("handler", "trap")])
def test_known_chain_of_arm64(tmp_path: Path, chain: str, flag: str) -> None:
    program = tmp_path / "program"
    compiler = ["aarch64-linux-gnu-gcc", *FLAGS, "-static", "-Wl,--eh-frame-hdr", flag]
    subprocess.run([*compiler, "-o", str(program), str(SOURCE)], check=True)
    command = ["qemu-aarch64", str(program), chain, "dump"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    callers, registers, copy = output.stdout.splitlines()
    with open(program, "rb") as file:
        frames = ElfFrames(file)
    stack = unwind(
        "aarch64",
        Registers(*(int(field, 16) for field in registers.split())),
        bytes.fromhex(copy),
        lambda address: ModuleCode(frames, address),  # linked statically: not moved
    )
    expected = [int(field, 16) for field in callers.split()]
    assert len(expected) >= 5
    assert (list(stack.addresses[1:]), stack.end) == (expected, None)


def test_what_is_no_code() -> None:
    nothing = unwind("x86_64", Registers(0x1000, 0x7000, 0x7000), b"", lambda address: None)
    assert nothing == UnwoundStack((0x1000,), (0x1000,), "no code at 0x1000")


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_frame_pointers_where_there_is_no_call_frame_information(machine: str) -> None:
    sp = 0x7000
    #        sp       +8  +16      +24     +32      +40     +48  +56
    stack = words(1, 2, sp + 32, 0x1111, sp + 48, 0x2222, 0, 0)
    jit = ModuleCode(None, 0)

    def walk(frame: int, stack: bytes = stack) -> UnwoundStack:
        return unwind(machine, Registers(0x1000, sp, frame), stack, lambda address: jit)

    none = "no call frame information at 0x1000"
    assert walk(sp + 16) == UnwoundStack(
        (0x1000, 0x1111, 0x2222),
        (0x1000, 0x1110, 0x2221),
        "no call frame information at 0x2222",
    )
    for no_pointer in (0, sp - 8, sp + 17, sp + 4096, 2**64 - 8):
        assert walk(no_pointer) == UnwoundStack((0x1000,), (0x1000,), none)
    # A chain that goes in circles or down.
    for back in (sp, sp + 16, sp + 8):
        assert walk(sp + 16, words(0, 0, back, 0x1111, 0, 0)).addresses == (0x1000, 0x1111)


def test_what_the_frame_pointer_leads_to_must_be_code() -> None:
    stack = words(0x7010, 0x1111, 0x7020, 0x9999)

    def find(address: int) -> Optional[ModuleCode]:
        return ModuleCode(None, 0) if address < 0x2000 else None

    found = unwind("x86_64", Registers(0x1000, 0x7000, 0x7000), stack, find)
    assert found == UnwoundStack((0x1000, 0x1111), (0x1000, 0x1110), "no code at 0x9999")


def test_depth_is_limited() -> None:
    chain = [word for i in range(500) for word in (0x7000 + 16 * (i + 1), 0x1000 + i)]
    found = unwind(
        "x86_64", Registers(0x1000, 0x7000, 0x7000), words(*chain), lambda _: ModuleCode(None, 0)
    )
    assert (len(found.addresses), found.end) == (128, "depth limit")


def test_signed_return_addresses_of_arm64() -> None:
    stack = words(0, 0x0035_FFFF_0000_1111)
    found = unwind(
        "aarch64", Registers(0x1000, 0x7000, 0x7000), stack, lambda _: ModuleCode(None, 0)
    )
    assert found.addresses == (0x1000, 0xFFFF_0000_1111)


def test_other_machines_are_not_unwound() -> None:
    found = unwind("riscv64", Registers(1, 2, 3), b"", lambda _: ModuleCode(None, 0))
    assert found == UnwoundStack((1,), (1,), "no unwinding on riscv64")
