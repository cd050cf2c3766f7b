"""The examples in the docstrings of the public API are run."""

from __future__ import annotations

import doctest
import importlib
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


def run_examples(module: ModuleType) -> int:
    """How many examples there are; none may fail."""
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    return result.attempted


def test_examples() -> None:
    assert sum(run_examples(importlib.import_module(name)) for name in PURE) >= 6


@pytest.mark.kernel
def test_the_tracer_example() -> None:
    assert run_examples(importlib.import_module("corelock.tracer")) >= 2
