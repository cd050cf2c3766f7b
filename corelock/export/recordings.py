"""What recordings can be written as: ``corelock report --format``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import IO, Any, Optional, Protocol

from corelock.analysis.batches import Progress
from corelock.analysis.selection import Selection
from corelock.analysis.source import Source


class Format(Protocol):
    """A module that writes recordings in one format."""

    #: Whether ``write`` wants a stream of bytes.
    BINARY: bool

    def write(
        self,
        stream: IO[Any],
        sources: list[Source],
        selection: Selection,
        progress: Optional[Progress] = None,
        **options: Any,
    ) -> Optional[Sequence[str]]:
        """Write the chosen cycles of all sources; returns what else there is to say of it.

        ``options`` are those of one format alone.
        """


#: The formats by name, and the module of each, imported when it is used.
FORMATS: Mapping[str, str] = {
    "json": "corelock.export.recording_json",
    "csv": "corelock.export.recording_csv",
    "folded": "corelock.export.folded",
    "speedscope": "corelock.export.speedscope",
    "perfetto": "corelock.export.perfetto",
    "pprof": "corelock.export.pprof",
}


def format_named(name: str) -> Format:
    """The format of that name in ``FORMATS``."""
    module: Any = importlib.import_module(FORMATS[name])
    chosen: Format = module
    return chosen
