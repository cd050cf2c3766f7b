"""The examples in the docstrings of the public API and in docs/embedding.md are run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import pytest

PURE = [
    "corelock.exporters.edges",
    "corelock.exporters.otlp",
    "corelock.histogram",
    "corelock.model",
    "corelock.render.text",
    "corelock.symbolize.maps",
    "corelock.symbolize.syscalls",
]
TRACING = [
    "corelock.aio",
    "corelock.checks",
    "corelock.event_trace",
    "corelock.limits",
    "corelock.recorder",
    "corelock.recording",
    "corelock.sampler",
    "corelock.tracer",
]
EMBEDDING = Path(__file__).resolve().parents[2] / "docs" / "embedding.md"


def run_examples(module: ModuleType) -> int:
    """How many examples there are; none may fail."""
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    return result.attempted


def test_examples() -> None:
    assert sum(run_examples(importlib.import_module(name)) for name in PURE) >= 6


@pytest.mark.kernel
@pytest.mark.parametrize("name", TRACING)
def test_examples_that_trace(name: str) -> None:
    assert run_examples(importlib.import_module(name)) >= 2


@pytest.mark.kernel
def test_the_page_on_embedding() -> None:
    result = doctest.testfile(str(EMBEDDING), module_relative=False)
    assert result.failed == 0
    assert result.attempted >= 6
