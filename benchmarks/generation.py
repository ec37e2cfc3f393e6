"""Measures what generating replies takes: in batches whose common beginnings are read once, beside one request at a time, in one run.

    python benchmarks/generation.py --bench demo/bench [--model base-llm] [--groups 8] [--limit 32] [--json]

Prints for each of the two: seconds, passes through the model, and positions that its embedding computed (padding included); their ratios,
below 1 where batches take less; and how many replies are equal. Greedy replies in float32 differ only where two tokens are as good as
equally likely: sums are rounded in another order.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from printed import as_table

from evaluators.iit.chosen import choose_dialogues
from evaluators.iit.turns import Asking, Course, request
from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import answer
from iit_bench.models.contract import GenerateRequest, GenerateResult, Model, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.benchmark import load_benchmark


class Counter:
    """Counts a model's passes and the token positions that they compute."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.passes = self.positions = 0
        model.get_input_embeddings().register_forward_hook(self._count)

    def _count(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.passes += 1
        self.positions += inputs[0].numel()


def measure(model: Model, requests: Sequence[GenerateRequest], limits: BatchLimits, counter: Counter) -> tuple[list[str], dict[str, float]]:
    """Texts of the replies, and what they took."""
    counter.passes = counter.positions = 0
    with tempfile.TemporaryDirectory() as scratch, ResponseLog(Path(scratch) / "responses.jsonl") as log:
        started = time.perf_counter()
        answers = answer(model, requests, log, limits).answers
        seconds = time.perf_counter() - started
    texts = [one.text for one in answers if isinstance(one, GenerateResult)]
    return texts, {"seconds": seconds, "passes": counter.passes, "positions": counter.positions}


def main() -> None:
    """Ask the same questions in both ways and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--model", default="base-llm")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--limit", type=int, default=32, help="requests")
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    model = load_model(arguments.model, ModelOptions())
    benchmark = load_benchmark(arguments.bench)
    images = model.info.accepts_images
    chosen = choose_dialogues(benchmark, None, arguments.groups, accepts_images=images, style="options")
    courses = [Course(dialogue, tuple(benchmark.questions[turn] for turn in dialogue.turns)) for dialogue in chosen.dialogues]
    asking = Asking(style="options", scoring="generate", max_new_tokens=arguments.max_new_tokens)
    asked = [request(course, len(course.questions) - 1, asking) for course in courses][: arguments.limit]
    requests = [one for one in asked if isinstance(one, GenerateRequest)]
    counter = Counter(model.model)  # type: ignore[attr-defined]

    batches, together = measure(model, requests, BatchLimits.for_model(model.info, None, model.way), counter)
    single, alone = measure(model, requests, BatchLimits(1, 2**62, way=model.way), counter)
    results: dict[str, Any] = {
        "requests": len(requests),
        "equal replies": sum(one == other for one, other in zip(batches, single, strict=True)),
        "in batches": together,
        "one at a time": alone,
        "ratio": {name: together[name] / alone[name] for name in together},
        "generation": model.info.details.get("generation", {}),
    }
    print(json.dumps(results, indent=2) if arguments.json else as_table(results))


if __name__ == "__main__":
    main()
