"""From a template to one page: style and script inlined, every value escaped, nothing loaded but pictures that lie beside it.

Whatever a model, a data set or a command line wrote is untrusted. Three measures: jinja2 escapes every value; invisible and
direction-changing characters are spelt out; and a Content-Security-Policy lets the browser run the page's own script and style, by
their hashes, show pictures of the report's own folder, and load nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from iit_bench.visible import visible as visible  # also a name of this module
from reports.cells import count


def render(template: str, context: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
        template: name of a file in reports/templates.
        context: values for it; `Markup` only for what reports/figures.py drew.
    """
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; style-src '{_csp_hash(style)}'; script-src '{_csp_hash(script)}'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return _environment().get_template(template).render({**context, "style": Markup(style), "script": Markup(script), "policy": policy})


@cache
def _environment() -> Environment:
    """Made once: a report has many pages of few templates."""
    made = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_spell_out,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["grouped"] = count
    return made


def _spell_out(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> str:
    return files("reports").joinpath("static", name).read_text(encoding="utf-8").strip()


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
