"""Our adapter against lm-eval's own HFLM, both through `simple_evaluate`, on lm-eval's own tasks over small files in the real schemas."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM

from evaluators.lm_eval_adapter import EngineLM
from evaluators.lm_eval_tasks import TaskOptions, Tasks, load_tasks
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.models.base import Model, ModelOptions
from iit_bench.models.bundled import ASSETS
from iit_bench.registry import load_model

DATA = Path(__file__).parent.parent / "data"
# Choices after a context, contexts before one end, no context at all, several tokens, one token.
CHOICES = ("arc_easy", "winogrande", "iit_ocnli", "hellaswag", "mmlu_anatomy", "wsc", "iit_facts_capital")
TASKS = (*CHOICES, "gsm8k", "wikitext")
WAYS = {"the tasks' own shots": (False, None), "chat, 2 shots": (True, 2), "no shots": (False, 0)}  # chat template, few-shot
CASES = [*(("tiny llama", way) for way in WAYS), ("tiny mistral with a sliding window", "chat, 2 shots"), ("tiny llava", "no shots")]
CASES += [("base-llm", "no shots"), ("base-llm", "chat, 2 shots"), ("wings", "chat, 2 shots")]


@pytest.fixture(scope="session")
def text_snapshots(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("text-snapshots")
    runpy.run_path(str(DATA / "make_text_snapshots.py"))["write_text"](root, 6)
    old = runpy.run_path(str(DATA / "make_snapshots.py"))
    old["mmlu"](root, ["anatomy"]), old["hellaswag"](root), old["winogrande"](root)
    return root


@pytest.fixture(scope="session")
def load_tasks_once(text_snapshots, tmp_path_factory) -> Callable[[int | None], Tasks]:
    @cache
    def load(shots: int | None) -> Tasks:
        return load_tasks(TASKS, TaskOptions(text_snapshots, num_fewshot=shots), tmp_path_factory.mktemp("scratch"))

    return load


@pytest.fixture(scope="session")
def load_once(save_tiny, tiny_llava) -> Callable[[str], Model]:
    @cache
    def load(name: str) -> Model:
        if name == "tiny llava":
            return load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu"))
        if name.startswith("tiny"):
            window = {"sliding_window": 32} if "window" in name else {}
            folder = save_tiny(name.split()[1], max_position_embeddings=512, **window)
            return load_model(f"hf:{folder}", ModelOptions(device="cpu"))
        if not (ASSETS / name / "model.safetensors").is_file():
            pytest.skip(f"the bundled {name} is not there")
        return load_model(name, ModelOptions(device="cpu"))

    return load


@dataclass(frozen=True)
class Both:
    """EvalResults of HFLM and of our adapter on the same model."""

    theirs: dict
    ours: dict
    lm: EngineLM
    model: Model


@pytest.fixture(scope="module", params=CASES, ids=lambda case: ", ".join(case))
def both(request, load_once, load_tasks_once, tmp_path_factory) -> Both:
    name, way = request.param
    chat, shots = WAYS[way]
    model, tasks = load_once(name), load_tasks_once(shots)
    hflm = HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=8, max_length=model.context_limit)
    with ResponseLog(tmp_path_factory.mktemp("log") / "responses.jsonl") as log:
        ours = EngineLM(model, log, BatchLimits.for_model(model.info, None))
        found = [run(lm, tasks, chat, shots) for lm in (hflm, ours)]
    return Both(found[0], found[1], ours, model)


def run(lm, tasks: Tasks, chat: bool, shots: int | None) -> dict:
    names = list(tasks.loaded["tasks"])
    ways = {"num_fewshot": shots, "apply_chat_template": chat, "limit": 6, "gen_kwargs": {"max_gen_toks": 12}}
    return simple_evaluate(model=lm, tasks=names, task_manager=tasks.manager, bootstrap_iters=0, **ways)


def test_every_metric_of_every_task_is_equal(both: Both):
    assert both.lm.failed == []
    assert set(both.theirs["results"]) == set(both.ours["results"]) == set(TASKS)
    for task, row in both.theirs["results"].items():
        metrics = {name: value for name, value in row.items() if isinstance(value, float)}
        assert metrics, task
        close = {"rel": 1e-4} if task == "wikitext" else {"abs": 5e-5}
        for name, value in metrics.items():
            assert both.ours["results"][task][name] == pytest.approx(value, **close), (task, name)


def test_every_choice_has_the_same_loglikelihood_and_greediness(both: Both):
    for task in CHOICES:
        for a, b in zip(both.theirs["samples"][task], both.ours["samples"][task], strict=True):
            assert a["arguments"] == b["arguments"]
            for (one,), (other,) in zip(a["resps"], b["resps"], strict=True):
                assert other[0] == pytest.approx(one[0], rel=1e-4, abs=1e-4)
                assert other[1] == one[1]


def test_generated_texts_are_equal_to_the_character(both: Both):
    theirs, ours = ([sample["resps"] for sample in found["samples"]["gsm8k"]] for found in (both.theirs, both.ours))
    assert theirs == ours
    if both.model.info.name.startswith("hf:"):  # the bundled models may end their reply at once
        assert any(text for ((text,),) in theirs)


def test_rolling_loglikelihoods_are_equal_also_over_several_windows(both: Both):
    for a, b in zip(both.theirs["samples"]["wikitext"], both.ours["samples"]["wikitext"], strict=True):
        assert b["filtered_resps"][0] == pytest.approx(a["filtered_resps"][0], rel=1e-4)
    pages = [sample["doc"]["page"] for sample in both.theirs["samples"]["wikitext"]]
    assert max(len(both.model.encode_text(page)) for page in pages) > both.model.context_limit
