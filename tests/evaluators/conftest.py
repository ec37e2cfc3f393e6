"""Fixtures of the evaluators' tests."""

import logging
import os
import random
import ssl
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluators.iit.evaluate import evaluate_model
from evaluators.runs.options import RunOptions
from iit_bench.models.contract import Model, ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.runs import Run, load_run
from iit_bench.types import Outcome, Prediction

Predict = Callable[..., Prediction]


@pytest.fixture
def predict() -> Predict:
    """A prediction of one turn from a tier, a target and an outcome; everything else has a plain default.

    The chosen index is the answer (0) for "correct", 1 for "wrong", -1 otherwise, under all three metrics unless told.
    """

    def make(
        tier: str,
        target: str,
        outcome: Outcome = "correct",
        *,
        position: int | None = None,
        cluster: str = "",
        source: str = "facts",
        subject: str = "capital",
        choices: int = 4,
        norm: int | None = None,
        in_bytes: int | None = None,
        history: tuple[str, ...] = (),
    ) -> Prediction:
        at = len(tier) - 1 if position is None else position
        is_target = at == len(tier) - 1
        chosen = {"correct": 0, "wrong": 1, "unparsed": -1, "error": -1}[outcome]
        return Prediction(
            dialogue=f"{target}/{tier}",
            position=at,
            is_target=is_target,
            tier=tier,
            group=target,
            question=target if is_target else f"{target}/{tier}/{at}",
            source=source,
            subject=subject,
            cluster=cluster or f"cluster of {target}",
            modality="V" if tier[at] == "V" else "T",
            choices=tuple("abcdefgh"[:choices]),
            answer=0,
            logprobs=(),
            choice_tokens=(),
            chosen=chosen,
            chosen_norm=chosen if norm is None else norm,
            chosen_bytes=chosen if in_bytes is None else in_bytes,
            outcome=outcome,
            reply="",
            prompt_tokens=1,
            reply_tokens=1,
            history_clusters=history,
        )

    return make


@pytest.fixture(scope="session")
def llama_folder(save_tiny) -> Path:
    return save_tiny("llama", max_position_embeddings=1024)


@pytest.fixture(scope="session")
def llama(llama_folder) -> Model:
    return load_model(f"hf:{llama_folder}", ModelOptions(device="cpu"))


@pytest.fixture
def run(bench, tmp_path):
    """run(model, option=…) → the finished run folder."""

    def call(model: Model, benchmark: Benchmark = bench, out: str = "run", **options) -> Run:
        evaluate_model(
            model, benchmark, RunOptions(model=model.info.name, bench=benchmark.path, out=tmp_path / out, **options), progress=False
        )
        return load_run(tmp_path / out)

    return call


@pytest.fixture(scope="session")
def state_of_the_process() -> Callable[[], dict[str, object]]:
    """state_of_the_process() → what lm-eval and VLMEvalKit change in a process that runs them, to be compared before and after."""
    import numpy as np
    import torch
    from PIL import Image

    def look() -> dict[str, object]:
        return {
            "tls": ssl._create_default_https_context,
            "gradients": torch.is_grad_enabled(),
            "threads": torch.get_num_threads(),
            "torch seed": torch.initial_seed(),
            "torch state": torch.get_rng_state().tolist(),
            "random": random.getstate(),
            "numpy": np.random.get_state()[1].tolist(),
            "errors of numpy": np.geterr(),
            "environment": dict(os.environ),
            "handlers": [list(logging.getLogger(name).handlers) for name in ("", "vlmeval", "lm_eval")],
            "levels": [logging.getLogger(name).level for name in ("", "vlmeval", "lm_eval", "datasets", "transformers")],
            "warnings": list(warnings.filters),
            "pixels": Image.MAX_IMAGE_PIXELS,
            "folder": os.getcwd(),
            "modules": [name for name in sys.modules if name.split(".")[0] == "vlmeval"],
        }

    return look
