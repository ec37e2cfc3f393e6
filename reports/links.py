"""Where everything is in the folder of a report: one place makes the names of files and the addresses of items.

    index.html              the leaderboard
    models/NAME.html        a page per model
    pairs/A--B.html         two models side by side
    samples/index.html      every dialogue as it was asked and answered
    pairs/index.html        which models are side by side
    benchmark.html          what was asked
    series.html             checkpoints in their order, where a series was asked for
    gallery/HASH.jpg        small pictures of the benchmark's images
    figures/PAGE-KEY.ENDING every figure as a file
    report-files.txt        the names of all these (reports/folder.py)

Addresses are relative to a page that lies `depth` folders below index.html, so that the folder works from disk and anywhere else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

INDEX = "index.html"
BENCHMARK = "benchmark.html"
SERIES = "series.html"
SAMPLES = "samples/index.html"
PAIRS = "pairs/index.html"
FIGURE_FORMATS = ("svg", "png", "pdf", "csv", "tex")
_UNSAFE = re.compile(r"[^a-z0-9._]+")
_LONGEST = 60  # characters of a file's name


def slugs(names: Sequence[str]) -> list[str]:
    """For each display name a name of a file: small ASCII letters, digits, dots and hyphens; unique, and never a device's or hidden."""
    made: list[str] = []
    for name in names:
        plain = _UNSAFE.sub("-", name.lower())[:_LONGEST].strip("-.") or "run"
        slug, number = plain, 1
        while slug in made:
            number += 1
            slug = f"{plain}-{number}"
        made.append(slug)
    return made


def at(place: str, depth: int) -> str:
    """The address of a file of the report for a page `depth` folders below index.html."""
    return "../" * depth + place


def model(slug: str) -> str:
    """The page of a model."""
    return f"models/{slug}.html"


def pair(a: str, b: str) -> str:
    """The page of two models; the one that is lost against comes first."""
    return f"pairs/{a}--{b}.html"


def figure(page: str, key: str, ending: str) -> str:
    """A figure of a page as a file; `page` is a stem that no other page of the report has."""
    return f"figures/{page}-{key}.{ending}"


def thumbnail(sha256: str) -> str:
    """A small picture of an image, named by the hash of the image's bytes."""
    return f"gallery/{sha256[:16]}.jpg"


def samples(slug: str, **filters: str) -> str:
    """The explorer on a model; `filters` are names and values of its address (`change="lost"`)."""
    return f"{SAMPLES}#run={slug}" + "".join(f"&{name}={quote(value, safe='')}" for name, value in filters.items())


def item(slug: str, dialogue: str, position: int | None = None) -> str:
    """A model's answer to a dialogue in the explorer; `position` names another turn than the target."""
    turn = "" if position is None else f"&turn={position}"
    return f"{SAMPLES}#run={slug}&item={quote(dialogue, safe='')}{turn}"
