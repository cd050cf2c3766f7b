"""Arrays and JSON in one compressed text, for a script in the page to unpack (``js/data.js``)."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

#: Typed arrays of JavaScript begin at multiples of their size.
_ALIGNMENT = 8


def packed(parts: Mapping[str, Any]) -> tuple[dict[str, list[Any]], str]:
    """Where each part lies (``[type, offset, length]``), and all of them, in base64.

    A part is a numpy array of uint8, uint32, int32 or float64 (``type`` is its name, ``length``
    in elements), or anything that JSON has (``"json"``, in bytes).
    """
    directory: dict[str, list[Any]] = {}
    pieces: list[bytes] = []
    at = 0
    for name, part in parts.items():
        if isinstance(part, np.ndarray):
            data = np.ascontiguousarray(part, part.dtype.newbyteorder("<")).tobytes()
            directory[name] = [part.dtype.name, at, part.size]
        else:
            data = json.dumps(part, separators=(",", ":"), allow_nan=False).encode()
            directory[name] = ["json", at, len(data)]
        data += bytes(-len(data) % _ALIGNMENT)
        pieces.append(data)
        at += len(data)
    return directory, base64.b64encode(zlib.compress(b"".join(pieces), 6)).decode()


def script_json(value: Any) -> str:
    """``value`` as JSON that cannot end the ``<script>`` it stands in, whatever its strings say."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
