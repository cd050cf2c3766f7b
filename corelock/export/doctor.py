"""A diagnosis as one JSON object on one line; ``docs/json.md`` describes it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TextIO

from corelock.diagnosis import Diagnosis
from corelock.export.jsonout import write_object

SCHEMA = "corelock.doctor/1"


def write_doctor_json(stream: TextIO, diagnosis: Diagnosis) -> None:
    """Write ``diagnosis`` and a line end."""
    members = {
        "schema": SCHEMA,
        "host": asdict(diagnosis.host),
        "works": diagnosis.works,
        "event_layout": diagnosis.event_layout,
        "attach": diagnosis.attach,
        "event_cost_ns": diagnosis.event_cost_ns,
        "checks": [asdict(check) for check in diagnosis.checks],
    }
    write_object(stream, members.items())
