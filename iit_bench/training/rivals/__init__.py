"""The rivals of Wings: other ways to make a multimodal model of the same decoder, tower, data and steps, one file each.

A rival subclasses `method.Method`, or another rival, and overrides only what differs.
"""

from __future__ import annotations

from iit_bench.training.method import Method
from iit_bench.training.rivals.llava import Llava
from iit_bench.training.rivals.llava_one_rate import LlavaOneRate
from iit_bench.training.stages import VlmRecipe

METHODS: tuple[type[Method], ...] = (LlavaOneRate, Llava, Method)  # the most specific first


def method_of(recipe: VlmRecipe) -> type[Method]:
    """The method that a recipe trains by: the first that describes it."""
    return next(method for method in METHODS if method.describes(recipe))
