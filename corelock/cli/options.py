"""The options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Optional

import click

from corelock.render.grouping import BY_FIELDS
from corelock.render.table import SORT_FIELDS
from corelock.tracer import ATTACH, MAX_ROWS


def above_zero(
    ctx: click.Context, param: click.Parameter, value: Optional[float]
) -> Optional[float]:
    """A time span that can be waited for, in the unit that the metavar says."""
    if value is not None and not 0 < value <= 1e9:  # nan is neither
        unit = {"SEC": "seconds", "MS": "milliseconds"}[str(param.metavar)]
        raise click.BadParameter(f"{value:g} is not a number of {unit} above 0")
    return value


def slow_ns(ctx: click.Context, param: click.Parameter, value: str) -> Optional[int]:
    """``--slow-us`` in nanoseconds, None for off."""
    if value == "off":
        return None
    try:
        ns = round(float(value) * 1000)
    except (ValueError, OverflowError):
        ns = -1
    if not 0 <= ns < 1 << 63:
        raise click.BadParameter(f"{value!r} is not a number of microseconds, 0 (all) or off")
    return ns


def check_interval(interval: Optional[float], duration: Optional[float]) -> None:
    """Raise ``click.UsageError`` if one is longer than the whole run."""
    if interval and duration and interval > duration:
        raise click.UsageError("The interval (-i) is longer than the whole run (-d).")


_Function = Callable[..., None]
_Decorator = Callable[[_Function], _Function]

duration_option: _Decorator = click.option(
    "-d", "--duration", type=float, callback=above_zero, metavar="SEC", help="Stop after so long."
)

_TARGET: dict[str, _Decorator] = {
    "pid": click.option(
        "-p", "--pid", type=int, metavar="PID",
        help="The address space of this process, whoever locks it.",
    ),
    "tid": click.option(
        "-t", "--tid", type=int, metavar="TID", help="This thread, whatever it locks."
    ),
    "comm": click.option(
        "--comm", metavar="NAME", help="The address spaces of all processes of this name."
    ),
    "cgroup": click.option(
        "--cgroup", metavar="PATH",
        help="The address spaces of all processes in this cgroup (version 2), now or later: "
        "its directory, or its path in /proc/PID/cgroup.",
    ),
    "container": click.option(
        "--container", metavar="ID",
        help="The same, of the container whose id begins so.",
    ),
    "everything": click.option(
        "-a", "--all", "everything", is_flag=True, help="Every address space of the host."
    ),
    "follow": click.option(
        "--follow", is_flag=True, help="Its future children, too (--pid or a command)."
    ),
    "duration": duration_option,
}  # fmt: skip


output_option: _Decorator = click.option(
    "-o", "--output", metavar="FILE", help="Write there instead of to stdout."
)
btf_option: _Decorator = click.option(
    "--btf", metavar="FILE", help="The kernel's BTF, where /sys/kernel/btf does not have it."
)
quiet_option: _Decorator = click.option(
    "-q", "--quiet", is_flag=True, help="Say nothing but data and losses."
)
verbose_option: _Decorator = click.option(
    "-v", "--verbose", is_flag=True, help="Say more, and show logs of failures."
)
top_option: _Decorator = click.option(
    "-n", "--top", type=click.IntRange(min=0), default=20, metavar="N", show_default=True,
    help="Lines of the table; 0: all.",
)  # fmt: skip

sort_option: _Decorator = click.option(
    "-S", "--sort", type=click.Choice(SORT_FIELDS), default="hold", show_default=True,
    metavar="FIELD", help="One of " + ", ".join(SORT_FIELDS) + ".",
)  # fmt: skip


def fields(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    """``--by`` as fields, each one known and named once."""
    fields = tuple(dict.fromkeys(value.split(",")))
    for field in fields:
        if field not in BY_FIELDS:
            raise click.BadParameter(f"cannot group by {field!r}, only by {', '.join(BY_FIELDS)}")
    return fields


by_option: _Decorator = click.option(
    "--by", callback=fields, default=",".join(BY_FIELDS), metavar="FIELDS",
    help="Group by some of thread,operation,mode (default: all).",
)  # fmt: skip

stacks_option: _Decorator = click.option(
    "-s", "--stacks", type=click.IntRange(min=0), default=3, metavar="N", show_default=True,
    help="How many of the slowest waits and holds to show.",
)  # fmt: skip
hist_option: _Decorator = click.option(
    "--hist", is_flag=True, help="Histograms of waits and holds, by powers of two."
)

slow_option: _Decorator = click.option(
    "--slow-us",
    "slow_ns",
    callback=slow_ns,
    default="100",
    metavar="N",
    help="Take stacks of waits and holds from so many microseconds on; "
    "0: of all; off: of none (default: 100).",
)

_REST: dict[str, _Decorator] = {
    "output": output_option,
    "max_rows": click.option(
        "--max-rows", type=click.IntRange(min=1, max=MAX_ROWS), metavar="N",
        help="Room for so many thread x operation x mode (default: by the threads now).",
    ),
    "attach": click.option(
        "--attach", type=click.Choice(ATTACH), metavar="WAY",
        help="How to get at the events: tp_btf, or tp (by tracefs). Default: what works.",
    ),
    "btf": btf_option,
    "quiet": quiet_option,
    "verbose": verbose_option,
    "command": click.argument(
        "command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD ARGS...]"
    ),
}  # fmt: skip


def json_option(more: str = "") -> _Decorator:
    """``--json``."""
    return click.option("--json", is_flag=True, help=f"One JSON object (see docs/json.md){more}.")


def target_options(*, tid: bool) -> _Decorator:
    """What is traced, and for how long. ``tid``: one thread makes sense, too."""
    return all_of(option for name, option in _TARGET.items() if tid or name != "tid")


def common_options(function: _Function) -> _Function:
    """The options that help shows last, and the command to run."""
    return all_of(_REST.values())(function)


def options_without_output(function: _Function) -> _Function:
    """The same, of a command that prints no data, or whose data is nothing to print."""
    return all_of(option for name, option in _REST.items() if name != "output")(function)


def screen_options(function: _Function) -> _Function:
    """Of these, what makes sense for a screen: no file, and no command that would write on it."""
    return all_of(each for name, each in _REST.items() if name not in ("output", "command"))(
        function
    )


def all_of(decorators: Iterable[_Decorator]) -> _Decorator:
    """These options together, as help shows them in order."""
    in_order = list(decorators)

    def decorate(function: _Function) -> _Function:
        for decorator in reversed(in_order):
            function = decorator(function)
        return function

    return decorate
