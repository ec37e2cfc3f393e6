"""Wings, its parts, and its rivals: ways to make a multimodal model of the same decoder, tower, data and steps, one file each.

Each subclasses `method.Method`, or another rival, and overrides only what differs; its options are a record in `method_records`.
"""

from __future__ import annotations

from collections.abc import Mapping

from iit_bench.training.method import Method
from iit_bench.training.method_records import BOTH, TEXTUAL, VISUAL, WHOLE, WingsOptions
from iit_bench.training.rivals.dora import Dora
from iit_bench.training.rivals.llava import Llava
from iit_bench.training.rivals.llava_one_rate import LlavaOneRate
from iit_bench.training.rivals.lora import Lora
from iit_bench.training.rivals.prefix import Prefix
from iit_bench.training.rivals.projector import Projector
from iit_bench.training.rivals.replay import Replay
from iit_bench.training.rivals.wings import Wings
from iit_bench.training.rivals.wings_textual import WingsTextual
from iit_bench.training.rivals.wings_visual import WingsVisual
from iit_bench.training.rivals.wings_without_router import WingsWithoutRouter
from iit_bench.training.stages import VlmRecipe, options_of

METHODS: Mapping[str, type[Method]] = {
    "wings": Wings,
    "wings-visual": WingsVisual,
    "wings-textual": WingsTextual,
    "wings-without-router": WingsWithoutRouter,
    "llava": Llava,
    "llava-one-rate": LlavaOneRate,
    "projector": Projector,
    "lora": Lora,
    "dora": Dora,
    "prefix": Prefix,
    "replay": Replay,
}
SWITCHED: Mapping[tuple[str, ...], type[Method]] = {WHOLE: Wings, BOTH: WingsWithoutRouter, VISUAL: WingsVisual, TEXTUAL: WingsTextual}


def method_of(recipe: VlmRecipe) -> Method:
    """The method that a recipe trains by; of Wings with parts switched off, the one that has those parts."""
    options = options_of(recipe)
    made = SWITCHED[options.added] if isinstance(options, WingsOptions) else METHODS[options.name]
    return made(recipe, options)
