"""The ELF reader against nm, and against files that are damaged."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stack_program import build

from corelock.symbolize.elf import BadElf, ElfSymbols


@pytest.fixture(scope="module")
def elf_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return build(tmp_path_factory.mktemp("elf")).read_bytes()


def is_read_or_refused(data: bytes, address: int) -> bool:
    """Whether it is either read, with an answer that makes sense, or refused as no ELF."""
    try:
        symbols = ElfSymbols(io.BytesIO(data))
    except BadElf:
        return True
    found = symbols.find(address)
    symbols.address_of(address)
    return found is None or found[1] <= address


@given(st.binary(max_size=500), st.integers(0, 2**64 - 1))
def test_random_bytes_are_no_elf(data: bytes, address: int) -> None:
    assert is_read_or_refused(data, address)
    assert is_read_or_refused(b"\x7fELF\x02\x01\x01" + data, address)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_elf_never_raises(elf_bytes: bytes, data: st.DataObject) -> None:
    damaged = bytearray(elf_bytes)
    # Most of the file is code; its headers are at both ends.
    headers = st.integers(0, 0x300) | st.integers(len(damaged) - 0x900, len(damaged) - 1)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(headers)] = data.draw(st.sampled_from([0, 1, 0x7F, 0xFF]))
    size = data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))
    assert is_read_or_refused(bytes(damaged[:size]), data.draw(st.integers(0, 2**64 - 1)))


def test_functions_end_where_nm_says(tmp_path: Path) -> None:
    program = build(tmp_path)
    output = subprocess.run(["nm", "-S", str(program)], capture_output=True, text=True, check=True)
    sizes = {row[3]: row[:2] for row in map(str.split, output.stdout.splitlines()) if len(row) == 4}
    symbols = ElfSymbols(io.BytesIO(program.read_bytes()))
    for name in ("inner", "outer", "main", "_start"):
        start, size = (int(field, 16) for field in sizes[name])
        assert symbols.find(start) == (name, start)
        assert symbols.find(start + size - 1) == (name, start)
        assert symbols.find(start + size) != (name, start)
        assert symbols.find(start - 1) != (name, start)
