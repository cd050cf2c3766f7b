"""Lines and JSON of events, and which values are meant: nothing here traces."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any, Union

import pytest

from corelock._native.hits import UserStack
from corelock.errors import InvalidArgument
from corelock.events import Event, EventAccounting
from corelock.export.events import write_event_json
from corelock.model import Frame
from corelock.probes.arguments import array_offsets, register_offsets, typed, untyped
from corelock.probes.operands import Operand
from corelock.probes.places import Field
from corelock.probes.tracepoints import parse_format
from corelock.probes.values import Value, all_values, choose
from corelock.render.events import EventLines, event_accounting_lines, quoted

CLOCK_NS = 1_700_000_000_000_000_000


def event(values: Mapping[str, Union[int, str, None]], **more: Any) -> Event:
    members: dict[str, Any] = {
        "probe": "sched:sched_switch", "time_ns": 1_234_567_891, "cpu": 3, "comm": "a name",
        "pid": 17, "tid": 18, "host_pid": 17, "host_tid": 18, "values": values, "unread": (),
        "cut": (), "kernel_stack": (), "operation": "", "user": UserStack((), False, None, None),
        "stack_failed": False,
    }  # fmt: skip
    return Event(**{**members, **more})


# --- lines ----------------------------------------------------------------------


def lines(*labels: str, **hexadecimal: frozenset[str]) -> EventLines:
    return EventLines(
        labels, {"sched:sched_switch": hexadecimal.get("hexed", frozenset())}, CLOCK_NS
    )


def test_a_line() -> None:
    values = {"n": -5, "address": 0xFFFF888100000000, "text": "here", "gone": None, "none": None}
    made = lines("sched:sched_switch", hexed=frozenset(["address"]))
    line = made.line(event(values, unread=("gone",)))
    assert line[8:46] == ".234567 a name              17     18 "
    assert line[46:] == 'n=-5 address=0xffff888100000000 text="here" gone=? none=NULL'
    assert made.heading()[:53] == "TIME            COMM               PID    TID FIELDS"


def test_columns_are_below_their_names() -> None:
    made = lines("sched:sched_switch", "a:b")
    heading, line = made.heading(), made.line(event({"n": 1}))
    for name, word in (("COMM", "a name"), ("PROBE", "sched:sched_switch"), ("FIELDS", "n=1")):
        assert line.index(word) == heading.index(name)
    for name, word in (("PID", "17"), ("TID", "18")):
        assert line.index(word) + 2 == heading.index(name) + 3


def test_wide_ids_make_columns_wider_and_stay() -> None:
    made = lines("a:b")
    wide = made.line(event({"n": 1}, pid=4_194_304, tid=4_194_304))
    assert made.line(event({"n": 1})).index("n=1") == wide.index("n=1")


def test_texts_that_may_go_on() -> None:
    assert lines("a:b").line(event({"t": "x"}, cut=("t",))).endswith('t="x"...')


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", '"plain"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("\x1b[2J\n\t\r\x00", '"\\x1b[2J\\n\\t\\r\\x00"'),
        ("\u202e\u2028", '"\\u202e\\u2028"'),
        ("Grüße, 世界", '"Grüße, 世界"'),
    ],
)
def test_what_could_move_the_cursor_is_escaped(text: str, shown: str) -> None:
    assert quoted(text) == shown


def test_the_accounting() -> None:
    accounting = EventAccounting(100, 50, 20, {"a:b": 29}, 0, 0, 3, True)
    assert list(event_accounting_lines(accounting, 40)) == [
        "hits 100 = printed 40 + filtered 20 + lost 29 + after the last 10",
        "UNBALANCED by 1: these numbers cannot be trusted",
        "  lost of a:b: 29",
        "  corelock's own, in no number above: 3",
    ]
    assert accounting.losses == {"ring_full": 29, "unaccounted": 1, "main_thread_ended": 1}


# --- JSON -----------------------------------------------------------------------


def test_json_of_an_event() -> None:
    stream = io.StringIO()
    values = {"n": 2**64 - 1, "t": "\x1b\ud800", "gone": None}
    frames = [Frame(0x1010, "f", 0x10, "lib.so"), Frame(0x2000, None, None, None)]
    write_event_json(stream, event(values, unread=("gone",), cut=("t",)), None, frames, "cut")
    found = json.loads(stream.getvalue())
    assert found["fields"]["n"] == 2**64 - 1 and found["fields"]["gone"] is None
    assert (found["unread"], found["cut"]) == (["gone"], ["t"])
    assert "kernel_stack" not in found and "host_pid" not in found
    assert found["user_stack"][0] == {
        "name": "f", "offset": 0x10, "address": 0x1010, "module": "lib.so",
    }  # fmt: skip
    assert found["user_stack_note"] == "cut"
    write_event_json(stream, event({}, host_pid=99), [], None, None)
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert (last["host_pid"], last["kernel_stack"], last["fields"]) == (99, [], {})
    assert "unread" not in last and "user_stack" not in last


# --- which values ---------------------------------------------------------------

FIELDS = parse_format(
    "\tfield:const char * name;\toffset:8;\tsize:8;\tsigned:0;\n"
    "\tfield:int prio;\toffset:16;\tsize:4;\tsigned:1;\n"
    "\tfield:char comm_of[16];\toffset:20;\tsize:16;\tsigned:0;\n"
    "\tfield:unsigned long args[6];\toffset:40;\tsize:48;\tsigned:0;\n"
)


def test_all_that_can_be_shown() -> None:
    assert [(value.name, value.is_hex) for value in all_values(FIELDS)] == [
        ("name", True), ("prio", False), ("comm_of", False),
    ]  # fmt: skip
    assert all_values(untyped([0, 8])) == ()


def test_forms() -> None:
    wanted = ["prio", "hex(prio)", "u8(prio)", "str(name)", " str( name ) "]
    ((plain, hexed, low, text, same),) = choose(wanted, [FIELDS])
    assert plain == Value("prio", Operand("CONTEXT", 16, 4, True))
    assert hexed == Value("hex(prio)", Operand("CONTEXT", 16, 4, False), True)
    assert low == Value("u8(prio)", Operand("CONTEXT", 16, 1, False))
    assert text.operand.text == "POINTED" and text.operand == same.operand


def test_each_place_has_what_it_has() -> None:
    other = (Field("ret", "long", Operand("CONTEXT", 16, 8, True)),)
    chosen = choose(["prio", "ret", "cpu"], [FIELDS, other])
    assert [[value.name for value in values] for values in chosen] == [
        ["prio", "cpu"],
        ["ret", "cpu"],
    ]
    with pytest.raises(InvalidArgument, match="there is no field rat") as refused:
        choose(["rat"], [FIELDS, other])
    assert "Did you mean ret?" in refused.value.remedy and "prio" in refused.value.remedy


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("", "not a field"),
        ("prio+1", "not a field"),
        ("str(", "not a field"),
        ("args", "cannot be shown: it is an array"),
        ("str(prio)", "no address"),
        ("str(comm_of)", "a text itself"),
        ("str(cpu)", "no address"),
        ("hex(comm_of)", "is a text"),
        ("s64(prio)", "32 bits only"),
        ("s12(prio)", "no form s12"),
        ("s32(pid)", "has no other form"),
        ("common_pid", "tid has the same"),
    ],
)
def test_fields_that_make_no_sense(wanted: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        choose([wanted], [FIELDS])
    assert words in refused.value.message and refused.value.remedy


# --- arguments of functions -----------------------------------------------------


def test_where_arguments_are() -> None:
    # struct pt_regs: r15 r14 r13 r12 bp bx r11 r10 r9 r8 ax cx dx si di; regs[0] to regs[30]
    assert register_offsets("x86_64") == (112, 104, 96, 88, 72, 64)
    assert register_offsets("aarch64") == (0, 8, 16, 24, 32, 40, 48, 56)
    assert register_offsets("sparc") == ()


def test_arguments_by_name_and_number() -> None:
    class Argument:
        def __init__(self, name: str, size: int, signed: bool, is_pointer: bool) -> None:
            self.name, self.size, self.signed, self.is_pointer = name, size, signed, is_pointer

    known = [
        Argument("file", 8, False, True),
        Argument("", 4, True, False),
        Argument("n", 4, True, False),
    ]
    fields = typed(known, array_offsets(3))
    assert [(each.name, each.type) for each in fields] == [
        ("file", "void *"), ("n", "s32"), ("arg1", "register"), ("arg2", "register"),
        ("arg3", "register"),
    ]  # fmt: skip
    assert fields[1].operand == Operand("CONTEXT", 16, 4, True)
    assert [value.name for value in all_values(fields)] == ["file", "n"]
