"""What the exporters have in common: a row and its times as plain values."""

from __future__ import annotations

import re
from typing import Any, Optional, Union

from corelock.model import Cgroup, Row, SlowEvent, Target, Times

#: What errors="surrogateescape" makes of a byte.
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")

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


def cgroup_fields(cgroup: Optional[Cgroup]) -> Optional[dict[str, Any]]:
    """The cgroup whose processes were traced, if it was one."""
    if cgroup is None:
        return None
    container = cgroup.container and well_formed(cgroup.container)
    return {"path": well_formed(cgroup.path), "id": cgroup.id, "container": container}


def well_formed(name: str) -> str:
    """``name`` with bytes that are no UTF-8 as ``\\xff``, as names of threads have them.

    Paths and symbols are bytes, and Python decodes those to lone surrogates, which
    strict JSON readers reject and no stream can encode.
    """
    if name.isascii():
        return name
    name = _ESCAPED_BYTE.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", name)
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
