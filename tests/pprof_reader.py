"""Reads profiles by the program they are for: ``go tool pprof``."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Sample:
    values: dict[str, int]
    stack: list[str]
    labels: dict[str, str] = field(default_factory=dict)


@dataclass
class Profile:
    comments: list[str]
    samples: list[Sample]
    mappings: list[str]


def read(data: bytes, folder: Path) -> Profile:
    """What ``go tool pprof -raw`` makes of it. Samples that agree in all but values are one."""
    path = folder / "profile.pb.gz"
    path.write_bytes(data)
    lines = _pprof("-raw", str(path)).splitlines()
    at = {name: lines.index(name) for name in ("Samples:", "Locations", "Mappings")}
    names = dict(_location(line) for line in lines[at["Locations"] + 1 : at["Mappings"]])
    types = lines[at["Samples:"] + 1].replace("[dflt]", "").split()
    samples: list[Sample] = []
    for line in lines[at["Samples:"] + 2 : at["Locations"]]:
        found = re.fullmatch(r" *((?:\d+ +)*\d+): ((?:\d+ )*)", line)
        if found:
            values = dict(zip(types, map(int, found[1].split())))
            samples.append(Sample(values, [names[int(n)] for n in found[2].split()]))
        else:
            samples[-1].labels.update(re.findall(r"(\w+):\[(.*?)\](?= \w+:\[|$)", line.strip()))
    comments = [line.partition(": ")[2] for line in lines if line.startswith("Comment: ")]
    return Profile(comments, samples, [line.split()[2] for line in lines[at["Mappings"] + 1 :]])


def top(data: bytes, folder: Path, sample_type: str) -> str:
    """The report that people look at first."""
    path = folder / "profile.pb.gz"
    path.write_bytes(data)
    return _pprof("-top", f"-sample_index={sample_type}", str(path))


def _location(line: str) -> tuple[int, str]:
    found = re.fullmatch(r" *(\d+): 0x[0-9a-f]+ M=\d+ (.*) :0 s=0\(\)", line)
    assert found, line
    return int(found[1]), found[2]


def _pprof(*arguments: str) -> str:
    return subprocess.run(
        ["go", "tool", "pprof", *arguments], check=True, capture_output=True, text=True, timeout=60
    ).stdout
