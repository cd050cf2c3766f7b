"""``corelock record``."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Optional, Union

import click

from corelock.cli import say
from corelock.cli.options import options_without_output, slow_option, target_options
from corelock.cli.traced import TracedOptions, TracedRun
from corelock.errors import CorelockError
from corelock.model import Accounting
from corelock.recordblocks import EndedBy, RecordingResult
from corelock.recorder import Recorder, record
from corelock.render.units import count, duration

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def _size(ctx: click.Context, param: click.Parameter, value: Optional[str]) -> Optional[int]:
    """A size as ``dd`` and ``perf`` take them: 500M, 2G."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d*)?)([kmgt]?)(?:i?b)?", value.strip().lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
    if not 0 < size < 1 << 63:
        raise click.BadParameter(f"{value!r} is no size; give bytes, or 500M, or 2G")
    return size


@dataclass(frozen=True)
class _Options(TracedOptions):
    """The command line, as given; see ``command``."""

    slow_ns: Optional[int]
    max_size: Optional[int]
    ring_size: Optional[int]
    force: bool


@click.command("record")
@target_options(tid=True)
@click.option(
    "-o", "--output", metavar="FILE", help="The file to make (required); -: stdout, if no terminal."
)
@click.option(
    "--max-size",
    callback=_size,
    metavar="SIZE",
    help="Stop at about this size, as 500M or 2G; names and stacks come on top.",
)
@click.option(
    "--ring-size",
    callback=_size,
    metavar="SIZE",
    help="Room for cycles on their way to the file, of each CPU (default: 4M).",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there already.")
@slow_option
@options_without_output
def command(**given: object) -> None:
    """Every wait and hold of mmap_lock into a file (-o), for reports.

    Recording ends with --duration, Ctrl-C, the target's exit, or --max-size. A
    recording that is killed can be read up to its last second. `corelock report`
    makes of it whatever is asked later; docs/format.md describes the file.
    """
    options = _Options(interval=None, **given)  # type: ignore[arg-type]
    options.check(tid=True)
    if options.output is None:
        raise click.UsageError("Name the file to make: -o FILE.")
    _Run(options, _recorder(options, options.output)).go()


def _recorder(options: _Options, output: str) -> Recorder:
    path: Union[str, int] = output
    if output == "-":
        if sys.stdout is None or sys.stdout.isatty():
            raise CorelockError(
                "a recording is nothing for a terminal", "Name a file (-o FILE), or pipe it on."
            )
        path = sys.stdout.fileno()
    return record(
        path,
        overwrite=options.force,
        max_bytes=options.max_size,
        cycle_ring_bytes=options.ring_size,
        slow_ns=options.slow_ns,
        **options.tracer_arguments(),
    )


class _Run(TracedRun):
    """One run of the command."""

    verb = "Recording"
    ring_remedy = " Raise --slow-us."

    def __init__(self, options: _Options, recorder: Recorder) -> None:
        super().__init__(options, recorder)
        self._options = options
        self._recorder = recorder
        self.symbols = recorder.symbols
        self._name = "stdout" if options.output in (None, "-") else str(options.output)
        self.into = "" if options.output == "-" else f" into {options.output}"

    def wake_fd(self) -> int:
        """Turns readable when no more can be written."""
        return self._recorder.ended_fd()

    def take(self) -> None:
        """Nothing more can be written."""
        self.watch.ended_by = "full"

    def stop(self) -> None:
        """End the recording."""
        by = self.watch.ended_by
        reasons: dict[Optional[str], EndedBy] = {
            None: "duration", "signal": "signal", "target_exit": "target_exit", "full": "error",
        }  # fmt: skip
        self._recorder.stop(reasons[by])

    def end_interval(self, number: int) -> None:
        """There are no intervals."""

    def finish(self, accounting: Accounting) -> None:
        """Say what it came to.

        Raises:
            CorelockError: the file could not be written to the end.
        """
        result = self._recorder.result
        assert result is not None
        self.say(_summary(self._name, result))
        if result.ended_by == "max_size":
            say("corelock: the file has reached --max-size.")
        if result.error is None:
            return
        self._say_losses(accounting)
        raise CorelockError(
            f"cannot write on {self._name}: {result.error}; what is there can be read "
            f"({result.cycles_lost['not_written']:,} cycles are not)",
            "Make room there, or name another file (-o).",
        )


def _summary(name: str, result: RecordingResult) -> str:
    each = f", {result.bytes / result.cycles:.1f} bytes each" if result.cycles else ""
    return (
        f"{name}: {result.cycles:,} cycles in {duration(result.duration_ns)}, "
        f"{count(result.bytes)}B{each}, {result.stacks:,} stacks"
    )
