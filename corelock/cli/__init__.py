"""The command line: ``corelock COMMAND``.

A command is a module here with a click command named ``command``; a line in
``COMMANDS`` is all it needs. Modules are imported when their command is used.

Exit codes: 0 done, 1 could not run or attach, 2 wrong usage, 130 Ctrl-C before anything was
measured.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Optional

import click

from corelock.errors import CorelockError, InvalidArgument
from corelock.extras import MissingExtra
from corelock.version import VERSION

#: Command, its module in this package, and its line in the overview.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "blame": ("blame", "Whose holds of mmap_lock each wait was due to."),
    "count": ("count", "How often functions, tracepoints and static probes are hit."),
    "diff": ("diff", "What changed from one recording to another, what got worse first."),
    "doctor": ("doctor", "Whether corelock works on this host, and what is in its way."),
    "export": ("export", "Waits and holds for Prometheus and OpenTelemetry."),
    "hist": ("hist", "Histograms of events' fields, or of times between two."),
    "hold-times": ("hold_times", "How long mmap_lock is waited for and held, by whom."),
    "holders": ("holders", "Who holds mmap_lock now, and who waits for it."),
    "list": ("list_probes", "What can be probed: tracepoints, functions, static probes."),
    "record": ("record", "Every wait and hold of mmap_lock into a file, for reports."),
    "report": ("report", "What recordings say, as text or for other tools."),
    "top": ("top", "Waits and holds of mmap_lock as they happen, on the screen."),
    "trace": ("trace", "Events as they happen, with their fields and arguments."),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"corelock.cli.{COMMANDS[cmd_name][0]}")
        except MissingExtra as error:
            return _missing(cmd_name, error)
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _missing(name: str, error: MissingExtra) -> click.Command:
    """What can be said of a command whose packages are not installed."""

    def refuse(words: tuple[str, ...]) -> None:
        raise error

    return click.Command(
        name,
        callback=refuse,
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, metavar="...")],
        help=f"{COMMANDS[name][1]}\n\nNot to be had here: {error.message}. {error.remedy}",
        context_settings={"ignore_unknown_options": True},
    )


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="corelock COMMAND -h tells more. Needs Linux 5.15 or newer with BTF, "
    "and root or CAP_BPF and CAP_PERFMON.",
)
@click.version_option(VERSION, "-V", "--version", message="corelock %(version)s")
def _cli() -> None:
    """Who waits for mmap_lock, who holds it, for how long, doing what."""


def discard(descriptor: int) -> None:
    """What is still buffered for it must not fail again when Python closes the stream."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


@contextmanager
def unheard() -> Iterator[None]:
    """That stderr cannot be written ends nothing: results go elsewhere."""
    try:
        yield
    except OSError:
        with suppress(OSError):
            discard(2)


def say(text: str) -> None:
    """To stderr, as far as it can be written.

    Names of files, functions and processes are whoever's made them: they move no cursor.
    """
    from corelock.render.text import printable

    with unheard():
        click.echo("\n".join(map(printable, text.split("\n"))), err=True)


def main() -> None:
    """What ``corelock.__main__`` runs."""
    try:
        code = _cli.main(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        # The exit code of a command that has one of its own.
        sys.exit(code)
    except click.UsageError as error:
        with unheard():
            error.show()
        sys.exit(2)
    except click.ClickException as error:
        with unheard():
            error.show()
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        say("corelock: aborted")
        sys.exit(1)
    except CorelockError as error:
        say(f"corelock: {error}")
        sys.exit(2 if isinstance(error, InvalidArgument) else 1)
    except BrokenPipeError:
        discard(1)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            remedy = "Raise the limit of open files (ulimit -n)."
        elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            remedy = "It has no room, or cannot be written to."
            discard(1)
        else:
            raise
        say(f"corelock: {error}\n  {remedy}")
        sys.exit(1)
