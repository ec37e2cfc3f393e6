"""Fixtures of the builders' tests: small snapshots in the real schemas, and a small lab benchmark."""

from __future__ import annotations

import os
import runpy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from builders.build import BuildOptions, build
from builders.sources.base import SourceQuestions
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.types import Image, Question

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

MAKERS = runpy.run_path(str(Path(__file__).parent.parent / "data" / "make_snapshots.py"))


@pytest.fixture(scope="session")
def makers() -> dict[str, Any]:
    """The functions of tests/data/make_snapshots.py."""
    return MAKERS


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Local snapshots of the paper's data sets, with two subjects of MMLU and CMMLU."""
    root = tmp_path_factory.mktemp("snapshots")
    MAKERS["write_all"](root, ["anatomy", "astronomy"], ["anatomy", "arts"], 12)
    return root


@pytest.fixture(scope="session")
def small_lab(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """The lab preset with 12 targets per modality, all 14 tiers."""
    return load_benchmark(build(BuildOptions(out=tmp_path_factory.mktemp("lab") / "bench", preset="lab", size=12)))


@pytest.fixture
def question() -> Callable[..., Question]:
    """Makes a question; every field can be set."""

    def make(id: str = "q/0", **fields: Any) -> Question:
        images = tuple(Image(data) for data in fields.pop("images", ()))
        choices = tuple(fields.pop("choices", ("red", "green", "blue")))
        answer = fields.pop("answer", 0)
        given: dict[str, Any] = {
            "modality": "V" if images else "T",
            "source": "made",
            "subject": "colour",
            "cluster": id,
            "language": "en",
            "question": f"Which colour has {id}?",
            "answer_text": choices[answer] if 0 <= answer < len(choices) else "",
        }
        return Question(id=id, images=images, choices=choices, answer=answer, **(given | fields))

    return make


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Adds sources made of given questions to the registry of this test."""

    def add(name: str, questions: Iterable[Question], **fields: Any) -> None:
        import sys
        import types

        given = {"split": "test", "licence": "CC0-1.0", "origin": "made here", "revision": "1", "sha256": "0" * 64}
        made = SourceQuestions(name=name, questions=tuple(questions), **(given | fields))
        module = types.ModuleType(f"made_{name}")
        module.load = lambda name, options: made  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(__import__("iit_bench.registry").registry.SOURCES, name, f"{module.__name__}:load")

    return add
