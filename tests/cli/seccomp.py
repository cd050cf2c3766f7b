"""Runs a command under a seccomp filter: ``python seccomp.py WHAT COMMAND...``.

WHAT is an errno that bpf() fails with, as ``EPERM``; or ``setrlimit``: who sets a limit is killed;
or ``membarrier``, which fails as where CPUs do without the timer; or ``perf_event_open``, which
fails as where a policy forbids it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
# Of bpf, setrlimit, prlimit64, membarrier, perf_event_open.
_NUMBERS = {"x86_64": (321, 160, 302, 324, 298), "aarch64": (280, 164, 261, 283, 241)}
#: Where struct seccomp_data has the number, and the halves of the third argument.
_NUMBER, _NEW_LIMIT = 0, (32, 36)


def _statement(code: int, value: int, equal: int = 0, other: int = 0) -> bytes:
    return struct.pack("=HBBI", code, equal, other, value)


def _program(what: str) -> bytes:
    bpf, setrlimit, prlimit, membarrier, perf = _NUMBERS[platform.machine()]
    if what == "setrlimit":
        return b"".join(
            (
                _statement(_LOAD, _NUMBER),
                _statement(_JUMP_EQUAL, setrlimit, equal=6),
                _statement(_JUMP_EQUAL, prlimit, other=4),
                _statement(_LOAD, _NEW_LIMIT[0]),
                _statement(_JUMP_EQUAL, 0, other=3),
                _statement(_LOAD, _NEW_LIMIT[1]),
                _statement(_JUMP_EQUAL, 0, other=1),
                _statement(_RETURN, _ALLOW),
                _statement(_RETURN, _KILL),
            )
        )
    others = {"membarrier": (membarrier, "EINVAL"), "perf_event_open": (perf, "EACCES")}
    number, error = others.get(what) or (bpf, what)
    return b"".join(
        (
            _statement(_LOAD, _NUMBER),
            _statement(_JUMP_EQUAL, number, other=1),
            _statement(_RETURN, _ERRNO | getattr(errno, error)),
            _statement(_RETURN, _ALLOW),
        )
    )


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    program = _program(sys.argv[1])
    kept = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(kept))
    for call in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _MODE_FILTER, header, 0, 0),
    ):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), "prctl")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
