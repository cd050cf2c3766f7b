"""The page: templates, style and scripts of this folder, put together with what was gathered."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from corelock.extras import needs
from corelock.render import units
from corelock.version import VERSION

with needs("report", "jinja2"):
    import jinja2
    from markupsafe import Markup

_FOLDER = Path(__file__).parent
#: Parts of one script, in this order: what is below may use what is above.
SCRIPTS = (
    "units", "data", "theme", "view", "tooltip", "axis", "canvas", "gestures", "slices",
    "shading", "marks", "picking", "timeline", "overview", "heatmap", "selection", "flame", "main",
)  # fmt: skip


@cache
def script() -> str:
    """All of the page's code, in a scope of its own."""
    parts = (f"{name}.js" for name in SCRIPTS)
    code = "\n".join((_FOLDER / "js" / part).read_text("utf-8") for part in parts)
    return f'(() => {{\n"use strict";\n{code}\n}})();'


@cache
def style() -> str:
    """The style sheet."""
    return (_FOLDER / "page.css").read_text("utf-8")


def policy() -> str:
    """Nothing is loaded from anywhere, and nothing runs but the page's own script."""
    return (
        f"default-src 'none'; script-src '{_digest(script())}'; style-src '{_digest(style())}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _template() -> Any:
    # Names of threads, paths and symbols are anybody's: all that is put in is escaped.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters.update(
        duration=units.duration,
        whole=lambda n: f"{n:,}",
        exact=lambda ns: "none" if ns is None else f"{ns:,} ns",
    )
    return environment.get_template("page.html")


def rendered(facts: str, payload: str, sections: dict[str, Any]) -> str:
    """The page. ``facts`` is of :func:`columns.script_json`, ``payload`` base64."""
    page: str = _template().render(
        version=VERSION, policy=policy(), style=Markup(style()), script=Markup(script()),
        facts=Markup(facts), payload=Markup(payload), **sections,
    )  # fmt: skip
    return page
