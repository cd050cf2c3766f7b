"""docs/kernels.md: what the page says of what a run of ``make vmtest`` found."""

from __future__ import annotations

from typing import Any

from tests.vm.page import page


def kernel(name: str, **features: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name, "architecture": "amd64", "suite": "suite", "package": f"linux-image-{name}",
        "version": "1-1", "release": f"{name}.1", "features": features,
    }  # fmt: skip


def test_refusals_are_numbered_by_their_words() -> None:
    no_tracepoints = {"state": "refused", "reason": "no tracepoints"}
    results = [
        kernel("5.10", doctor={"state": "works"}, **{"blame, tp": no_tracepoints}),
        kernel("5.9", holders={"state": "refused", "reason": "too old"}, doctor=no_tracepoints),
    ]
    text = page(results)
    lines = [line.strip("| ").split(" | ") for line in text.splitlines()]
    header = next(line for line in lines if line[0] == "kernel")
    for release, words in {
        "5.10.1": {"`doctor`": "works", "`blame` `tp`": "refused (1)", "`holders`": "not run"},
        "5.9.1": {"`doctor`": "refused (1)", "`holders`": "refused (2)"},
    }.items():
        line = next(line for line in lines if line[0] == release)
        assert len(line) == len(header)
        found = dict(zip(header, line))
        assert {name: found[name] for name in words} == words
        assert found["architecture"] == "amd64"
    assert "\n1. no tracepoints\n2. too old\n" in text
    assert "- 5.10: `linux-image-5.10` 1-1, from suite\n" in text


def test_failures_are_told_and_the_page_has_nothing_of_its_own() -> None:
    results = [kernel("6.1", holders={"state": "fails"})]
    assert "| fails |" in page(results)
    assert page(results) == page(results)
