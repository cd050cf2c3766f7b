"""Arguments of static probes have the values that the program itself prints."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from test_operands import Probe

from corelock.probes import usdt
from corelock.probes.patterns import parse_pattern
from tests.libbpf import compile_object

pytestmark = pytest.mark.kernel

HITS = 40
SOURCE = """
#include <stdint.h>
#include <stdio.h>
#include <sys/sdt.h>

static int table[8] = {7, -6, 5, -4, 3, -2, 1, -2147483647};
static int64_t far[8] = {-1, 1L << 40, -(1L << 40), 3};
uint16_t single;
struct order { char kind; uint8_t many; int16_t price; int64_t number; };

__attribute__((noinline, noclone))
void hit(signed char a, uint8_t b, int16_t c, uint32_t d, int64_t e, const struct order *o, int i)
{
    int onstack = i - 20;
#if SET == 0
    STAP_PROBE8(test, hit, a, b, c, d, e, onstack, i, -3);
#elif SET == 1
    STAP_PROBE8(test, hit, table[i & 7], far[i & 7], single, o->kind, o->many, o->price, o->number,
                (uint8_t)200);
#else
    STAP_PROBE8(test, hit, far[(i + 1) & 7], far[3], table[b & 7], (&o->number)[0],
                (signed char)(a + 1), (uint64_t)-1, o[0].many, i & 1 ? b : d);
#endif
#if SET == 0
    printf("%d %u %d %u %ld %d %d %d\\n", a, b, c, d, e, onstack, i, -3);
#elif SET == 1
    printf("%d %ld %u %d %u %d %ld 200\\n", table[i & 7], far[i & 7], single, o->kind, o->many,
           o->price, o->number);
#else
    printf("%ld %ld %d %ld %d 18446744073709551615 %u %u\\n", far[(i + 1) & 7], far[3],
           table[b & 7], o->number, (signed char)(a + 1), o->many, i & 1 ? b : d);
#endif
}

int main(void)
{
    /* A program on a probe cannot bring in a page that nobody has touched. */
    *(volatile int *)table;
    *(volatile uint16_t *)&single;
    for (int i = 0; i < 40; i++) {
        struct order order = {i - 9, 255 - i, -300 * i, -5000000000 * i};
        single = 65535 - i;
        far[3] = 3L * i;
        hit(-i, 200 + i, -1000 * i, 4294967295u - i, -9000000000 * i, &order, i);
    }
    return 0;
}
"""

COMPILERS = [
    *(("gcc", *flags) for flags in (["-O0"], ["-O1"], ["-O2"], ["-O3"], ["-Os"])),
    ("gcc", "-O2", "-no-pie", "-fno-pie"), ("gcc", "-O0", "-no-pie", "-fno-pie"),
    ("clang", "-O0"), ("clang", "-O2"),
]  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).with_name("operand_probe.bpf.c")
    return compile_object(source, tmp_path_factory.mktemp("bpf"))


@pytest.mark.parametrize("compiler", COMPILERS, ids=" ".join)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_values(built: Path, tmp_path: Path, compiler: tuple[str, ...], which: int) -> None:
    assert shutil.which(compiler[0])
    program = tmp_path / "program"
    command = [*compiler, f"-DSET={which}", "-w", "-xc", "-", "-o", str(program)]
    subprocess.run(command, input=SOURCE, text=True, check=True)
    (place,) = usdt.find(parse_pattern(f"u:{program}:test:hit"))
    operands = [field.operand for field in place.fields if field.operand is not None]
    assert len(operands) == 8, place.fields
    probe = Probe(built, "on_registers", of_all=True)
    try:
        probe.prepare(operands)
        probe.attach_user(program, place.address)
        said = subprocess.run([program], capture_output=True, text=True, check=True).stdout
        found = probe.found()
        assert probe.faults == 0
    finally:
        probe.close()
    assert len(found) == HITS
    assert [each.numbers for each in found] == [
        [int(number) for number in line.split()] for line in said.splitlines()
    ]
