"""``corelock diff``."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Optional

import click

from corelock.analysis.compare import COMPARE_BY, compare
from corelock.analysis.source import Source, open_sources
from corelock.cli import say
from corelock.cli.options import json_option, output_option, top_option
from corelock.cli.progress import ProgressBar
from corelock.cli.report import period
from corelock.cli.run import Output
from corelock.cli.selecting import refuse_to_overwrite
from corelock.render.diff import Side, render_diff
from corelock.render.recorded import loss_words


def _fields(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    fields = tuple(dict.fromkeys(value.split(",")))
    for field in fields:
        if field not in COMPARE_BY:
            raise click.BadParameter(f"cannot group by {field!r}, only by {', '.join(COMPARE_BY)}")
    return fields


@click.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option(
    "--by",
    callback=_fields,
    default="operation,mode",
    metavar="FIELDS",
    show_default=True,
    help=f"Group by some of {','.join(COMPARE_BY)}.",
)
@top_option
@json_option()
@output_option
def command(
    before: str, after: str, by: tuple[str, ...], top: int, json: bool, output: Optional[str]
) -> None:
    """What changed from recording A to recording B, what got worse first.

    A change is said to be one only where it is more than chance; docs/diff.md says how that is
    judged.
    """
    refuse_to_overwrite((before, after), output)
    with ExitStack() as stack:
        sources = [stack.enter_context(source) for source in open_sources((before, after))]
        to = stack.enter_context(closing(Output(output)))
        with ProgressBar("reading") as progress:
            comparison = compare(sources[0], sources[1], by, progress)
        sides = [_side(source) for source in sources]
        with to.writing() as stream:
            if json:
                from corelock.export.diff import write_diff_json

                write_diff_json(stream, sides, comparison)
            else:
                render_diff(sides, comparison, top, stream)
        for side, census in zip(sides, comparison.censuses):
            words = ", ".join(loss_words(census))
            if words:
                say(f"corelock: incomplete: {side.path}: {words}.")


def _side(source: Source) -> Side:
    return Side(source.recording.path, source.host.hostname, period(source), source.duration_ns)
