"""A histogram for each operation, as bars of an SVG picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from corelock.model import Report
from corelock.render.grouping import Group, group
from corelock.render.histogram import counts_by_power
from corelock.render.units import count, duration

_BAR = 10
_HEIGHT = 46  # of the tallest bar, on each side of the line at 51


def operations(reports: Sequence[Report], most: int = 12) -> dict[str, Any]:
    """A histogram for each operation and mode, all on one axis of durations."""
    groups = group([row for report in reports for row in report.rows], ("operation", "mode"))
    groups.sort(key=lambda g: -(g.wait.total_ns + g.hold.total_ns))
    shown = groups[:most]
    powers = [
        power
        for g in shown
        for times in (g.wait, g.hold)
        for power in counts_by_power(times.histogram)
    ]
    low, high = min(powers, default=0), max(powers, default=0)
    return {
        "operations": [_operation(g, low) for g in shown],
        "operations_left": len(groups) - len(shown),
        "axis": _axis(low, high),
    }


def _axis(low: int, high: int) -> dict[str, Any]:
    width = (high - low + 1) * _BAR
    ticks = [
        {"x": x, "text": duration(2 ** max(0, power - 1)), "anchor": anchor}
        for x, power, anchor in (
            (0, low, "start"),
            (width // 2, (low + high + 1) // 2, "middle"),
            (width, high + 1, "end"),
        )
    ]
    return {"width": width, "bar": _BAR, "ticks": ticks}


def _operation(g: Group, low: int) -> dict[str, Any]:
    bars = []
    for kind, times in (("wait", g.wait), ("hold", g.hold)):
        counts = counts_by_power(times.histogram)
        tallest = max(counts.values(), default=1)
        for power, number in sorted(counts.items()):
            height = max(1.0, round(_HEIGHT * number / tallest, 1))
            bounds = f"{duration(2 ** (power - 1) if power else 0)} to {duration(2**power)}"
            bars.append(
                {
                    "kind": kind, "x": (power - low) * _BAR + 1, "height": height,
                    "y": 50 - height if kind == "wait" else 52,
                    "words": f"{count(number)} {kind}s of {bounds}",
                }
            )  # fmt: skip
    wait_p99, hold_p99 = g.wait.quantile(0.99), g.hold.quantile(0.99)
    return {
        "operation": g.operation, "mode": g.mode, "bars": bars,
        "wait_count": g.wait.count, "wait_ns": g.wait.total_ns, "wait_p99": wait_p99,
        "wait_max": g.wait.max_ns, "hold_count": g.hold.count, "hold_ns": g.hold.total_ns,
        "hold_p99": hold_p99, "hold_max": g.hold.max_ns,
    }  # fmt: skip
