"""Patterns taken apart, and refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corelock.errors import InvalidArgument
from corelock.probes.patterns import ANY, Names, Pattern, parse_pattern


def parsed(kind: Any, name: str, library: str = "", group: str = "*") -> tuple[Any, ...]:
    return kind, Names(name), library, Names(group)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vfs_read", parsed("FUNCTION", "vfs_read")),
        ("vfs_read*|do_[a-c]?.isra.0", parsed("FUNCTION", "vfs_read*|do_[a-c]?.isra.0")),
        ("p::vfs_*", parsed("FUNCTION", "vfs_*")),
        ("kprobe:vfs_*", parsed("FUNCTION", "vfs_*")),
        ("kfunc:vfs_*", parsed("FUNCTION", "vfs_*")),
        ("fentry:vmlinux:vfs_*", parsed("FUNCTION", "vfs_*", group="vmlinux")),
        ("kprobe:ext4:ext4_*", parsed("FUNCTION", "ext4_*", group="ext4")),
        ("c:malloc", parsed("USER", "malloc", "c")),
        ("p:c:malloc", parsed("USER", "malloc", "c")),
        ("uprobe:libc:malloc", parsed("USER", "malloc", "libc")),
        ("uprobe:/usr/bin/x:main", parsed("USER", "main", "/usr/bin/x")),
        ("./test:read*", parsed("USER", "read*", "./test")),
        ("/opt/a b/x:f", parsed("USER", "f", "/opt/a b/x")),
        ("/x:ns::f(int, char*)", parsed("USER", "ns::f(int, char*)", "/x")),
        ("/x:operator+", parsed("USER", "operator+", "/x")),
        ("/x:P::operator++|f<1+4>", parsed("USER", "P::operator++|f<1+4>", "/x")),
        ("t:sched:sched_*", parsed("TRACEPOINT", "sched_*", group="sched")),
        ("tracepoint:*:sys_enter_m*", parsed("TRACEPOINT", "sys_enter_m*", group="*")),
        ("u:libc:setjmp", parsed("STATIC", "setjmp", "libc")),
        ("u:libc:rtld:init_*", parsed("STATIC", "init_*", "libc", "rtld")),
        ("usdt:/usr/bin/x:provider:name", parsed("STATIC", "name", "/usr/bin/x", "provider")),
        ("usdt:/usr/bin/x:name", parsed("STATIC", "name", "/usr/bin/x")),
        ("u::gc__start", parsed("STATIC", "gc__start")),
        # By what funccount does, a library of any name.
        ("q:foo", parsed("USER", "foo", "q")),
    ],
)
def test_forms(text: str, expected: tuple[Any, ...]) -> None:
    kind, name, library, group = expected
    assert parse_pattern(text) == Pattern(text, kind, name, library, group)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("vfs\0read", "NUL"),
        ("x:", "function is missing"),
        (":x", "library is missing"),
        ("p:x", "p::func is of the kernel"),
        ("p::", "function is missing"),
        ("q:lib:foo", "no probes of the kind 'q'"),
        ("a::b", "no probes of the kind 'a'"),
        ("t:sched_switch", "category and an event"),
        ("t:a:b:c", "category and an event"),
        ("t::b", "category is missing"),
        ("t:a:", "event is missing"),
        ("u:setjmp", "file and a name"),
        ("u:a:b:c:d", "file and a name"),
        ("uprobe:malloc", "file and a function"),
        ("uprobe::malloc", "library is missing"),
        ("kprobe:a:b:c", "module and a function"),
        ("kretprobe:vfs_read", "not their returns"),
        ("r:c:malloc", "not their returns"),
        ("uretprobe:libc:malloc", "not their returns"),
        ("interval:s:1", "no probes of the kind 'interval'"),
        ("vfs read", "no function of the kernel can be called 'vfs read'"),
        ("vfs_read+8", "not places within"),
        ("c:malloc+4", "not places within"),
        ("p:c:malloc+0x1F", "not places within"),
        ("uprobe:/usr/bin/x:ns::f(int)+12", "not places within"),
        ("c:free|malloc+4", "not places within"),
        ("/usr/bin/x", "function is missing after the path"),
        ("a||b", "alternatives in 'a||b' is empty"),
        ("c:|malloc", "alternatives in '|malloc' is empty"),
        ("t:sched:sched_*|", "alternatives"),
    ],
)
def test_what_cannot_be_meant(text: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_pattern(text)
    assert words in refused.value.message
    assert repr(text) in refused.value.message
    assert "t:category:event" in refused.value.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vfs_(read", "missing ), unterminated subpattern at character 5"),
        ("c:*", "nothing to repeat at character 1"),
        ("t:(:x", "category and an event"),
        ("a{99999999999999}", "too large"),
        ("(" * 20_000, "too much for a regular expression"),
        ("c:", "function is missing"),
    ],
)
def test_regular_expressions_that_are_none(text: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match="not a pattern") as refused:
        parse_pattern(text, regex=True)
    assert words in refused.value.message


def test_colons_within_brackets_belong_to_the_expression() -> None:
    assert parse_pattern("^vfs_(?:read|write)$", regex=True).kind == "FUNCTION"
    assert parse_pattern("[:a]x", regex=True).name == Names("[:a]x", True)
    assert parse_pattern(r"a\)b:c", regex=True).library == r"a\)b"
    pattern = parse_pattern("t:sched:(?i:SCHED_S.*)", regex=True)
    assert pattern.group == Names("sched", True)
    assert pattern.name.matches("sched_switch")


@pytest.mark.parametrize(
    ("names", "yes", "no"),
    [
        (Names("vfs_*"), ["vfs_", "vfs_read"], ["xvfs_read", "VFS_read", "vfs"]),
        (Names("a|b*"), ["a", "b", "bc"], ["ab", "ac", "a|b"]),
        (Names("x?[a-c]"), ["x1a"], ["xa", "x1d"]),
        (Names("x[!a]"), ["xb"], ["xa"]),
        (Names("a.b"), ["a.b"], ["axb"]),
        (Names("^a"), ["^a"], ["a"]),
        (Names("vfs_.*|do_x", True), ["vfs_read", "do_x"], ["do_xy", "my_vfs_read"]),
        (Names("^vfs_read$", True), ["vfs_read"], ["vfs_readv"]),
        (Names("vfs_", True), ["vfs_"], ["vfs_read"]),
        (Names("(read|write)$", True), ["read"], ["pread"]),
        (ANY, ["", "anything"], []),
    ],
)
def test_all_of_a_name_has_to_match(names: Names, yes: list[str], no: list[str]) -> None:
    assert [name for name in yes + no if names.matches(name)] == yes


def test_names_in_full_are_known_as_such() -> None:
    assert Names("a|b").exact == {"a", "b"}
    assert [Names(text).exact for text in ("a|b*", "a?", "[a]")] == [None] * 3
    assert Names("a", True).exact is None


def test_a_doubtful_expression_leaves_stderr_alone() -> None:
    code = "from corelock.probes.patterns import parse_pattern as p; p('[[a]x', True)"
    run = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")


@given(st.text(alphabet="ptuc:/*?[]|()\\.+^$a1\0 \udc80é", max_size=20), st.booleans())
def test_any_text_is_a_pattern_or_refused(text: str, regex: bool) -> None:
    try:
        pattern = parse_pattern(text, regex)
    except InvalidArgument as error:
        assert error.remedy
        error.message.encode()
    else:
        assert pattern.text == text
        pattern.name.matches("vfs_read")
        pattern.group.matches("sched")
