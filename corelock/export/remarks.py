"""What recordings lack, for formats that have a place for remarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from corelock.analysis.census import take_census
from corelock.analysis.source import Source
from corelock.export.fields import well_formed
from corelock.render.recorded import loss_words


def missing_in_words(sources: Sequence[Source]) -> Iterator[str]:
    """A remark for each thing that is missing."""
    for source in sources:
        for words in loss_words(take_census(source)):
            yield well_formed(f"{source.label}: {words}")
