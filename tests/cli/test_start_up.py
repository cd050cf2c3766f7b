"""What ``hold-times`` imports to start: with every extra installed no more than without."""

from __future__ import annotations

import subprocess
import sys

#: Each of them starts with the command, or has it say that it cannot work here.
OURS = {
    # The command line, and what ends a run.
    "corelock", "corelock.version", "corelock.errors", "corelock.arguments", "corelock.cli",
    "corelock.cli.hold_times", "corelock.cli.options", "corelock.cli.traced", "corelock.cli.run",
    "corelock.cli.lifetime", "corelock.outfile", "corelock.extras",
    # Tracing, and what it measures.
    "corelock.tracer", "corelock.target", "corelock._native", "corelock._native.convert",
    "corelock._native.failures", "corelock._native.lock_reader", "corelock._native.session",
    "corelock._native.values", "corelock._ffi", "corelock._rows",
    "corelock.model", "corelock.names", "corelock.histogram", "corelock.lock_probe",
    # Options are checked against the fields that the table has.
    "corelock.render", "corelock.render.table", "corelock.render.grouping",
    "corelock.render.columns", "corelock.render.text", "corelock.render.units",
    # The kernel's symbols; a user's only when there is a stack.
    "corelock.symbolize", "corelock.symbolize.counts", "corelock.symbolize.kernel",
    "corelock.symbolize.probes", "corelock.symbolize.syscalls",
}  # fmt: skip

#: What those import themselves, and click with the first text it translates (locale); with it
#: comes what it needs, which each Python knows best.
THEIRS = (
    "bisect", "click", "collections", "contextlib", "dataclasses", "errno", "functools", "heapq",
    "importlib", "itertools", "locale", "math", "os", "pathlib", "platform", "re", "select",
    "signal", "stat", "struct", "threading", "time", "types", "typing", "unicodedata", "weakref",
)  # fmt: skip

#: Of the extras, of asyncio programs and notebooks, and what only some runs need.
OTHERS = {
    "IPython", "asyncio", "cffi", "concurrent", "duckdb", "elftools", "google", "html", "ipykernel",
    "json", "logging", "multiprocessing", "numpy", "opentelemetry", "prometheus_client", "pyarrow",
    "pydemumble", "pytest", "rich", "socket", "subprocess", "textual", "zlib",
}  # fmt: skip


def imported(code: str) -> set[str]:
    """The modules that a fresh interpreter has after ``code``."""
    code = f"{code}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_no_more_is_imported_than_is_argued_for() -> None:
    found = imported("import corelock.cli.hold_times")
    assert found - imported(f"import {', '.join(THEIRS)}") == OURS


def test_extras_cost_those_nothing_who_do_not_use_them() -> None:
    before, found = imported(""), imported("import corelock.cli.hold_times")
    assert not OTHERS & {name.partition(".")[0] for name in found - before}


def test_what_others_import_is_there_to_be_found() -> None:
    """Or the test above would pass for want of them."""
    assert "numpy" in imported("import corelock\ncorelock.open_recording")
    assert "asyncio" in imported("import corelock\ncorelock.AsyncTracer")


def test_importing_corelock_imports_two_modules() -> None:
    ours = {name for name in imported("import corelock") if name.partition(".")[0] == "corelock"}
    assert ours == {"corelock", "corelock.version"}


def test_every_name_that_is_promised_is_there() -> None:
    code = "import corelock\nfor name in corelock.__all__: assert getattr(corelock, name), name"
    found = imported(f"{code}\nassert set(corelock.__all__) <= set(dir(corelock))")
    assert "corelock.recorder" in found
