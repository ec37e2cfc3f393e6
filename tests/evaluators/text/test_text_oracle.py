"""Our adapter against lm-eval's own HFLM, both through `simple_evaluate`, on lm-eval's own tasks over small files in the real schemas.

HFLM loads checkpoints that transformers' AutoModelForCausalLM knows by itself, from their folder; the others it gets as an object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM

from evaluators.text.model import EngineLM
from evaluators.text.tasks import TaskOptions, Tasks, load_tasks
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.models.contract import Model, ModelOptions
from iit_bench.models.load import load_model

pytestmark = pytest.mark.oracle

# Choices after a context, contexts before one end, no context at all, several tokens, one token.
CHOICES = ("arc_easy", "winogrande", "iit_ocnli", "hellaswag", "mmlu_anatomy", "wsc", "iit_facts_capital")
TASKS = (*CHOICES, "gsm8k", "wikitext")
FIRST = dict.fromkeys(TASKS, range(6)) | {"iit_ocnli": range(4)}  # task -> documents
# Models that take their time. (No prompt has a part in rolling, so one way of asking is enough for them.)
OF_WINGS = {"arc_easy": range(4), "winogrande": range(4), "iit_facts_capital": range(8), "gsm8k": range(4), "wikitext": (0, 5)}
OF_SMOLLM2 = {"iit_facts_capital": range(3), "gsm8k": range(2), "wikitext": (1,)}


@dataclass(frozen=True)
class Way:
    chat: bool
    shots: int | None  # None = each task's own
    multiturn: bool = True


WAYS = {
    "the tasks' own shots": Way(False, None),
    "no shots": Way(False, 0),
    "2 shots": Way(False, 2),
    "chat, no shots": Way(True, 0),
    "chat, 2 shots": Way(True, 2),
    "chat, 2 shots in one turn": Way(True, 2, multiturn=False),
}
CASES = [("tiny llama", way) for way in WAYS]
CASES += [("wings", way) for way in WAYS if "own" not in way]
CASES += [("SmolLM2-135M", way) for way in ("no shots", "2 shots", "chat, no shots", "chat, 2 shots")]
CASES += [("tiny mistral with a sliding window", "chat, 2 shots"), ("tiny llava", "no shots"), ("tiny llama of 160 tokens", "2 shots")]


@dataclass(frozen=True)
class Loaded:
    ours: Model
    theirs: HFLM
    documents: dict[str, Sequence[int]]  # of every task


@pytest.fixture(scope="session")
def load_tasks_once(data_root, tmp_path_factory) -> Callable[[tuple[str, ...], int | None], Tasks]:
    @cache
    def load(names: tuple[str, ...], shots: int | None) -> Tasks:
        return load_tasks(names, TaskOptions(data_root=data_root, num_fewshot=shots), tmp_path_factory.mktemp("scratch"))

    return load


@pytest.fixture(scope="session")
def load_once(save_tiny, tiny_llava, request) -> Callable[[str], Loaded]:
    @cache
    def load(name: str) -> Loaded:
        if name.startswith("tiny"):
            window = {"sliding_window": 32} if "window" in name else {}
            context = 160 if "160" in name else 512
            folder = tiny_llava if "llava" in name else save_tiny(name.split()[1], max_position_embeddings=context, **window)
            model = load_model(f"hf:{folder}", ModelOptions(device="cpu"))
            return Loaded(model, _hflm(model, None if "llava" in name else folder), FIRST)
        if name == "SmolLM2-135M":
            folder = request.getfixturevalue("smollm2")
            model = load_model(f"hf:{folder}", ModelOptions(device="cpu", dtype="float32"))
            model.info = dataclasses.replace(model.info, max_context=128)  # so that texts have several windows
            return Loaded(model, _hflm(model, folder), OF_SMOLLM2)
        model = load_model("wings", ModelOptions(device="cpu"))
        return Loaded(model, _hflm(model, None), OF_WINGS)

    return load


def _hflm(model: Model, folder: Path | None) -> HFLM:
    if folder is None:
        return HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=8, max_length=model.context_limit)
    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=8, max_length=model.context_limit)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_every_score_text_and_metric_is_hflms(case, load_once, load_tasks_once, tmp_path):
    """One test a case: workers of pytest-xdist would each run HFLM for tests that share what it finds."""
    name, way = case[0], WAYS[case[1]]
    loaded = load_once(name)
    documents = loaded.documents
    if documents is not FIRST and way != WAYS["no shots"]:
        documents = {task: some for task, some in documents.items() if task != "wikitext"}
    tasks = load_tasks_once(tuple(documents), way.shots)
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        lm = EngineLM(loaded.ours, log, BatchLimits.for_model(loaded.ours.info, None))
        theirs, ours = (run(one, tasks, way, documents) for one in (loaded.theirs, lm))
    assert lm.failed == []
    assert set(theirs["results"]) == set(ours["results"]) == set(documents)
    check_metrics(theirs["results"], ours["results"])
    check_loglikelihoods(theirs["samples"], ours["samples"])
    check_texts(theirs["samples"]["gsm8k"], ours["samples"]["gsm8k"], may_be_empty=name == "wings")
    if "160" in name:  # prompts lose their beginning
        assert lm.cut["hellaswag"] > 3 and lm.cut["gsm8k"] == 6
    if "wikitext" in documents:
        pages = [sample["doc"]["page"] for sample in theirs["samples"]["wikitext"]]
        assert max(len(loaded.ours.encode_text(page)) for page in pages) > loaded.ours.context_limit


def run(lm, tasks: Tasks, way: Way, documents: dict[str, Sequence[int]], **settings) -> dict:
    names = list(tasks.loaded["tasks"])
    asked = {"num_fewshot": way.shots, "apply_chat_template": way.chat, "fewshot_as_multiturn": way.multiturn}
    more = {"samples": {name: list(documents[name]) for name in names}, "gen_kwargs": {"max_gen_toks": 12} | settings, "bootstrap_iters": 0}
    return simple_evaluate(model=lm, tasks=names, task_manager=tasks.manager, **asked, **more)


def check_metrics(theirs: dict, ours: dict) -> None:
    for task, row in theirs.items():
        metrics = {name: value for name, value in row.items() if isinstance(value, float)}
        assert metrics, task
        close = {"rel": 1e-4} if task == "wikitext" else {"abs": 5e-5}
        for name, value in metrics.items():
            assert ours[task][name] == pytest.approx(value, **close), (task, name)


def check_loglikelihoods(theirs: dict, ours: dict) -> None:
    """Of choices, with whether greedy decoding returns them; and of texts, over several windows."""
    for task, samples in theirs.items():
        for a, b in zip(samples, ours[task], strict=True):
            assert a["arguments"] == b["arguments"]
            if task in CHOICES:
                for (one,), (other,) in zip(a["resps"], b["resps"], strict=True):
                    assert other[0] == pytest.approx(one[0], rel=1e-4, abs=1e-4)
                    assert other[1] == one[1]
            if task == "wikitext":
                assert b["filtered_resps"][0] == pytest.approx(a["filtered_resps"][0], rel=1e-4)


def check_texts(theirs: list, ours: list, may_be_empty: bool) -> None:
    """To the character; some model may end its reply at once."""
    said = [[sample["resps"] for sample in samples] for samples in (theirs, ours)]
    assert said[0] == said[1]
    assert may_be_empty or any(text for ((text,),) in said[0])


# ---------------------------------------------------------------- settings of generation


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"until": ["e", "\n\n"]},
        {"until": "a"},
        {"max_gen_toks": 3},
        {"temperature": 0.0, "do_sample": False, "top_p": 0.5},
        {"num_beams": 2},
        {"repetition_penalty": 1.5},
        {"min_new_tokens": 8},
    ],
    ids=str,
)
def test_settings_of_generation_mean_what_they_mean_to_hflm(settings, load_once, data_root, tmp_path):
    loaded = load_once("tiny llama")
    # Not those that other tests use: lm-eval writes settings into the tasks.
    tasks = load_tasks(["gsm8k"], TaskOptions(data_root=data_root, num_fewshot=0), tmp_path)
    said = []
    with ResponseLog(tmp_path / "responses.jsonl") as log:
        ours = EngineLM(loaded.ours, log, BatchLimits.for_model(loaded.ours.info, None))
        for lm in (loaded.theirs, ours):
            said.append([sample["resps"] for sample in run(lm, tasks, WAYS["no shots"], FIRST, **settings)["samples"]["gsm8k"]])
    assert said[0] == said[1] and any(text for ((text,),) in said[0])
