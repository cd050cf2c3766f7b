"""Stacks merged into a tree, as a flame graph shows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

#: What is too small to be shown alone.
SMALLER = "(smaller)"
#: What a node is: a frame of user code, who it is of, a frame of the kernel.
USER, WHO, KERNEL = range(3)
Step = tuple[int, str]  # one of these, and a name


@dataclass
class Node:
    """A frame, with the nanoseconds and cycles of the stacks through it."""

    name: str
    kind: int = WHO
    total_ns: int = 0
    cycles: int = 0
    children: dict[Step, Node] = field(default_factory=dict)

    def add(self, path: Iterable[Step], total_ns: int, cycles: int) -> None:
        """Charge a stack, outermost frame first, to this node and those below it."""
        node = self
        node.total_ns += total_ns
        node.cycles += cycles
        for step in path:
            node = node.children.get(step) or node.children.setdefault(step, Node(step[1], step[0]))
            node.total_ns += total_ns
            node.cycles += cycles


def flattened(root: Node, most: int) -> dict[str, list[Any]]:
    """The tree as columns in depth-first order, the largest siblings first.

    Of more than ``most`` nodes the largest stay; the others become one node in each
    parent, so that children still add up as they did. ``name`` is a number in ``names``.
    """
    smallest = _smallest_shown(root, most)
    names: dict[str, int] = {}
    columns: dict[str, list[Any]] = {
        name: [] for name in ("depth", "name", "kind", "total_ns", "cycles")
    }
    pending = [(0, root)]
    while pending:
        depth, node = pending.pop()
        number = names.setdefault(node.name, len(names))
        for name, value in zip(columns, (depth, number, node.kind, node.total_ns, node.cycles)):
            columns[name].append(value)
        shown = [c for c in node.children.values() if c.total_ns >= smallest]
        hidden = [c for c in node.children.values() if c.total_ns < smallest]
        if hidden:
            total_ns, cycles = sum(c.total_ns for c in hidden), sum(c.cycles for c in hidden)
            shown.append(Node(SMALLER, WHO, total_ns, cycles))
        shown.sort(key=lambda child: child.total_ns)
        pending += [(depth + 1, child) for child in shown]
    return {**columns, "names": list(names)}


def _smallest_shown(root: Node, most: int) -> int:
    totals, pending = [], [root]
    while pending:
        node = pending.pop()
        totals.append(node.total_ns)
        pending += node.children.values()
    if len(totals) <= most:
        return 0
    totals.sort(reverse=True)
    return totals[most - 1] + 1
