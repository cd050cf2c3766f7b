"""dist/SHA256SUMS: a copy that was cut short on the way can be told from what was made."""

from __future__ import annotations

import hashlib

from tests.packaging.artifacts import ROOT


def test_sums_are_of_all_that_was_made() -> None:
    made = sorted((ROOT / "dist").glob("corelock-*"))
    assert len(made) >= 3
    expected = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in made]
    assert sorted((ROOT / "dist" / "SHA256SUMS").read_text().splitlines()) == sorted(expected)
