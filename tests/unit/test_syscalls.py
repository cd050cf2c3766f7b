"""Names of operations."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from corelock.symbolize.syscalls import is_operation, operation_name

COMPAT = 0x10000
PAGE_FAULT, KERNEL_THREAD, EXIT, UNKNOWN = 0x20000, 0x20001, 0x20002, 0x20003
ABI = Path(__file__).parents[2] / "src" / "abi" / "corelock_abi.h"


@pytest.mark.parametrize(
    ("code", "machine", "name"),
    [
        (0, "x86_64", "read"),
        (9, "x86_64", "mmap"),
        (28, "x86_64", "madvise"),
        (336, "x86_64", "uprobe"),
        (337, "x86_64", "syscall-337"),
        (424, "x86_64", "pidfd_send_signal"),
        (450, "x86_64", "set_mempolicy_home_node"),
        (462, "x86_64", "mseal"),
        (469, "x86_64", "file_setattr"),
        (470, "x86_64", "syscall-470"),
        (0xFFFF, "x86_64", "syscall-65535"),
        (COMPAT | 0, "x86_64", "restart_syscall"),
        (COMPAT | 192, "x86_64", "mmap2"),
        (COMPAT | 462, "x86_64", "mseal"),
        (COMPAT | 500, "x86_64", "compat-syscall-500"),
        (79, "aarch64", "newfstatat"),
        (222, "aarch64", "mmap"),
        (226, "aarch64", "mprotect"),
        (244, "aarch64", "syscall-244"),
        (435, "aarch64", "clone3"),
        (462, "aarch64", "mseal"),
        (COMPAT | 192, "aarch64", "compat-syscall-192"),
        (9, "riscv64", "syscall-9"),
        (PAGE_FAULT, "x86_64", "page-fault"),
        (EXIT, "aarch64", "exit"),
        (KERNEL_THREAD, "x86_64", "khugepaged"),
        (UNKNOWN, "x86_64", "unknown"),
    ],
)
def test_name(code: int, machine: str, name: str) -> None:
    assert operation_name(code, "khugepaged", machine) == name


def test_codes_are_those_of_the_header() -> None:
    header = dict(re.findall(r"#define CORELOCK_OPERATION_(\w+) (0x\w+)", ABI.read_text()))
    assert {name: int(value, 16) for name, value in header.items()} == {
        "COMPAT": COMPAT,
        "PAGE_FAULT": PAGE_FAULT,
        "KERNEL_THREAD": KERNEL_THREAD,
        "UNKNOWN": UNKNOWN,
        "EXIT": EXIT,
    }


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="compares with this host's headers")
def test_agrees_with_the_header_of_this_host() -> None:
    source = "#include <asm/unistd_64.h>\n"
    command = ["cc", "-E", "-dM", "-x", "c", "-"]
    macros = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
    defined = re.findall(r"^#define __NR_(\w+) (\d+)$", macros.stdout, re.MULTILINE)
    assert len(defined) > 300
    for name, number in defined:
        assert operation_name(int(number), "", "x86_64") == name


def test_import_does_not_split_the_tables() -> None:
    program = (
        "import sys, corelock.symbolize.syscalls;"
        "print('corelock.symbolize._syscall_tables' in sys.modules, 'elftools' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", ["munmap", "clone3", "page-fault", "exit"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_operations_are_called(name: str, machine: str) -> None:
    assert is_operation(name, machine)


@pytest.mark.parametrize("name", ["", "mumap", "MUNMAP", "ksmd", "syscall-5"])
def test_what_no_operation_is_called(name: str) -> None:
    assert not is_operation(name, "x86_64")
