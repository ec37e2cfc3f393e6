"""Measures the scoring speed of a text model on a benchmark's text-only dialogues, side by side with lm-eval's HFLM in one run.

    python benchmarks/scoring.py --bench demo/bench [--model base-llm] [--limit 40] [--json]

Prints for each of the two: seconds, tokens computed by the model (with padding), and these per unique token (each prompt and each reply
counted once); and the largest difference between their loglikelihoods. Ratios are iit-bench / lm-eval; below 1, iit-bench is faster.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from evaluators.iit.evaluate import choose_dialogues
from evaluators.iit.turns import Asking, Course, request
from iit_bench.engine.plan import BatchLimits, plan_batches
from iit_bench.models.contract import ModelOptions, ScoreRequest
from iit_bench.models.huggingface.adapter import CausalLM
from iit_bench.models.load import load_model
from iit_bench.storage.benchmark import load_benchmark


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
    parser.add_argument("--limit", type=int, default=40, help="groups")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    model = load_model(arguments.model, ModelOptions())
    assert isinstance(model, CausalLM), f"{arguments.model} is not a text model"
    benchmark = load_benchmark(arguments.bench)
    chosen = choose_dialogues(benchmark, None, arguments.limit, accepts_images=False, style=Asking().style)
    courses = [Course(dialogue, tuple(benchmark.questions[turn] for turn in dialogue.turns)) for dialogue in chosen.dialogues]
    requests = [request(course, len(course.questions) - 1, Asking()) for course in courses]
    score_requests = [score_request for score_request in requests if isinstance(score_request, ScoreRequest)]
    counter = TokenCounter(model.model)

    started = time.perf_counter()
    lengths = {str(i): model.request_tokens(score_request) for i, score_request in enumerate(score_requests)}
    ours: dict[int, tuple[float, ...]] = {}
    unique = 0
    for batch in plan_batches(lengths, BatchLimits.for_model(model.info, None)):
        for key, result in zip(batch, model.score([score_requests[int(key)] for key in batch]), strict=True):
            ours[int(key)] = result.logprobs
            unique += result.prompt_tokens + sum(result.tokens)
    rows = {"iit-bench": {"seconds": time.perf_counter() - started, "tokens": counter.tokens}}

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
    print(f"{len(score_requests)} prompts, {len(instances)} replies, {unique} unique tokens, {torch.get_num_threads()} thread(s)")
    for name, row in rows.items():
        print(f"{name:14} {row['seconds']:8.2f} s {row['tokens']:10.0f} tokens {row['tokens per unique token']:6.2f} per unique token")
    print(f"ratio          {ratio['seconds']:8.2f}   {ratio['tokens']:10.2f}        largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
