"""A BPF object of a test's own, loaded and attached by libbpf itself, without libcorelock."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cffi import FFI
from elftools.elf.elffile import ELFFile

from tools import generate_ffi

ROOT = Path(__file__).resolve().parents[1]

ffi = FFI()
ffi.cdef(
    generate_ffi.declarations(generate_ffi.ABI)
    + """
struct bpf_object *bpf_object__open_file(const char *path, const void *options);
int bpf_object__load(struct bpf_object *object);
void bpf_object__close(struct bpf_object *object);
struct bpf_map *bpf_object__find_map_by_name(const struct bpf_object *object, const char *name);
struct bpf_program *bpf_object__find_program_by_name(const struct bpf_object *object,
                                                     const char *name);
struct bpf_program *bpf_object__next_program(const struct bpf_object *object,
                                             struct bpf_program *program);
int bpf_program__set_autoload(struct bpf_program *program, bool autoload);
int bpf_map__set_max_entries(struct bpf_map *map, uint32_t max_entries);
uint32_t bpf_map__value_size(const struct bpf_map *map);
int bpf_map__set_initial_value(struct bpf_map *map, const void *data, size_t size);
int bpf_map__lookup_elem(const struct bpf_map *map, const void *key, size_t key_size,
                         void *value, size_t value_size, uint64_t flags);
int bpf_map__update_elem(const struct bpf_map *map, const void *key, size_t key_size,
                         const void *value, size_t value_size, uint64_t flags);
struct bpf_link *bpf_program__attach(const struct bpf_program *program);
struct bpf_link *bpf_program__attach_tracepoint(const struct bpf_program *program,
                                                const char *category, const char *name);
struct bpf_link *bpf_program__attach_raw_tracepoint(const struct bpf_program *program,
                                                    const char *name);
struct bpf_link *bpf_program__attach_uprobe(const struct bpf_program *program, bool returns,
                                            int pid, const char *path, size_t offset);
int bpf_link__destroy(struct bpf_link *link);
"""
)
libbpf: Any = ffi.dlopen("libbpf.so.1")


def compile_object(source: Path, directory: Path) -> Path:
    """Compile a BPF program as the Makefile does; the object."""
    built = directory / f"{source.name[: -len('.bpf.c')]}.bpf.o"
    flags = "-target bpf -mcpu=v3 -g -O2 -Wall -Wextra -Werror -Wno-unused-parameter".split()
    folders = [f"-I{ROOT / folder}" for folder in ("vmlinux", "src/abi", "src/bpf")]
    subprocess.run(["clang", *flags, *folders, "-c", source, "-o", built], check=True)
    return built


class BpfObject:
    """One program of an object, loaded. Global variables are set before, by ``constants``."""

    def __init__(
        self, path: Path, program: str, constants: Mapping[str, int], sizes: Mapping[str, int]
    ) -> None:
        self._object = self._got(libbpf.bpf_object__open_file(str(path).encode(), ffi.NULL))
        self._links: list[Any] = []
        self._variables = _variables(path)
        self._program = self._got(
            libbpf.bpf_object__find_program_by_name(self._object, program.encode())
        )
        other = ffi.NULL
        while (other := libbpf.bpf_object__next_program(self._object, other)) != ffi.NULL:
            libbpf.bpf_program__set_autoload(other, other == self._program)
        for name, size in sizes.items():
            self._done(libbpf.bpf_map__set_max_entries(self._map(name), size))
        rodata = self._map(".rodata")
        content = bytearray(libbpf.bpf_map__value_size(rodata))
        for name, value in constants.items():
            offset, size = self._variables[name]
            content[offset : offset + size] = value.to_bytes(size, "little")
        self._done(libbpf.bpf_map__set_initial_value(rodata, bytes(content), len(content)))
        self._done(libbpf.bpf_object__load(self._object))

    def attach_record(self, category: str, name: str) -> None:
        """To a tracepoint's record."""
        self._attached(
            libbpf.bpf_program__attach_tracepoint(self._program, category.encode(), name.encode())
        )

    def attach_arguments(self, name: str) -> None:
        """To a tracepoint's arguments."""
        self._attached(libbpf.bpf_program__attach_raw_tracepoint(self._program, name.encode()))

    def attach_user(self, path: Path, offset: int) -> None:
        """To a place in the code of a file."""
        self._attached(
            libbpf.bpf_program__attach_uprobe(self._program, False, -1, str(path).encode(), offset)
        )

    def attach(self) -> None:
        """To what the program itself says."""
        self._attached(libbpf.bpf_program__attach(self._program))

    def detach(self) -> None:
        """From everything."""
        while self._links:
            libbpf.bpf_link__destroy(self._links.pop())

    def put(self, name: str, index: int, value: bytes) -> None:
        """One entry of an array."""
        self._done(
            libbpf.bpf_map__update_elem(
                self._map(name), index.to_bytes(4, "little"), 4, value, len(value), 0
            )
        )

    def get(self, name: str, index: int) -> bytes:
        """The same, read."""
        table = self._map(name)
        value = ffi.new("char[]", libbpf.bpf_map__value_size(table))
        key = index.to_bytes(4, "little")
        self._done(libbpf.bpf_map__lookup_elem(table, key, 4, value, len(value), 0))
        return bytes(ffi.buffer(value))

    def variable(self, name: str, at: int = 0, size: int = 4) -> int:
        """A global variable's value, or that of a member of it."""
        offset = self._variables[name][0] + at
        return int.from_bytes(self.get(".bss", 0)[offset : offset + size], "little")

    def set_variable(self, name: str, value: int) -> None:
        """Give it another one."""
        offset, size = self._variables[name]
        content = bytearray(self.get(".bss", 0))
        content[offset : offset + size] = value.to_bytes(size, "little")
        self.put(".bss", 0, bytes(content))

    def close(self) -> None:
        """Detach and unload."""
        self.detach()
        libbpf.bpf_object__close(self._object)

    def _attached(self, link: Any) -> None:
        self._links.append(self._got(link))

    def _map(self, name: str) -> Any:
        return self._got(libbpf.bpf_object__find_map_by_name(self._object, name.encode()))

    def _got(self, pointer: Any) -> Any:
        assert pointer != ffi.NULL, f"libbpf: errno {ffi.errno}"
        return pointer

    def _done(self, result: int) -> None:
        assert result == 0, f"libbpf: {result}"


def _variables(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and size of each global variable in its section."""
    with path.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".symtab").iter_symbols()
        return {
            symbol.name: (symbol["st_value"], symbol["st_size"])
            for symbol in symbols
            if symbol["st_info"]["type"] == "STT_OBJECT"
        }
