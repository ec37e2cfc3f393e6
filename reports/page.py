"""From a template to one self-contained page: everything inlined, every value escaped, nothing loaded.

Whatever a model, a data set or a command line wrote is untrusted. Three measures: jinja2 escapes every value; invisible and
direction-changing characters are spelt out; and a Content-Security-Policy lets the browser run the page's own script and style, by
their hashes, and load nothing at all.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

_JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji need these two format characters
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, bidi marks, lone surrogates, unassigned, line separators


def render(template: str, context: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
        template: name of a file in reports/templates.
        context: values for it; `Markup` only for what reports/figures.py drew.
    """
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_spell_out,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; style-src '{_csp_hash(style)}'; script-src '{_csp_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render({**context, "style": Markup(style), "script": Markup(script), "policy": policy})


def visible(text: str) -> str:
    """Spell out what a reader could not see: controls, direction overrides, lone surrogates (`U+202E`). Line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(_spell(character) for character in text)


def _spell(character: str) -> str:
    if character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"⟨U+{ord(character):04X}⟩"


def _spell_out(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> str:
    return files("reports").joinpath("static", name).read_text(encoding="utf-8").strip()


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
