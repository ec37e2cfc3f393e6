"""Tiny models of many families, made once per session (recipes: tests/data/tiny_vlms)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "data"
if str(DATA) not in sys.path:  # for `import tiny_vlms`, here and in the tests
    sys.path.insert(0, str(DATA))


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory) -> Callable[[str], Path]:
    """family_folder("llava") → folder of a tiny model with its processor. Never changed: copy it to damage it."""
    import tiny_vlms

    from iit_bench.models.bundled import ASSETS

    recipes = {family.name: family.make for family in (*tiny_vlms.FAMILIES, *tiny_vlms.REFUSED)}
    maker = tiny_vlms.Maker(tmp_path_factory.mktemp("families"), ASSETS / "base-llm")

    @cache
    def make(name: str) -> Path:
        recipes[name](maker)
        return maker.out / name

    return make


@pytest.fixture(scope="session")
def family_model(family_folder):
    """family_model("llava") → the tiny model as `hf:` loads it."""
    from iit_bench.models.contract import ModelOptions
    from iit_bench.models.huggingface.load import load

    return cache(lambda name: load(f"hf:{family_folder(name)}", ModelOptions(device="cpu")))
