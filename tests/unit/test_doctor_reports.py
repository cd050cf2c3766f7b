"""How a diagnosis is written; no kernel needed."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from corelock.diagnosis import Check, Diagnosis
from corelock.export.doctor import SCHEMA, write_doctor_json
from corelock.model import Host
from corelock.render.doctor import doctor_lines, render_doctor

DOC = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text()

GOOD = Diagnosis(
    Host("6.18.44", "x86_64", "db7"),
    (
        Check("kernel", "pass", "Linux 6.18.44, x86_64"),
        Check("btf", "pass", "/sys/kernel/btf/vmlinux"),
        Check("tracefs", "warn", "not mounted", "Only --attach tp needs it: " + "mount it. " * 9),
    ),
    "memcg_id",
    "tp_btf",
    1234,
)
BAD = replace(
    GOOD,
    checks=(
        *GOOD.checks,
        Check("bpf", "fail", "a seccomp filter forbids bpf()", "Let it pass."),
        Check("attach_tp_btf", "fail", "not tried: see bpf()"),
    ),
    attach=None,
    event_cost_ns=None,
)


def test_text_is_aligned_and_fits() -> None:
    lines = list(doctor_lines(BAD))
    assert all(len(line) <= 80 for line in lines)
    assert lines[0] == "pass  kernel            Linux 6.18.44, x86_64"
    assert lines[1] == "pass  BTF               /sys/kernel/btf/vmlinux"
    assert lines[2] == "warn  tracefs           not mounted"
    assert lines[3].startswith(" " * 24 + "-> Only --attach tp")
    assert lines[4].startswith(" " * 27 + "it. mount it.")
    assert "FAIL  bpf()             a seccomp filter forbids bpf()" in lines


def test_verdict_is_the_last_line() -> None:
    *_, blank, verdict = doctor_lines(GOOD)
    assert blank == ""
    assert verdict == "hold-times works here: it attaches by tp_btf, an event costs about 1,234 ns."
    assert len(verdict) <= 80


def test_verdict_names_the_first_failure() -> None:
    assert list(doctor_lines(BAD))[-1] == "hold-times does not work here: see bpf()."


def test_verdict_without_a_cost() -> None:
    *_, verdict = doctor_lines(replace(GOOD, event_cost_ns=None))
    assert verdict == "hold-times works here: it attaches by tp_btf."


def test_wide_terminals_are_used() -> None:
    assert len(list(doctor_lines(GOOD, 200))) < len(list(doctor_lines(GOOD, 80)))


def test_what_is_not_printable_is_shown_so() -> None:
    stream = io.StringIO()
    odd = replace(GOOD, checks=(Check("kernel", "pass", "Linux \x1b[2J"),))
    render_doctor(odd, stream, 80)
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("diagnosis", [GOOD, BAD])
def test_json_has_everything(diagnosis: Diagnosis) -> None:
    stream = io.StringIO()
    write_doctor_json(stream, diagnosis)
    line, _, rest = stream.getvalue().partition("\n")
    assert rest == ""
    written = json.loads(line)
    assert written["schema"] == SCHEMA
    assert written["works"] == (diagnosis is GOOD)
    assert written["attach"] == diagnosis.attach
    assert written["event_cost_ns"] == diagnosis.event_cost_ns
    assert [each["name"] for each in written["checks"]] == [c.name for c in diagnosis.checks]
    described = DOC.partition("\n## corelock doctor")[2]
    for field in (*written, *written["checks"][0]):
        assert f"`{field}`" in described
