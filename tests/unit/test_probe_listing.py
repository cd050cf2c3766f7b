"""Listed probes: gathered by what is written for them, and shown in 80 columns."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

from corelock.export.probes import write_overview_json, write_probes_json
from corelock.probes.finding import Finder, Matched
from corelock.probes.listing import FileOfProcess, KindOfProbe, Listed, Listing, list_probes
from corelock.probes.operands import Operand
from corelock.probes.patterns import parse_pattern
from corelock.probes.places import WAYS, Candidate, Field, Place
from corelock.render.probes import render_files, render_overview, render_probes


def matched(pattern: str, *places: Place, doubt: str = "") -> Matched:
    candidates = tuple(Candidate(place, WAYS[place.kind], doubt) for place in places)
    return Matched(parse_pattern(pattern), candidates, {}, False)


def shown(*probes: Listed, in_full: bool = True) -> list[str]:
    stream = io.StringIO()
    render_probes(probes, stream, in_full)
    return stream.getvalue().splitlines()


def listed(*each: Matched) -> tuple[Listed, ...]:
    return list_probes(Finder(), each, with_fields=False).probes


def number(name: str, type_: str = "int") -> Field:
    return Field(name, type_, Operand("CONTEXT", 8, 4, True))


def static(offset: int, *fields: Field, semaphore: int = 0) -> Place:
    return Place("USER", "prog:mine:here", "/bin/prog", offset, semaphore, fields)


def test_functions_of_one_name_are_one_line() -> None:
    twice = (Place("FUNCTION", "show", "show", 16), Place("FUNCTION", "show", "show", 32))
    in_module = Place("FUNCTION", "show [ext4]", "show", 48)
    probes = listed(matched("show", *twice, in_module), matched("sh*", *twice))
    assert [probe.pattern for probe in probes] == ["kprobe:ext4:show", "show"]
    assert parse_pattern(probes[0].pattern).group.text == "ext4"
    assert shown(*probes) == [
        "kprobe:ext4:show",
        "    at 0x30",
        "show",
        "    at 0x10",
        "    at 0x20",
    ]


def test_a_doubt_is_said_beside_the_name() -> None:
    place = Place("FUNCTION", "do_int3", "do_int3")
    (probe,) = listed(matched("do_int3", place, doubt="blacklisted for kprobes"))
    assert shown(probe) == [
        "do_int3  (blacklisted for kprobes)", "    its address is hidden",
    ]  # fmt: skip


def test_a_static_probe_and_its_locations() -> None:
    same = matched("u:prog:here", static(16, number("arg1")), static(32, number("arg1")))
    assert shown(*listed(same)) == [
        "u:prog:mine:here",
        "    arg1  int",
        "    at 0x10 of /bin/prog",
        "    at 0x20 of /bin/prog",
    ]
    other = static(32, number("arg1", "char"), number("arg2"), semaphore=64)
    assert shown(*listed(matched("u:prog:here", static(16), other))) == [
        "u:prog:mine:here",
        "    at 0x10 of /bin/prog",
        "    at 0x20 of /bin/prog, semaphore at 0x40",
        "        arg1  char",
        "        arg2  int",
    ]
    assert shown(*listed(matched("u:prog:here", static(16))))[1] == "    it has no arguments"
    assert shown(*listed(same), in_full=False) == ["u:prog:mine:here"]


def test_a_static_probe_of_a_file_that_no_pattern_can_name() -> None:
    place = Place("USER", "memfd:x:mine:here", "/proc/1/exe", 16)
    (probe,) = listed(matched("u::*", place))
    assert probe.pattern == "u::mine:here"
    pattern = parse_pattern(probe.pattern)
    assert (pattern.group.text, pattern.name.text) == ("mine", "here")


def fields(*fields: Field) -> Listed:
    place = Place("TRACEPOINT", "a:b", "b", 1, 0, fields)
    return Listed("TRACEPOINT", "t:a:b", (place,), fields)


def test_fields_in_columns_of_eighty() -> None:
    text = Operand("CONTEXT", 8, 4, text="DATA_LOC", length=64)
    probe = fields(
        number("x"),
        Field("a_field_with_a_long_name", "const struct what_is_called_for_long_too *", None, "so"),
        Field("name", "__data_loc char[]", text),
        Field("s", "const char *", Operand("CONTEXT", 8)),
        Field("why", "u8[6]", None, "it is an array of which nobody knows what to make, really"),
    )
    assert shown(probe) == [
        "t:a:b",
        "    x                         int",
        "    a_field_with_a_long_name  const struct what_is_called_for_long_too *",
        "                              cannot be used: so",
        "    name                      __data_loc char[]",
        "                              text, 63 bytes at most",
        "    s                         const char *                    str(s) is its text",
        "    why                       u8[6]",
        "                              cannot be used: it is an array of which nobody",
        "                              knows what to make, really",
    ]
    assert max(map(len, shown(probe))) <= 80


def test_names_cannot_move_the_cursor() -> None:
    place = Place("USER", "a\x1b[2J:f", "/tmp/a\x1b[2J", 16)
    probe = Listed("USER", place.label, (place,))
    assert shown(probe) == ["a?[2J:f", "    at 0x10 of /tmp/a?[2J"]


def test_bytes_that_are_no_text_in_json() -> None:
    place = Place("USER", "a\udcff:f", "/tmp/a\udcff", 16)
    stream = io.StringIO()
    listing = Listing((Listed("USER", place.label, (place,)),), {"why": ("b\udcff",)})
    write_probes_json(stream, listing)
    value = json.loads(stream.getvalue().encode())
    assert value["probes"][0]["pattern"] == "a\\xff:f"
    assert value["probes"][0]["places"] == [{"file": "/tmp/a\\xff", "offset": 16}]
    assert value["refused"] == {"why": ["b\\xff"]}


def overview(*kinds: KindOfProbe) -> Sequence[str]:
    stream = io.StringIO()
    render_overview(kinds, stream)
    return stream.getvalue().splitlines()


def test_what_could_not_be_counted() -> None:
    assert overview(
        KindOfProbe("tracepoint", "t:CATEGORY:EVENT", None, "", "tracefs is not mounted"),
        KindOfProbe("kernel function", "FUNCTION", 57_936, "vfs_read"),
    ) == [
        "KIND              COUNT  PATTERN           EXAMPLE",
        "tracepoint            -  t:CATEGORY:EVENT",
        "kernel function  57,936  FUNCTION          vfs_read",
    ]


def test_files_that_cannot_be_looked_at() -> None:
    stream = io.StringIO()
    files = [
        FileOfProcess("bash", "/usr/bin/bash", 1_234),
        FileOfProcess("libx", "/opt/libx.so", None, "the file was deleted"),
    ]
    render_files(files, stream)
    assert stream.getvalue().splitlines() == [
        "FILE  STATIC PROBES  PATH",
        "bash          1,234  /usr/bin/bash",
        "libx              -  /opt/libx.so (the file was deleted)",
    ]
    stream = io.StringIO()
    write_overview_json(stream, [], files)
    assert json.loads(stream.getvalue())["files"] == [
        {"name": "bash", "path": "/usr/bin/bash", "static_probes": 1234, "why_not": None},
        {"name": "libx", "path": "/opt/libx.so", "static_probes": None,
         "why_not": "the file was deleted"},
    ]  # fmt: skip
