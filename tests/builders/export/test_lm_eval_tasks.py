"""The exported tasks in lm-eval as its users run it (`simple_evaluate`, its own HFLM) against `iit-bench eval` of the same model."""

from __future__ import annotations

import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.models.hf_vlms import HFMultimodalLM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from builders.build import BuildOptions, build
from builders.export.export import ExportOptions, export
from evaluators.iit.evaluate import evaluate_model
from evaluators.runs.options import RunOptions
from evaluators.text.evaluate import evaluate_text
from iit_bench.models.bundled import ASSETS
from iit_bench.models.contract import Model, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.storage.runs import Run, load_run
from iit_bench.types import Style
from tests import warm_processes

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

METRICS = ("acc", "acc_norm", "acc_bytes")
TEXT = ("T", "TT", "TTT")
# A template whose generation prompt does not end in white space.
TIGHT = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"


@pytest.fixture(scope="module")
def talkative(tmp_path_factory) -> Benchmark:
    """A benchmark with transition sentences."""
    out = tmp_path_factory.mktemp("talkative") / "bench"
    return load_benchmark(build(BuildOptions(out=out, preset="lab", size=4, tiers="T,TT,TTT,TV,VVT", connector="template")))


def write(benchmark: Benchmark, out: Path, style: Style | None = None) -> Path:
    export(ExportOptions(bench=benchmark.path, out=out, to="lm-eval", style=style), progress=False)
    return out


def run(model: Model, benchmark: Benchmark, out: Path, **more: Any) -> Run:
    evaluate_model(model, benchmark, RunOptions(model=model.info.name, bench=benchmark.path, out=out, device="cpu", **more), progress=False)
    return load_run(out)


def theirs(peer: Any, folder: Path, *tasks: str, **more: Any) -> Any:
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return simple_evaluate(peer, tasks=list(tasks), task_manager=manager, bootstrap_iters=0, apply_chat_template=True, **more)


def by_dialogue(results: Any, task: str) -> dict[str, Any]:
    return {sample["doc"]["id"]: sample for sample in results["samples"][task]}


# ---------------------------------------------------------------- text tiers


@dataclass(frozen=True)
class Both:
    """lm-eval's results, and our runs with both scorings."""

    theirs: Any
    scored: Run
    generated: Run
    spaced: bool  # the prompt ends in white space


@pytest.fixture(scope="module", params=["base-llm, cloze", "tiny llama, letters, connectors, system prompt", "tiny llama, spaced"])
def both(request, bench, talkative, save_tiny, tmp_path_factory) -> Both:
    spaced = request.param.endswith("spaced")
    if request.param.startswith("base-llm"):
        if not (ASSETS / "base-llm" / "model.safetensors").is_file():
            pytest.skip("the bundled base-llm is not there")
        checkpoint, benchmark, style, system = ASSETS / "base-llm", bench, None, ""
    else:
        template = {} if spaced else {"chat_template": TIGHT}
        checkpoint, benchmark, style, system = (
            save_tiny("llama", max_position_embeddings=1024, **template),
            talkative,
            "letters",
            "Be brief.",
        )
    work = tmp_path_factory.mktemp("work")
    model = load_model(f"hf:{checkpoint}", ModelOptions(device="cpu"))
    how = {"tiers": TEXT, "style": style, "system_prompt": system}
    ours = [run(model, benchmark, work / scoring, scoring=scoring, **how) for scoring in ("loglikelihood", "generate")]
    peer = HFLM(pretrained=str(checkpoint), device="cpu", dtype="float32", batch_size=8)
    folder = write(benchmark, work / "tasks", style)
    return Both(theirs(peer, folder, "iit_text", "iit_text_generate", system_instruction=system or None), *ours, spaced=spaced)


def test_every_choice_of_every_dialogue_scores_as_in_lm_eval(both: Both):
    for tier in TEXT:
        samples = by_dialogue(both.theirs, f"iit_{tier}")
        ours = [p for p in both.scored.predictions if p.tier == tier]
        assert len(ours) == len(samples) >= 4
        for p in ours:
            sample = samples[p.dialogue]
            logprobs = [logprob for logprob, _ in sample["filtered_resps"]]
            if both.spaced:  # lm-eval counts the white space at the prompt's end to every reply
                extra = logprobs[0] - p.logprobs[0]
                assert extra < -1
                logprobs = [logprob - extra for logprob in logprobs]
            assert p.logprobs == pytest.approx(logprobs, abs=1e-4)
            right = {"acc": p.chosen == p.answer, "acc_norm": p.chosen_norm == p.answer, "acc_bytes": p.chosen_bytes == p.answer}
            assert right == {metric: bool(sample[metric]) for metric in METRICS}, p.dialogue  # letters: all choices have one character


def test_every_reply_is_the_same_and_means_the_same(both: Both):
    outcomes = set()
    for p in both.generated.predictions:
        sample = by_dialogue(both.theirs, f"iit_{p.tier}_generate")[p.dialogue]
        assert sample["resps"][0][0].strip() == p.reply
        outcome = "correct" if sample["acc"] else "unparsed" if sample["unparsed"] else "wrong"
        assert outcome == ("unparsed" if p.outcome == "truncated" else p.outcome)  # lm-eval does not know why a reply ended
        outcomes.add(outcome)
    assert outcomes >= {"correct", "unparsed"} or "base-llm" not in both.generated.run["model"]["checkpoint"]


def test_a_groups_mean_over_tiers_is_the_score_of_that_subset(both: Both):
    for metric in METRICS:
        assert both.theirs["groups"]["iit_text"][f"{metric},none"] == pytest.approx(both.scored.results.subset_score[metric].value)
    assert both.theirs["groups"]["iit_text_generate"]["acc,choice"] == pytest.approx(both.generated.results.subset_score["acc"].value)


def test_our_text_suite_runs_the_exported_tasks_with_the_same_figures(bench, tmp_path):
    folder = write(bench, tmp_path / "tasks")
    ours = run(load_model("base-llm", ModelOptions(device="cpu")), bench, tmp_path / "iit", tiers=TEXT)
    names = ("iit_text", "iit_TT_generate")
    options = RunOptions(
        model="base-llm", out=tmp_path / "text", suite="text", tasks=names, include_path=folder, apply_chat_template=True, device="cpu"
    )
    results = {result.task: result for result in evaluate_text(options, progress=False).tasks}
    for tier in ours.results.tiers:
        for metric in METRICS:
            assert results[f"iit_{tier.tier}"].scores[metric].value == pytest.approx(getattr(tier, metric).value)
    assert results["iit_text"].scores["acc"].value == pytest.approx(ours.results.subset_score["acc"].value)
    assert sum(results["iit_TT_generate"].outcomes.values()) == 6


def test_exported_tasks_read_declared_answers_and_no_reasoning(bench, tmp_path):
    choose = runpy.run_path(str(write(bench, tmp_path / "tasks") / "iit_tasks.py"))["choose"]
    doc = {"choices": ["London", "Paris"], "style": "letters"}
    replies = {
        "Answer: B. London is in England.": "Paris",
        "<think>A? No.</think>\n\nB": "Paris",
        "<think>B or": "[invalid]",
        "A or B": "[invalid]",
    }
    assert choose([[reply] for reply in replies], [doc] * len(replies)) == list(replies.values())


def test_without_a_chat_template_turns_follow_as_examples_do(bench, tmp_path):
    folder = write(bench, tmp_path / "tasks")
    task = TaskManager(include_path=str(folder), include_defaults=False).load(["iit_TT"])["tasks"]["iit_TT"]
    (earlier, reply, target) = (turn["content"] for turn in task.eval_docs[0]["messages"])
    assert task.fewshot_context(task.eval_docs[0], system_instruction="Be brief.") == f"Be brief.\n\n{earlier} {reply}\n\n{target}"


# ---------------------------------------------------------------- tiers with images


def test_replies_over_images_are_those_of_lm_evals_multimodal_model(talkative, tiny_llava, tmp_path):
    ours = run(
        load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu")), talkative, tmp_path / "run", tiers=("TV", "VVT"), scoring="generate"
    )
    peer = HFMultimodalLM(pretrained=str(tiny_llava), device="cpu", dtype="float32", batch_size=3)
    results = theirs(peer, write(talkative, tmp_path / "tasks"), "iit_visual_generate")
    assert {p.tier for p in ours.predictions} == {"TV", "VVT"}
    for p in ours.predictions:
        sample = by_dialogue(results, f"iit_{p.tier}_generate")[p.dialogue]
        assert sample["resps"][0][0].strip() == p.reply != ""
    assert results["groups"]["iit_visual_generate"]["acc,choice"] == pytest.approx(ours.results.subset_score["acc"].value)


# ---------------------------------------------------------------- only the folder

WITHOUT_IIT_BENCH = """
import sys
for name in ("iit_bench", "builders", "evaluators", "reports"):
    sys.modules[name] = None  # any import of them fails
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
manager = TaskManager(include_path="moved", include_defaults=False)
results = simple_evaluate("dummy", tasks=["iit_text", "iit_text_generate"], task_manager=manager, bootstrap_iters=0)
print(len(results["samples"]), sum(len(samples) for samples in results["samples"].values()))
task = manager.load(["iit_VVT_generate"])["tasks"]["iit_VVT_generate"]
doc = task.eval_docs[0]
print([image.size for image in task.doc_to_image(doc)], [turn["content"].count("<image>") for turn in doc["messages"]])
"""


def test_a_moved_folder_runs_without_this_project_from_anywhere(talkative, tmp_path):
    write(talkative, tmp_path / "tasks").rename(tmp_path / "moved")
    done = warm_processes.run([sys.executable, "-c", WITHOUT_IIT_BENCH], cwd=tmp_path, preload=warm_processes.MODELS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["6 24", "[(64, 64), (64, 64)] [1, 0, 1, 0, 0]"]
