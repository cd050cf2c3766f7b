"""``corelock list``."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Optional

import click

from corelock.cli import say
from corelock.cli.options import json_option
from corelock.cli.probing import last_options, regex_option
from corelock.cli.run import Output
from corelock.errors import CorelockError
from corelock.probes.finding import Finder, Matched
from corelock.probes.listing import Listing, files_of_process, list_probes, overview
from corelock.probes.patterns import parse_pattern
from corelock.render.text import flow

#: Of names that nothing can be attached to, so many are said with -v for each reason.
_NAMED = 200


@click.command("list")
@click.argument("patterns", nargs=-1, metavar="[PATTERN...]")
@click.option(
    "-p", "--pid", type=int, metavar="PID", help="Files are those of this process, as it sees them."
)
@regex_option
@json_option()
@last_options
def command(
    patterns: tuple[str, ...],
    pid: Optional[int],
    regex: bool,
    json: bool,
    output: Optional[str],
    quiet: bool,
    verbose: bool,
) -> None:
    """What can be probed: tracepoints, functions and static probes, by PATTERN.

    t:CATEGORY:EVENT are tracepoints, FUNCTION the kernel's functions, FILE:FUNCTION those of a
    program or library, u:FILE:PROBE static probes (USDT); * ? [a-z] and a|b may be in names. A
    single match is shown with its fields or arguments, others with -v. Without a pattern: how
    many there are; of a process (-p), in which files.

    What is listed can be given to count, hist and trace. Nothing is attached, but to functions of
    the kernel for a moment, to see whether it takes any probes there.
    """
    wanted = [parse_pattern(text, regex) for text in patterns]
    with closing(Output(output)) as out, Finder(pid) as finder:
        if not wanted:
            _overview(finder, pid, json, out, quiet)
            return
        matched = [finder.find(pattern) for pattern in wanted]
        labels = {
            (one.pattern.kind, each.place.label) for one in matched for each in one.candidates
        }
        in_full = verbose or len(labels) == 1
        listing = list_probes(finder, matched, with_fields=in_full or json)
        if not listing.probes:
            raise _nothing(listing)
        with out.writing() as stream:
            if json:
                from corelock.export.probes import write_probes_json

                write_probes_json(stream, listing)
            else:
                from corelock.render.probes import render_probes

                render_probes(listing.probes, stream, in_full)
    if not quiet:
        _say_refused(listing, verbose)
        _say_obstacle(matched)


def _say_obstacle(matched: Iterable[Matched]) -> None:
    """Where functions of the kernel are listed, that none can be attached to, if so."""
    candidates = [
        each for one in matched if one.pattern.kind == "FUNCTION" for each in one.candidates
    ]
    if not candidates:
        return
    from corelock.attaching import why_no_functions

    why = why_no_functions(candidates)
    if why:
        say(f"corelock: kernel functions cannot be attached to here:\n  {why}")


def _overview(finder: Finder, pid: Optional[int], json: bool, out: Output, quiet: bool) -> None:
    files = None if pid is None else files_of_process(pid)
    kinds = overview(finder) if files is None else []
    with out.writing() as stream:
        if json:
            from corelock.export.probes import write_overview_json

            write_overview_json(stream, kinds, files)
        elif files is not None:
            from corelock.render.probes import render_files

            render_files(files, stream)
        else:
            from corelock.render.probes import render_overview

            render_overview(kinds, stream)
    for kind in kinds:
        if kind.why:
            say(f"corelock: {kind.name}s: {kind.why}")
    if not quiet:
        _say_obstacle(finder.find(parse_pattern(each.example)) for each in kinds if each.number)
    if not quiet and not json:
        say(_hint(pid, files[0].name if files else "libc"))


def _hint(pid: Optional[int], file: str) -> str:
    if pid is not None:
        return f"See one file with: corelock list -p {pid} '{file}:*', or 'u:{file}:*'."
    return "See some with a pattern: corelock list 't:sched:*', 'vfs_*', 'u:FILE:*'."


def _nothing(listing: Listing) -> CorelockError:
    reason, names = next(iter(listing.refused.items()))
    more = sum(map(len, listing.refused.values())) - 1
    others = f" (and {more:,} more)" if more else ""
    return CorelockError(
        f"nothing can be attached to {names[0]}{others}: {reason}",
        "Probe what calls it, or what it calls.",
    )


def _say_refused(listing: Listing, verbose: bool) -> None:
    for reason, names in listing.refused.items():
        say(f"not listed: {len(names):,}, {reason}")
        if verbose:
            more = len(names) - _NAMED
            shown = [*names[:_NAMED], *([f"... and {more:,} more"] if more > 0 else [])]
            for line in flow(["   ", *shown], 80, indent="    "):
                say(line)
