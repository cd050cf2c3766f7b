"""A C program whose stack and symbols are known."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Prints where inner() starts and the return addresses of the calls that led to
# it, then waits to be told to go on. inner() does not return, so the call of
# it is the last instruction of outer().
PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
static void *main_returns_to;
__attribute__((noinline, noreturn)) void inner(void *outer_returns_to)
{
    printf("%p %p %p %p\n", (void *)inner, __builtin_return_address(0),
           outer_returns_to, main_returns_to);
    fflush(stdout);
    getchar();
    exit(0);
}
__attribute__((noinline, noreturn)) void outer(void)
{
    inner(__builtin_return_address(0));
}
int main(void)
{
    main_returns_to = __builtin_return_address(0);
    outer();
}
"""


def build(folder: Path, *flags: str) -> Path:
    source, program = folder / "program.c", folder / "program"
    source.write_text(PROGRAM)
    command = ["gcc", "-O1", "-falign-functions=1", *flags, "-o", str(program), str(source)]
    subprocess.run(command, check=True)
    return program


def link_addresses(program: Path) -> dict[str, int]:
    """What nm, the independent witness, says."""
    output = subprocess.run(["nm", str(program)], capture_output=True, text=True, check=True)
    rows = [line.split() for line in output.stdout.splitlines()]
    return {row[2]: int(row[0], 16) for row in rows if len(row) == 3}


@contextmanager
def running(program: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """The program, stopped in inner(), and its stack."""
    with subprocess.Popen(
        [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, [int(field, 16) for field in process.stdout.readline().split()]
        process.kill()
