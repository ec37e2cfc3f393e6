"""Logs that inspect wrote itself as sides: what is planted in its evaluations is recovered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("inspect_ai")

from evaluators.explain.explain import explain

pytestmark = pytest.mark.slow

N = 12
UNRECORDED = ("weights", "dtype", "template")


def run_inspect(
    folder: Path, replies: dict[int, str] | None = None, *, cut: bool = False, solver: tuple[Any, ...] = (), **given: Any
) -> Path:
    """inspect's own evaluation by its mock model, which answers right but for `replies`; `cut`: those ended at the limit of tokens."""
    from inspect_ai import Task
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import exact
    from inspect_ai.solver import generate

    outputs = []
    for i in range(N):
        reply = (replies or {}).get(i, "Paris is it")
        outputs.append(
            ModelOutput.from_content("mockllm/model", reply, stop_reason="max_tokens" if cut and i in (replies or {}) else "stop")
        )
        outputs[-1].usage = ModelUsage(input_tokens=3, output_tokens=1, total_tokens=4)  # else inspect counts, with a file from the network
    samples = [Sample(id=i, input=f"Question {i}?", target="Paris is it") for i in range(N)]
    task = Task(dataset=MemoryDataset(samples, name="questions"), solver=[*solver, generate()], scorer=exact(), name="words")
    model = get_model("mockllm/model", custom_outputs=outputs)
    quiet = {"display": "none", "max_connections": 1, "max_samples": 1, "log_realtime": False}
    (log,) = inspect_eval(task, model=model, log_dir=str(folder), **quiet, **given)
    assert log.status == "success"
    return Path(log.location.removeprefix("file://"))


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_inspect(tmp_path_factory.mktemp("right"))


def parts(a: Path, b: Path, same: tuple[str, ...]) -> dict[str, float]:
    found = explain([a, b], same=same)
    sizes = {part.name: part.size.value for part in found.parts if part.size.value}
    assert sum(sizes.values()) == pytest.approx(found.gap.value)
    return sizes


def test_a_reply_that_inspect_says_was_cut_is_truncation(right: Path, tmp_path: Path) -> None:
    cut = run_inspect(tmp_path, dict.fromkeys(range(3), "Paris"), cut=True, max_tokens=1)
    assert parts(right, cut, ()) == {"truncation": pytest.approx(3 / N)}
    ended = run_inspect(tmp_path / "ended", dict.fromkeys(range(3), "Paris"), max_tokens=1)
    assert "truncation" not in parts(right, ended, ())


def test_other_messages_are_a_prompt_and_equal_ones_are_none(right: Path, tmp_path: Path) -> None:
    from inspect_ai.solver import system_message

    other = run_inspect(tmp_path, dict.fromkeys(range(4), "Rome"), solver=(system_message("Answer in one word."),))
    assert parts(right, other, (*UNRECORDED, "decoding")) == {"prompt": pytest.approx(4 / N)}
    same = run_inspect(tmp_path / "same", dict.fromkeys(range(4), "Rome"))
    ((split,),) = explain([right, same]).steps
    assert split.causes and all("prompt" not in possible and "template" in possible for possible in split.causes.values())


def test_other_sampling_is_decoding(right: Path, tmp_path: Path) -> None:
    cold = run_inspect(tmp_path / "cold", temperature=0.0)
    warm = run_inspect(tmp_path / "warm", dict.fromkeys(range(2), "Rome"), temperature=1.0)
    assert parts(cold, warm, UNRECORDED) == {"decoding": pytest.approx(2 / N)}
