"""Real results of lm-eval and of our suites, of the bundled base LLM and copies of it, with one thing changed per result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from builders.build import BuildOptions, build
from builders.export.export import ExportOptions, export
from evaluators.runs.options import RunOptions
from iit_bench.models.bundled import ASSETS
from iit_bench.storage.benchmark import Benchmark, load_benchmark

SIZE = 60
WORDS = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}, cache_dir: {cache}}}
test_split: test
fewshot_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[answer]}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 12, do_sample: false}}
filter_list:
  - name: first
    filter: [{{function: regex, regex_pattern: "(\\\\w+)"}}, {{function: take_first}}]
  - name: last
    filter: [{{function: regex, regex_pattern: "{last}"}}, {{function: take_first}}]
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 3.0}}
"""
LM_EVAL = """
import functools, lm_eval.tasks
lm_eval.tasks.TaskManager.__init__ = functools.partialmethod(lm_eval.tasks.TaskManager.__init__, include_defaults=False)
from lm_eval.__main__ import cli_evaluate
cli_evaluate()
"""


@pytest.fixture(scope="session")
def text_bench(tmp_path_factory) -> Benchmark:
    """Text tiers of the lab."""
    return load_benchmark(build(BuildOptions(out=tmp_path_factory.mktemp("text") / "bench", preset="lab", tiers="T,TT", size=SIZE)))


@pytest.fixture(scope="session")
def base_llm() -> Path:
    folder = ASSETS / "base-llm"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("the bundled base-llm is not there")
    return folder


@pytest.fixture(scope="session")
def other_checkpoint(base_llm, tmp_path_factory) -> Path:
    """The base LLM with noise on its weights: it answers much the same, and not always."""
    return with_noise(base_llm, tmp_path_factory.mktemp("noisy") / "base-llm", 0.35)


@pytest.fixture(scope="session")
def needs_float32(base_llm, tmp_path_factory) -> Path:
    """The base LLM with one number added to every weight of its head: equal probabilities, but for what bfloat16 rounds off."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(base_llm, tmp_path_factory.mktemp("offset") / "base-llm")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].float() + 32
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    return folder


def with_noise(source: Path, target: Path, size: float) -> Path:
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    weights = load_file(target / "model.safetensors")
    torch.manual_seed(0)
    noise = {name: size * weight.std() * torch.randn_like(weight) for name, weight in sorted(weights.items()) if weight.ndim == 2}
    save_file({name: weight + noise.get(name, 0) for name, weight in weights.items()}, target / "model.safetensors", {"format": "pt"})
    return target


@pytest.fixture(scope="session")
def tasks(text_bench, tmp_path_factory) -> Path:
    """The benchmark as lm-eval's tasks, and its questions as tasks whose replies are read by regular expressions: `words`, `words_b`."""
    folder = tmp_path_factory.mktemp("tasks") / "export"
    export(ExportOptions(bench=text_bench.path, out=folder, to="lm-eval"), progress=False)
    questions = [text_bench.questions[one.target] for one in text_bench.dialogues if one.tier == "T"]
    lines = [{"question": one.question, "choices": one.choices, "answer": one.answer} for one in questions]
    (folder / "words.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    where = {"file": folder / "words.jsonl", "cache": folder / "cache"}
    (folder / "words.yaml").write_text(WORDS.format(name="words", last=r"(\\w{1,6})", **where))
    return folder


@pytest.fixture(scope="session")
def other_rule(tasks, tmp_path_factory) -> Path:
    """The task `words` with another regular expression behind its filter `last`."""
    folder = tmp_path_factory.mktemp("other")
    text = (tasks / "words.yaml").read_text()
    old = r'regex_pattern: "(\\w{1,6})"'
    assert old in text
    (folder / "words.yaml").write_text(text.replace(old, r'regex_pattern: "(\\w{1,8})"'))
    return folder


@pytest.fixture(scope="session")
def lm_eval(base_llm, tasks, tmp_path_factory) -> Callable[..., Path]:
    """lm_eval("words", limit=20, apply_chat_template=True, …) → the folder of what lm-eval itself wrote for its own HFLM."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    @cache
    def run(*names: str, checkpoint: Path = base_llm, dtype: str = "float32", folder: Path = tasks, **more: Any) -> Path:
        out = tmp_path_factory.mktemp("lm-eval")
        tracker = EvaluationTracker(output_path=str(out))
        evaluated = simple_evaluate(
            model="hf",
            model_args=f"pretrained={checkpoint},dtype={dtype}",
            tasks=list(names),
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            device="cpu",
            batch_size=16,
            bootstrap_iters=0,
            log_samples=True,
            evaluation_tracker=tracker,
            **({"apply_chat_template": True} | more),
        )
        samples = evaluated.pop("samples")
        tracker.save_results_aggregated(results=evaluated, samples=samples)
        for task in names:
            tracker.save_results_samples(task_name=task, samples=samples[task])
        return out

    return run


@pytest.fixture(scope="session")
def ours(text_bench, base_llm, tmp_path_factory) -> Callable[..., Path]:
    """ours(scoring="generate", …) → a run folder of suite iit."""
    from evaluators.iit.evaluate import evaluate

    @cache
    def run(checkpoint: Path = base_llm, **more: Any) -> Path:
        out = tmp_path_factory.mktemp("ours") / "run"
        given = {"scoring": "generate"} | more
        evaluate(RunOptions(model=f"hf:{checkpoint}", bench=text_bench.path, out=out, device="cpu", **given), progress=False)
        return out

    return run


@pytest.fixture(scope="session")
def ours_of_text(tasks, base_llm, tmp_path_factory) -> Callable[..., Path]:
    """ours_of_text(max_new_tokens=1) → a run folder of suite text over the task `words`."""
    from evaluators.text.evaluate import evaluate_text

    @cache
    def run(**more: Any) -> Path:
        out = tmp_path_factory.mktemp("text-suite") / "run"
        given = {"model": f"hf:{base_llm}", "suite": "text", "tasks": ("words",), "include_path": tasks, "apply_chat_template": True}
        evaluate_text(RunOptions(out=out, device="cpu", **(given | more)), progress=False)
        return out

    return run
