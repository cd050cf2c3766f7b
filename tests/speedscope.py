"""Where speedscope is, as its makers publish it: the viewer and the schema of its files.

``make test`` puts it there.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path("build/npm/node_modules/speedscope/dist/release")
FORMAT = FOLDER / "file-format-schema.json"
VIEWER = FOLDER / "index.html"
