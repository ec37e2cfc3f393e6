"""The rivals of Wings: other ways to make a multimodal model of the same decoder, tower, data and steps, one file each.

A rival subclasses `method.Method`, or another rival, and overrides only what differs; its options are a record in `method_records`.
"""

from __future__ import annotations

from collections.abc import Mapping

from iit_bench.training.method import Method
from iit_bench.training.rivals.dora import Dora
from iit_bench.training.rivals.llava import Llava
from iit_bench.training.rivals.llava_one_rate import LlavaOneRate
from iit_bench.training.rivals.lora import Lora
from iit_bench.training.rivals.prefix import Prefix
from iit_bench.training.rivals.projector import Projector
from iit_bench.training.rivals.replay import Replay
from iit_bench.training.stages import VlmRecipe, options_of

METHODS: Mapping[str, type[Method]] = {
    "wings": Method,
    "llava": Llava,
    "llava-one-rate": LlavaOneRate,
    "projector": Projector,
    "lora": Lora,
    "dora": Dora,
    "prefix": Prefix,
    "replay": Replay,
}


def method_of(recipe: VlmRecipe) -> Method:
    """The method that a recipe trains by."""
    options = options_of(recipe)
    return METHODS[options.name](recipe, options)
