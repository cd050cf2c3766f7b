"""Derive Python's view of the contract, and the assertions that hold it to C's.

Reads the two headers (the only source of the contract) and writes

- ``corelock/_ffi/_generated.py``: cffi's out-of-line ABI module, plus the
  headers' fingerprint; importing it parses and compiles nothing;
- a C file that asserts, for whichever compiler reads it, that every member is
  where cffi thinks it is and that no struct has a hole;
- a C header with the fingerprint, for the library.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
ABI = ROOT / "src" / "abi" / "corelock_abi.h"
PUBLIC = ROOT / "src" / "loader" / "corelock.h"

_CONDITIONAL = re.compile(r"#ifdef (?:__bpf__|__cplusplus)\n.*?#(?:else.*?#)?endif\n", re.DOTALL)
_CONSTANT = re.compile(r"#define \w+ (?:0x[0-9a-f]+|\d+)$")


def declarations(header: Path) -> str:
    """The header without what only a preprocessor understands."""
    text = _CONDITIONAL.sub("", header.read_text())
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    lines = (line.rstrip() for line in text.splitlines())
    return "\n".join(x for x in lines if x and (x[0] != "#" or _CONSTANT.match(x)))


def fingerprint() -> int:
    """Eight bytes that change with either header."""
    digest = hashlib.sha256(ABI.read_bytes() + PUBLIC.read_bytes()).digest()
    return int.from_bytes(digest[:8], "little")


def assertions(ffi: FFI, header: Path) -> str:
    """Static assertions for every struct that the header defines."""
    lines = []
    for name in re.findall(r"^struct (\w+) \{", header.read_text(), re.MULTILINE):
        struct, end = f"struct {name}", 0
        for member, field in ffi.typeof(struct).fields:
            if field.offset != end:
                raise SystemExit(f"{struct} has a hole before {member}: name the padding")
            end = field.offset + ffi.sizeof(field.type)
            where = f"__builtin_offsetof({struct}, {member}) == {field.offset}"
            lines.append(f'_Static_assert({where}, "{name}.{member}");')
        if ffi.sizeof(struct) != end:
            raise SystemExit(f"{struct} has a hole at its end: name the padding")
        lines.append(f'_Static_assert(sizeof({struct}) == {end}, "{name}");')
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--abi-check", type=Path, required=True)
    parser.add_argument("--public-check", type=Path, required=True)
    parser.add_argument("--fingerprint", type=Path, required=True)
    arguments = parser.parse_args()

    ffi = FFI()
    ffi.cdef(declarations(ABI) + "\n" + declarations(PUBLIC))
    ffi.set_source("corelock._ffi._generated", None)
    ffi.emit_python_code(str(arguments.python))
    with arguments.python.open("a") as module:
        module.write(f"\nFINGERPRINT = {fingerprint():#x}\n")
    arguments.abi_check.write_text('#include "corelock_abi.h"\n' + assertions(ffi, ABI))
    arguments.public_check.write_text('#include "corelock.h"\n' + assertions(ffi, PUBLIC))
    arguments.fingerprint.write_text(f"#define CORELOCK_FINGERPRINT {fingerprint():#x}ULL\n")


if __name__ == "__main__":
    main()
