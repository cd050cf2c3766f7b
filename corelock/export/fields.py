"""What the exporters have in common: a row and its times as plain values."""

from __future__ import annotations

from typing import Any, Optional, Union

from corelock.model import Row, SlowEvent, Target, Times

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
        **host_fields(row),
    }


def host_fields(of: Union[Row, SlowEvent]) -> dict[str, int]:
    """What the initial pid namespace calls who locked what, where it differs."""
    return differing(
        mm_host_pid=(of.mm_host_pid, of.mm_pid),
        host_pid=(of.host_pid, of.pid),
        host_tid=(of.host_tid, of.tid),
    )


def differing(**ids: tuple[int, int]) -> dict[str, int]:
    """Of pairs of a host's id (0: not known) and our own, the host's where it is another."""
    return {name: host_id for name, (host_id, own) in ids.items() if host_id not in (0, own)}


def target_fields(target: Optional[Target]) -> Optional[dict[str, Any]]:
    """The process that was asked for, if it was one."""
    return process_fields(target.pid, target.comm, target.host_pid) if target else None


def process_fields(pid: int, comm: str, host_pid: int) -> dict[str, Any]:
    """A process."""
    return {"pid": pid, "comm": well_formed(comm), **differing(host_pid=(host_pid, pid))}


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


def well_formed(name: str) -> str:
    """``name`` with lone surrogates as backslash escapes.

    Paths and symbols are bytes, and Python decodes those that are no UTF-8 to
    surrogates, which strict JSON readers reject and no stream can encode.
    """
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode("utf-8")
