"""Small tables in the real schemas, and a model whose replies are fixed: right, wrong, in several wordings, or of no use."""

from __future__ import annotations

import dataclasses
import importlib.util
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from evaluators.runs.options import RunOptions
from evaluators.vqa.evaluate import evaluate_vqa_model
from iit_bench.models.contract import Capabilities, GenerateRequest, GenerateResult, Model, ModelInfo
from iit_bench.storage.runs import TaskRun, load_run

MAKERS = runpy.run_path(str(Path(__file__).parents[2] / "data" / "make_vqa_tables.py"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("vlmeval") is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="VLMEvalKit is installed by hand (README)"))


@pytest.fixture(scope="module", autouse=True)
def every_worker_is_warm(warm_workers: None) -> None:
    """VLMEvalKit's process is started afresh in tests/workflows and tests/reliability."""


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """oracle.py beside this file."""
    spec = importlib.util.spec_from_file_location("vqa_oracle", Path(__file__).with_name("oracle.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def makers() -> dict[str, Any]:
    return MAKERS


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with every table of make_vqa_tables.py. Never changed."""
    root = tmp_path_factory.mktemp("tables")
    MAKERS["write_vqa"](root)
    return root


Reply = Callable[[str, int], str]  # (text of the prompt, number of images) -> reply


@pytest.fixture(scope="session")
def replies_by_name() -> dict[str, Any]:
    """The names of replies.py."""
    return runpy.run_path(str(Path(__file__).with_name("replies.py")))


@pytest.fixture(scope="session")
def reply(tables: Path, replies_by_name: dict[str, Any]) -> Reply:
    """Fixed replies with every outcome; see replies.py."""
    return replies_by_name["mixed"](tables)


class Parrot(Model):
    """Replies what `reply` returns; counts what it was asked."""

    def __init__(self, reply: Reply, name: str = "parrot") -> None:
        self.info = ModelInfo(
            name=name,
            checkpoint="",
            checkpoint_sha256="",
            chat_template_sha256="",
            accepts_images=True,
            blind=False,
            dtype="float32",
            device="cpu",
            max_context=None,
        )
        self.capabilities = Capabilities(scores=False, why_not={"scores": "a parrot", "takes_raw_text": "a parrot"})
        self.reply = reply
        self.asked: list[GenerateRequest] = []

    def request_tokens(self, request: Any) -> int:
        return 100

    def score(self, batch: Any) -> Any:
        raise NotImplementedError

    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        self.asked += batch
        return [GenerateResult(self.reply(one.messages[-1].text, len(one.messages[-1].images)), 100, 1) for one in batch]


@pytest.fixture(scope="session")
def make_parrot(reply: Reply) -> Callable[[], Parrot]:
    return lambda: Parrot(reply)


@pytest.fixture
def parrot(make_parrot: Callable[[], Parrot]) -> Parrot:
    return make_parrot()


@pytest.fixture
def vqa(tables: Path, tmp_path: Path) -> Callable[..., TaskRun]:
    """vqa(model, "TASK", …, option=…) → the finished run."""

    def call(model: Model, *tasks: str, **more: Any) -> TaskRun:
        options = RunOptions(model=model.info.name, out=tmp_path / "run", suite="vqa", tasks=tasks, data_root=tables)
        options = dataclasses.replace(options, **more)
        evaluate_vqa_model(model, options, progress=False)
        run = load_run(options.out)
        assert all(result.warnings == () for result in run.results.tasks), "a figure that is not VLMEvalKit's, and nobody knows why"
        return run

    return call
