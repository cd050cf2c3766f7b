"""docs/kernels.md: what the page says of what a run of ``make vmtest`` found."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.vm import page as kernels_page
from tests.vm.page import FEATURES, page


def kernel(name: str, **features: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "architecture": "amd64",
        "release": f"{name}.1",
        "package": f"`linux-image-{name}` 1-1, from suite",
        "features": features,
    }


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


def test_a_kernel_that_could_not_be_had_has_a_line() -> None:
    gone = {"name": "6.16", "architecture": "arm64", "features": {"holders": {"state": "fails"}}}
    text = page([kernel("6.1"), gone])
    assert re.search(r"^\| 6.16: not booted \| arm64 \|.* fails \|.*$", text, re.M)
    assert "\n- 6.16: none\n" in text


@pytest.mark.parametrize(
    ("whole_names", "whole_features", "written"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
def test_it_is_written_after_whole_runs(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    whole_names: bool,
    whole_features: bool,
    written: bool,
) -> None:
    text = Path(kernels_page.__file__).with_name("kernels.toml").read_text()
    names = re.findall(r'^name = "(.+)"$', text, re.M)
    features = {name: {"state": "works"} for name in FEATURES[0 if whole_features else 1 :]}
    results = [kernel(name, **features) for name in names[0 if whole_names else 1 :]]
    (tmp_path / "results.json").write_text(json.dumps(results))
    monkeypatch.setattr(kernels_page, "BUILD", tmp_path)
    monkeypatch.setattr(kernels_page, "ROOT", tmp_path)
    monkeypatch.setattr(kernels_page, "PAGE", tmp_path / "kernels.md")
    kernels_page.main()
    assert (tmp_path / "kernels.md").exists() == written
