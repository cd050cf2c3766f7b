"""Functions of made-up kernels, and of this one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import pytest

from corelock.errors import MissingPrivilege, NoSuchProbe, Unsupported
from corelock.probes.kernel_functions import (
    AMBIGUOUS,
    BLACKLISTED,
    COLD,
    INIT,
    NOINSTR,
    NOTRACE,
    Found,
    KernelFunctions,
)
from corelock.probes.patterns import parse_pattern
from corelock.probes.places import Place
from corelock.probes.tracefs import Folder

BASE = 0xFFFFFFFF81000000
MODULE = 0xFFFFFFFFC0200000

# Offset, type, name, module; data within, as newer kernels have it, after the text.
SYMBOLS = (
    (0x0, "T", "_stext", ""),
    (0x0, "T", "_text", ""),
    (0x10, "T", "__entry_text_start", ""),
    (0x10, "T", "asm_exc_page_fault", ""),
    (0x80, "T", "__entry_text_end", ""),
    (0xF0, "T", "__pfx_vfs_read", ""),
    (0x100, "T", "vfs_read", ""),
    (0x200, "T", "vfs_write", ""),
    (0x300, "t", "type_show", ""),
    (0x400, "t", "type_show", ""),
    (0x500, "t", "__do_sys_getpid", ""),
    (0x500, "T", "__x64_sys_getpid", ""),
    (0x600, "t", "do_int3", ""),
    (0x700, "t", "strange", ""),
    (0x800, "W", "weak_one", ""),
    (0x900, "t", "shrink.part.0", ""),
    (0xA00, "t", "vfs_read.cold", ""),
    (0xB00, "T", "__noinstr_text_start", ""),
    (0xB00, "T", "get_stack_info_noinstr", ""),
    (0xC00, "T", "__noinstr_text_end", ""),
    (0xD00, "D", "_etext", ""),
    (0xE00, "t", "dev_attr_type", ""),
    (0x1000, "T", "_sinittext", ""),
    (0x1000, "t", "vfs_caches_init", ""),
    (0x1100, "T", "_einittext", ""),
)
IN_MODULES = (
    (0x0, "t", "ext4_sync", "ext4"),
    (0x100, "t", "type_show", "ext4"),
    (0x200, "t", "bpf_prog_6deef7357e7b4530_released", "bpf"),
    (0x300, "t", "ftrace_trampoline", "__builtin__ftrace"),
)


def kallsyms(hidden: bool = False) -> str:
    every = [(BASE + at, *rest) for at, *rest in SYMBOLS]
    every += [(MODULE + at, *rest) for at, *rest in IN_MODULES]
    return "".join(
        f"{0 if hidden else address:016x} {kind} {name}" + (f"\t[{module}]\n" if module else "\n")
        for address, kind, name, module in every
    )


class Kernel:
    """A folder with what the kernel would say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("kallsyms", kallsyms())

    def write(self, name: str, content: str) -> None:
        (self.path / name).parent.mkdir(exist_ok=True)
        (self.path / name).write_text(content)

    def find(self, pattern: str, regex: bool = False) -> Found:
        folder = Folder(os.open(self.path, os.O_RDONLY))
        functions = KernelFunctions(folder, folder, str(self.path / "kallsyms"))
        with folder:
            return functions.find(parse_pattern(pattern, regex))


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def place(offset: int, name: str, module: str = "") -> Place:
    address = (MODULE if module else BASE) + offset
    return Place("FUNCTION", f"{name} [{module}]" if module else name, name, address)


def labels(places: Sequence[Place]) -> list[str]:
    return [each.label for each in places]


EVERY = [
    "vfs_read", "vfs_write", "type_show", "type_show", "__do_sys_getpid", "do_int3", "strange",
    "weak_one", "shrink.part.0", "ext4_sync [ext4]", "type_show [ext4]",
]  # fmt: skip
REFUSED = {
    INIT: ("vfs_caches_init",),
    NOINSTR: ("asm_exc_page_fault", "get_stack_info_noinstr"),
}


def test_a_rare_part_is_one_to_who_spells_it_out(kernel: Kernel) -> None:
    found = kernel.find("vfs_read.cold")
    assert (found.places, found.refused) == ((), {COLD: ("vfs_read.cold",)})
    assert not kernel.find("vfs_*").refused.keys() & {COLD}


def test_functions_alone_are_found(kernel: Kernel) -> None:
    """No padding, borders of sections, data, BPF programs or trampolines."""
    found = kernel.find("*")
    assert labels(found.places) == EVERY
    assert found.doubtful == {}
    assert found.refused == REFUSED


def test_functions_of_one_name_are_places_of_their_own(kernel: Kernel) -> None:
    assert kernel.find("type_show").places == (
        place(0x300, "type_show"), place(0x400, "type_show"), place(0x100, "type_show", "ext4"),
    )  # fmt: skip
    assert kernel.find("kprobe:vmlinux:type_show").places == (
        place(0x300, "type_show"), place(0x400, "type_show"),
    )  # fmt: skip
    assert kernel.find("kprobe:ext4:*").places == (
        place(0, "ext4_sync", "ext4"), place(0x100, "type_show", "ext4"),
    )  # fmt: skip


def test_names_of_one_function_are_one_place(kernel: Kernel) -> None:
    assert labels(kernel.find("*sys_getpid").places) == ["__do_sys_getpid"]
    assert labels(kernel.find("__x64_sys_getpid").places) == ["__x64_sys_getpid"]


def test_alternatives_and_expressions(kernel: Kernel) -> None:
    assert labels(kernel.find("vfs_*|weak_one").places) == ["vfs_read", "vfs_write", "weak_one"]
    assert labels(kernel.find("vfs_(?:read|w.*)", regex=True).places) == ["vfs_read", "vfs_write"]


TRACED = ["vfs_read", "vfs_write", "__do_sys_getpid", "do_int3", "weak_one", "shrink.part.0"]
BLACKLIST = (
    f"0x{BASE + 0x600:016x}-0x{BASE + 0x640:016x}\tdo_int3\n"
    f"0x{BASE + 0x700:016x}-0x{BASE + 0x740:016x}\tstrange\n"
)


def check_what_ftrace_has(found: Found, type_show: list[str]) -> None:
    assert labels(found.places) == [
        "vfs_read", "vfs_write", *type_show, "__do_sys_getpid", "weak_one", "shrink.part.0",
        "ext4_sync [ext4]",
    ]  # fmt: skip
    doubtful = {reason: labels(places) for reason, places in found.doubtful.items()}
    unsure = ["type_show"] * (2 - len(type_show))
    # Not by kprobes; by what ftrace has, perhaps.
    assert doubtful == {NOTRACE: [*unsure, "type_show [ext4]"], BLACKLISTED: ["do_int3"]}
    assert found.refused == {**REFUSED, BLACKLISTED: ("strange",)}


def test_what_ftrace_has_by_name(kernel: Kernel) -> None:
    """Of two functions of a name it has one: which is not said, so neither is certain."""
    lines = [*TRACED, "type_show", "ext4_sync [ext4]", "__ftrace_invalid_address___64"]
    kernel.write("available_filter_functions", "".join(f"{line}\n" for line in lines))
    kernel.write("kprobes/blacklist", BLACKLIST)
    check_what_ftrace_has(kernel.find("*"), [])
    assert labels(kernel.find("__x64_sys_getpid").places) == ["__x64_sys_getpid"]
    assert labels(kernel.find("type_show").doubtful[NOTRACE]) == [
        "type_show", "type_show", "type_show [ext4]",
    ]  # fmt: skip


def test_two_of_a_name_that_ftrace_has_twice(kernel: Kernel) -> None:
    kernel.write("available_filter_functions", "type_show\ntype_show\n")
    assert len(kernel.find("kprobe:vmlinux:type_show").places) == 2


@pytest.mark.parametrize("call", [0, 4, 8])
def test_what_ftrace_has_by_address(kernel: Kernel, call: int) -> None:
    """The call it has stands behind a mark at the function's start, where there is one."""
    offsets = {name: offset for offset, _, name, _ in reversed(SYMBOLS)}
    lines = [f"{BASE + offsets[name] + call:016x} {name}" for name in [*TRACED, "type_show"]]
    lines.append(f"{MODULE + call:016x} ext4_sync [ext4]")
    kernel.write("available_filter_functions_addrs", "".join(f"{line}\n" for line in lines))
    kernel.write("available_filter_functions", "type_show\ntype_show\n")
    kernel.write("kprobes/blacklist", BLACKLIST)
    check_what_ftrace_has(kernel.find("*"), ["type_show"])


def test_a_blacklist_without_addresses(kernel: Kernel) -> None:
    zeros = "0x0000000000000000-0x0000000000000000"
    kernel.write("kprobes/blacklist", f"{zeros}\tdo_int3\n")
    assert labels(kernel.find("*").doubtful[BLACKLISTED]) == ["do_int3"]


def test_hidden_addresses(kernel: Kernel) -> None:
    """Names are enough, unless several functions have one."""
    kernel.write("kallsyms", kallsyms(hidden=True))
    kernel.write("available_filter_functions", "vfs_read\ntype_show [ext4]\n")
    assert kernel.find("vfs_read").places == (Place("FUNCTION", "vfs_read", "vfs_read", 0),)
    assert labels(kernel.find("type_show").places) == ["type_show [ext4]"]
    assert kernel.find("kprobe:vmlinux:type_show").doubtful == {
        AMBIGUOUS: (Place("FUNCTION", "type_show", "type_show", 0),)
    }
    assert labels(kernel.find("weak_one").doubtful[NOTRACE]) == ["weak_one"]


@pytest.mark.parametrize(
    ("pattern", "regex", "remedy"),
    [
        ("vfs_reed", False, "Did you mean vfs_read, "),
        ("kprobe:vmlinux:ext4_sync", False, "Did you mean ext4_sync"),
        ("shrink", False, "try 'shrink.*'"),
        ("vfs_", True, "whole name: vfs_.*"),
        ("zzzzzzz*", False, "inlined everywhere"),
    ],
)
def test_no_such_function(kernel: Kernel, pattern: str, regex: bool, remedy: str) -> None:
    with pytest.raises(NoSuchProbe, match="no function of the kernel matches") as error:
        kernel.find(pattern, regex)
    assert remedy in error.value.remedy


@pytest.mark.parametrize("pattern", ["[", "[!]", "kprobe:ext4:["])
def test_patterns_without_a_name(kernel: Kernel, pattern: str) -> None:
    """Nothing is a part of a function without a name, whatever symbols begin with a dot."""
    kernel.write("kallsyms", kallsyms() + f"{BASE + 0xA80:016x} t .str.part\n")
    with pytest.raises(NoSuchProbe, match="no function of the kernel matches") as error:
        kernel.find(pattern)
    assert error.value.remedy == "See corelock list p::'*' for all there are."


@pytest.mark.parametrize(
    ("pattern", "regex", "remedy"),
    [
        ("kprobe:ext3:*", False, "Did you mean ext4?"),
        ("kprobe:nosuchmod:vfs_read", False, "lsmod"),
        ("kprobe:nosuchmod:*", False, "lsmod"),
        ("kprobe:[:*", False, "lsmod"),
        ("kprobe:ext:.*", True, "whole name"),
    ],
)
def test_no_such_module(kernel: Kernel, pattern: str, regex: bool, remedy: str) -> None:
    with pytest.raises(NoSuchProbe, match="no module that .* has functions matches") as error:
        kernel.find(pattern, regex)
    assert remedy in error.value.remedy


@pytest.mark.parametrize(
    ("broken", "kind"), [(PermissionError(13, ""), MissingPrivilege), (None, Unsupported)]
)
def test_symbols_that_cannot_be_read(
    kernel: Kernel,
    broken: Optional[OSError],
    kind: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if broken is None:
        (kernel.path / "kallsyms").unlink()
    else:

        def denied(path: str) -> bytes:
            raise broken

        monkeypatch.setattr("corelock.probes.kernel_functions.read_symbols", denied)
    with pytest.raises(kind, match="kernel symbols cannot be read") as error:
        kernel.find("vfs_read")
    assert error.value.remedy  # type: ignore[attr-defined]


@pytest.mark.kernel
def test_this_kernel() -> None:
    """Against awk: the same functions, by other means."""
    found = KernelFunctions().find(parse_pattern("vfs_*"))
    program = "$2 ~ /^[tTwW]$/ && $3 ~ /^vfs_/ && $3 !~ /[.]cold/ {print $1, $3}"
    lines = subprocess.run(
        ["awk", program, "/proc/kallsyms"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    ours = [f"{place.address:016x} {place.name}" for place in found.places]
    at_boot = found.refused.get(INIT, ())
    assert len(ours) > 30
    assert ours == [line for line in lines if line.split()[1] not in at_boot]


@pytest.mark.kernel
def test_all_of_this_kernel_within_seconds() -> None:
    found = KernelFunctions().find(parse_pattern("*"))
    assert len(found.places) > 10_000
    assert len({place.address for place in found.places}) == len(found.places)
