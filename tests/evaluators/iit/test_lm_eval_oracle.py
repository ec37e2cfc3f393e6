"""The evaluator against lm-eval as its users run it: `simple_evaluate` with HFLM on a local task made of the same single-turn questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from builders.build import BuildOptions, build
from evaluators.iit.evaluate import evaluate_model
from evaluators.runs.options import RunOptions
from iit_bench.asking import replies, user_message
from iit_bench.models.bundled import ASSETS
from iit_bench.models.contract import ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.storage.runs import load_run
from iit_bench.types import Style

pytestmark = pytest.mark.oracle

METRICS = ("acc", "acc_norm", "acc_bytes")
# Its generation prompt does not end in white space, which lm-eval would count to every reply.
TIGHT = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
STYLES: tuple[Style, ...] = ("cloze", "letters")


@pytest.fixture(scope="module")
def text_bench(tmp_path_factory) -> Benchmark:
    return load_benchmark(build(BuildOptions(out=tmp_path_factory.mktemp("text") / "bench", preset="lab", tiers="T", size=40)))


@pytest.fixture(scope="module", params=["tiny llama", "base-llm"])
def checkpoint(request, save_tiny) -> Path:
    if request.param == "tiny llama":
        return save_tiny("llama", chat_template=TIGHT, max_position_embeddings=1024)
    if not (ASSETS / "base-llm" / "model.safetensors").is_file():
        pytest.skip("the bundled base-llm is not there")
    return ASSETS / "base-llm"


def write_task(folder: Path, benchmark: Benchmark, model, style: str) -> None:
    """An lm-eval task whose documents are the questions as our model renders them."""
    targets = [benchmark.questions[dialogue.target] for dialogue in benchmark.dialogues]
    docs = [
        {"id": q.id, "prompt": model.render([user_message(q, style)]), "choices": list(replies(q, style)), "gold": q.answer}
        for q in targets
    ]
    data = folder / f"{style}.jsonl"
    data.write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")
    task = {
        "task": style,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in METRICS],
    }
    (folder / f"{style}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


@pytest.mark.slow
def test_every_item_scores_as_in_lm_eval(text_bench, checkpoint, tmp_path):
    model = load_model(f"hf:{checkpoint}", ModelOptions(device="cpu"))
    for style in STYLES:
        options = RunOptions(model=f"hf:{checkpoint}", bench=text_bench.path, out=tmp_path / style, style=style, device="cpu")
        evaluate_model(model, text_bench, options, progress=False)
        write_task(tmp_path, text_bench, model, style)

    peer = HFLM(pretrained=str(checkpoint), device="cpu", dtype="float32", batch_size=8)
    tasks = TaskManager(include_path=str(tmp_path), include_defaults=False)
    theirs = simple_evaluate(peer, tasks=list(STYLES), task_manager=tasks, log_samples=True, bootstrap_iters=0)

    for style in STYLES:
        run = load_run(tmp_path / style)
        samples = {sample["doc"]["id"]: sample for sample in theirs["samples"][style]}
        assert len(run.predictions) == len(samples) == 40
        for p in run.predictions:
            sample = samples[p.question]
            assert p.logprobs == pytest.approx([logprob for logprob, _ in sample["filtered_resps"]], abs=1e-4)
            ours = {"acc": p.chosen == p.answer, "acc_norm": p.chosen_norm == p.answer, "acc_bytes": p.chosen_bytes == p.answer}
            assert ours == {metric: bool(sample[metric]) for metric in METRICS}, p.question
        tier = run.results.tiers[0]
        for metric, figure in zip(METRICS, (tier.acc, tier.acc_norm, tier.acc_bytes), strict=True):
            assert figure.value == pytest.approx(theirs["results"][style][f"{metric},none"])
