"""Measures the scoring speed of a text model on a benchmark's text-only dialogues, side by side with lm-eval's HFLM in one run.

    python benchmarks/scoring.py --bench demo/bench [--model base-llm] [--limit 40] [--json]

Prints for each of the two: seconds, tokens computed by the model (with padding), and these per unique token (a node of the tree of all
prompts and replies); and the largest difference between their loglikelihoods. Ratios are iit-bench / lm-eval; below 1, iit-bench is faster.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from evaluators.iit.chosen import choose_dialogues
from evaluators.iit.turns import Asking, Course, request
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import answer
from iit_bench.models.contract import ModelOptions, ScoreRequest, ScoreResult
from iit_bench.models.huggingface.adapter import CausalLM
from iit_bench.models.load import load_model
from iit_bench.storage.benchmark import load_benchmark
from iit_bench.token_trees import build_row


class TokenCounter:
    """Counts the token positions that a model computes."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.tokens = 0
        model.get_input_embeddings().register_forward_hook(self._count)

    def _count(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.tokens += inputs[0].numel()


def main() -> None:
    """Run both on the same dialogues and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--model", default="base-llm")
    parser.add_argument("--style", default="cloze")
    parser.add_argument("--limit", type=int, default=40, help="groups")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    model = load_model(arguments.model, ModelOptions())
    assert isinstance(model, CausalLM), f"{arguments.model} is not a text model"
    benchmark = load_benchmark(arguments.bench)
    chosen = choose_dialogues(benchmark, None, arguments.limit, accepts_images=False, style=arguments.style)
    courses = [Course(dialogue, tuple(benchmark.questions[turn] for turn in dialogue.turns)) for dialogue in chosen.dialogues]
    requests = [request(course, len(course.questions) - 1, Asking(style=arguments.style)) for course in courses]
    score_requests = [score_request for score_request in requests if isinstance(score_request, ScoreRequest)]
    counter = TokenCounter(model.model)
    limits = BatchLimits.for_model(model.info, None, model.way)
    with tempfile.TemporaryDirectory() as scratch, ResponseLog(Path(scratch) / "responses.jsonl") as log:
        started = time.perf_counter()
        answers = answer(model, score_requests, log, limits).answers
        rows: dict[str, dict[str, float]] = {"iit-bench": {"seconds": time.perf_counter() - started, "tokens": counter.tokens}}
    ours = [one.logprobs for one in answers if isinstance(one, ScoreResult)]
    unique = len(build_row([path for score_request in score_requests for path in model.paths(score_request)]))

    peer = HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=16)
    instances, owners = [], []
    for i, score_request in enumerate(score_requests):
        prompt = model.render(score_request.messages)
        for choice, text in enumerate(score_request.continuations):
            instances.append(Instance("loglikelihood", {}, (prompt, text), len(instances), metadata=("scoring", len(instances), 1)))
            owners.append((i, choice))
    counter.tokens = 0
    started = time.perf_counter()
    theirs = peer.loglikelihood(instances, disable_tqdm=True)
    rows["lm-eval HFLM"] = {"seconds": time.perf_counter() - started, "tokens": counter.tokens}

    for row in rows.values():
        row["tokens per unique token"] = row["tokens"] / unique
    difference = max(abs(ours[i][choice] - logprob) for (i, choice), (logprob, _) in zip(owners, theirs, strict=True))
    ratio = {name: rows["iit-bench"][name] / rows["lm-eval HFLM"][name] for name in ("seconds", "tokens")}
    if arguments.json:
        print(json.dumps({"rows": rows, "ratio": ratio, "largest difference": difference, "requests": len(instances)}, indent=2))
        return
    print(
        f"{len(score_requests)} prompts, {len(instances)} replies, {unique} unique tokens, {model.way}, {torch.get_num_threads()} thread(s)"
    )
    for name, row in rows.items():
        print(f"{name:14} {row['seconds']:8.2f} s {row['tokens']:10.0f} tokens {row['tokens per unique token']:6.2f} per unique token")
    print(f"ratio          {ratio['seconds']:8.2f}   {ratio['tokens']:10.2f}        largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
