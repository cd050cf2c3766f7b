"""What the exporters have in common: a row and its times as plain values."""

from __future__ import annotations

from typing import Any, Optional

from corelock.model import Cgroup, Row, Times

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def identity_fields(row: Row) -> dict[str, Any]:
    """Who locked what, how and for what."""
    return {
        "mm_pid": row.mm_pid,
        "mm_comm": well_formed(row.mm_comm),
        "pid": row.pid,
        "tid": row.tid,
        "comm": well_formed(row.comm),
        "foreign": row.foreign,
        "mode": row.mode,
        "operation": row.operation,
    }


def row_fields(row: Row) -> dict[str, Any]:
    """Who locked what how, and the counts; without the times."""
    return {
        **identity_fields(row),
        "acquisitions": row.acquisitions,
        "holds": row.holds,
        "downgrades": row.downgrades,
        "trylock_failures": row.trylock_failures,
        "aborted_waits": row.aborted_waits,
    }


def times_fields(times: Times) -> dict[str, Any]:
    """Times in ns; quantiles are None when there are none."""
    fields = {"count": times.count, "total": times.total_ns, "max": times.max_ns}
    return {**fields, **dict(zip(QUANTILES, times.quantiles(*QUANTILES.values())))}


def cgroup_fields(cgroup: Optional[Cgroup]) -> Optional[dict[str, Any]]:
    """The cgroup whose processes were traced, if it was one."""
    if cgroup is None:
        return None
    container = cgroup.container and well_formed(cgroup.container)
    return {"path": well_formed(cgroup.path), "id": cgroup.id, "container": container}


def well_formed(name: str) -> str:
    """``name`` with lone surrogates as backslash escapes.

    Paths and symbols are bytes, and Python decodes those that are no UTF-8 to
    surrogates, which strict JSON readers reject and no stream can encode.
    """
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode("utf-8")
