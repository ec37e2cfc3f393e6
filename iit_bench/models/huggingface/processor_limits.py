"""What a processor's settings make of one image, bounded before the first one is processed: a stranger's file may ask for any size.

Everything else that may be wrong with them shows in the check at load (`image_text_adapter`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from iit_bench.errors import UserError
from iit_bench.images import MOST_PIXELS

PIXEL_EDGES = frozenset({"min_pixels", "max_pixels"})  # settings of processors whose edges of `size` are counts of pixels
LONGEST = math.isqrt(MOST_PIXELS)  # pixels of a side
LONGEST_SHORT = 2048  # of a side that the shorter one is enlarged to, while the longer one may be `images.MOST_TIMES` as long
MOST_PARTS = 1024  # an image is cut into
MOST_TOKENS = 2**16  # of an image
_SIDES = re.compile(r"(height|width|_edge|image_size|crop_size|grid_pinpoints)$")
_PARTS = re.compile(r"(max_patches|max_num|num_crops|tiles|dynamic_hd)$")
_TOKENS = re.compile(r"(image_seq_len|image_seq_length|image_tokens)$")


def check_limits(processor: Any, checkpoint: str) -> None:
    """Refuse settings with which one image would take the memory of thousands.

    Raises:
        UserError: names the setting.
    """
    images = processor.image_processor
    counts = set(getattr(images.valid_kwargs, "__annotations__", {})) >= PIXEL_EDGES
    own = {name: value for name, value in vars(processor).items() if isinstance(value, int | float)}
    for name, value in (*_numbers(images.to_dict(), ""), *_numbers(own, "")):
        if (most := _most(name, counts)) is not None and value > most:
            raise UserError(
                f"the processor of {checkpoint!r} has {name} {value}, and {most:,} is the most that is read; get its files again"
            )


def _most(name: str, counts: bool) -> int | None:
    """The limit of a setting; None for those without one."""
    last = name.rpartition(".")[2]
    if last in PIXEL_EDGES or (counts and last.endswith("_edge")):
        return MOST_PIXELS
    if _SIDES.search(last):
        return LONGEST_SHORT if last == "shortest_edge" else LONGEST
    return MOST_PARTS if _PARTS.search(last) else MOST_TOKENS if _TOKENS.search(last) else None


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """The numbers in settings, each with its path."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value
