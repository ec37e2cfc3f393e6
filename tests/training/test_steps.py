"""A step's loss and gradients are the same however it is computed: in one pass or several, with layers kept or recomputed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.errors import UserError
from iit_bench.training import loop
from iit_bench.training.dry_run import plan
from iit_bench.training.parallel import Processes
from iit_bench.training.recipe import load_recipe
from iit_bench.training.records import Running
from iit_bench.training.steps import Stepper
from iit_bench.training.train import make_task, run

pytestmark = pytest.mark.slow
STAGES = ("lab-base", "lab-wings-stage2", "lab-llava-stage2")


def stepper(stage: str, tiny: dict[str, tuple[str, ...]], *overrides: str, **run: Any) -> Stepper:
    recipe: Any = load_recipe(stage, [*tiny[stage], *overrides]).recipe
    how = Running(**run)
    return Stepper(make_task(recipe), recipe.optim, how, Processes(how))


def gradients(made: Stepper, step: int = 0) -> tuple[float, dict[str, torch.Tensor], dict[str, int]]:
    loss, done = made.gradients(made.task.rows(step))
    return loss, {name: p.grad.clone() for name, p in made.task.module.named_parameters() if p.grad is not None}, done


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert set(found) == set(expected)
    scale = max(float(tensor.norm()) for tensor in expected.values())
    for name, tensor in expected.items():
        assert float((found[name] - tensor).norm()) <= tolerance * max(float(tensor.norm()), 1e-2 * scale), name


def whole(made: Stepper, step: int = 0) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the step's rows as one padded batch."""
    rows = made.task.rows(step)
    loss = made.task.loss(rows) / made.task.weight(rows)
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in made.task.module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("most", [1, 150])
def test_passes_add_up_to_one_batch(stage: str, most: int, tiny: dict[str, tuple[str, ...]]) -> None:
    loss, found, done = gradients(stepper(stage, tiny, "data.turns=[1, 2]", accumulate=most))
    expected_loss, expected = whole(stepper(stage, tiny, "data.turns=[1, 2]"))
    assert done["passes"] > 1
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert_same(found, expected, 1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_what_the_last_layer_leaves_out_changes_no_gradient(stage: str, tiny: dict[str, tuple[str, ...]], monkeypatch: Any) -> None:
    made = stepper(stage, tiny)
    computed: list[int] = []
    made.task.module.model.layers[-1].mlp.register_forward_hook(lambda _module, inputs, _out: computed.append(inputs[0][..., 0].numel()))
    loss, found, _ = gradients(made)
    rows = made.task.rows(0)
    assert sum(computed) == made.task.weight(rows) < sum(len(row.ids) for row in rows) / 5
    plain = stepper(stage, tiny)
    monkeypatch.setattr("iit_bench.training.last_layer.PARTS", ())
    expected_loss, expected, _ = gradients(plain)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert_same(found, expected, 1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_recomputed_layers_have_the_same_gradients(stage: str, tiny: dict[str, tuple[str, ...]]) -> None:
    made = stepper(stage, tiny, checkpointing=True)
    calls: list[str] = []
    made.task.module.model.layers[0].self_attn.register_forward_hook(lambda *_: calls.append("attention"))
    loss, found, done = gradients(made)
    assert len(calls) == 2 * done["passes"]  # again in the backward pass
    expected_loss, expected, _ = gradients(stepper(stage, tiny))
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert_same(found, expected, 1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_bfloat16_computes_with_float32_weights(stage: str, tiny: dict[str, tuple[str, ...]]) -> None:
    made = stepper(stage, tiny, precision="bfloat16")
    seen: set[torch.dtype] = set()
    made.task.module.model.layers[0].self_attn.q_proj.register_forward_hook(lambda _module, _inputs, out: seen.add(out.dtype))
    loss, found, _ = gradients(made)
    assert seen == {torch.bfloat16}
    assert {p.dtype for p in made.task.module.parameters()} == {torch.float32} == {tensor.dtype for tensor in found.values()}
    expected_loss, expected, _ = gradients(stepper(stage, tiny))
    assert loss == pytest.approx(expected_loss, rel=5e-3)
    assert_same(found, expected, 0.2)


def test_in_bfloat16_the_smallest_rate_still_moves_weights(tiny: dict[str, tuple[str, ...]]) -> None:
    """At 2e-6, the paper's rate for the LLM, bfloat16 weights would round back to what they were."""
    made = stepper("lab-base", tiny, "optim.lr.llm=2e-6", "optim.warmup=0", precision="bfloat16")
    before = made.task.module.model.layers[0].mlp.up_proj.weight.detach().clone()
    made.step(0)
    after = made.task.module.model.layers[0].mlp.up_proj.weight.detach()
    assert (after != before).float().mean() > 0.9
    assert (after.bfloat16() != before.bfloat16()).float().mean() < 0.1


def test_a_part_that_no_row_uses_has_gradient_zero(tiny: dict[str, tuple[str, ...]]) -> None:
    """Rows without images do not use the projector; with several processes one of them may have only such rows."""
    made = stepper("lab-wings-stage2", tiny)
    from iit_bench.data import facts
    from iit_bench.training import chat

    rows = [chat.encode(made.task.tokenizer, chat.messages([question])) for question in facts.questions("taught")[:3]]
    made.gradients(rows)
    assert {bool(p.grad.any()) for p in made.task.groups["projector"]} == {False}
    assert any(bool(p.grad.any()) for p in made.task.groups["llm"])


def test_a_pass_without_rows_computes_one_of_its_own_process(tiny: dict[str, tuple[str, ...]]) -> None:
    """Other processes wait for the pass; a shorter row of theirs would have its images opened here."""
    made = stepper("lab-wings-stage2", tiny)
    rows = sorted(made.task.rows(0) + made.task.rows(1), key=made.task.size)
    computed: list[Any] = []
    loss = made.task.loss
    made.task.loss = lambda some: (computed.append(list(some)), loss(some))[1]
    assert made._pass(rows, [], own=[[], [len(rows) - 1], [len(rows) - 2]]).item() == 0
    assert computed == [[rows[len(rows) - 2]]]


def test_the_log_has_loss_rates_norms_throughput_and_validation(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    overrides = ("optim.steps=4", "every.log=2", "every.score=2", "optim.clip=1e9", "data.turns=[1, 2]")
    recipe: Any = load_recipe("lab-wings-stage1", [*tiny["lab-wings-stage1"], *overrides]).recipe
    task = make_task(recipe)
    task.score = lambda split, limit: {}
    norms = []
    made = stepper("lab-wings-stage1", tiny, *overrides)
    for step in range(2):
        _, found, _ = gradients(made, step)
        norms.append(float(torch.stack([tensor.double().norm() for tensor in found.values()]).norm()))
        made.step(step)
    validation = made.task.loss(held := made.task.held_out()) / made.task.weight(held)
    loop.fit(task, recipe.optim, recipe.every, tmp_path, {}, resume=False)
    first, last = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert (first["step"], last["step"]) == (2, 4)
    assert first["norm"] == pytest.approx({"mean": sum(norms) / 2, "max": max(norms)}, rel=1e-4)
    assert first["rates"] == {name: pytest.approx(2e-3 * first["lr"]) for name in ("projector", "visual")}
    assert first["tokens_per_second"] > 0 and 0 <= first["padding"] < 0.5
    assert first["validation"] == pytest.approx(validation.item(), abs=2e-5)
    assert first["held_out"] == [{"source": "lab:easyvqa", "rows": len(held), "loss": first["validation"]}]
    assert "validation" not in last and "held_out" not in last


@pytest.mark.parametrize(("allowed", "asked"), [(("limit=0",), 150), (("limit=149",), 149), (("limit=1200",), 150)])
@pytest.mark.parametrize("questions", [None, 20])
def test_dev_scores_during_training_ask_no_more_than_the_recipe_allows(
    allowed: tuple[str, ...], asked: int, questions: int | None, tiny: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    overrides = (*allowed, *([f"every.questions={questions}"] if questions else []), "optim.steps=2", "every.score=1", "every.checkpoint=9")
    recipe: Any = load_recipe("lab-tower", [*tiny["lab-tower"], *overrides]).recipe
    task, limits = make_task(recipe), []
    task.score = lambda split, limit: limits.append((split, limit)) or {}
    loop.fit(task, recipe.optim, recipe.every, tmp_path, {}, resume=False, limit=recipe.limit)
    assert limits == [("dev", questions or asked)]


def test_tensorboard_is_asked_for_before_anything_is_done(
    tiny: dict[str, tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after every record of own data was checked."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as where it is not installed
    words = [*tiny["lab-base"], "run.tensorboard=true"]
    for look in (lambda: run("lab-base", words, tmp_path / "out", progress=False), lambda: plan("lab-base", words, tmp_path / "out")):
        with pytest.raises(UserError, match="pip install tensorboard"):
            look()
        assert not (tmp_path / "out").exists()


def test_tensorboard_is_named_where_it_is_missing_and_written_where_not(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    recipe: Any = load_recipe("lab-base", [*tiny["lab-base"], "optim.steps=1", "every.log=1", "run.tensorboard=true"]).recipe
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        with pytest.raises(UserError, match="pip install tensorboard"):
            loop.fit(make_task(recipe), recipe.optim, recipe.every, tmp_path, {}, resume=False, run=recipe.run)
        return
    loop.fit(make_task(recipe), recipe.optim, recipe.every, tmp_path, {}, resume=False, run=recipe.run)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    logged = json.loads((tmp_path / "log.jsonl").read_text())
    assert events.Scalars("loss")[0].value == pytest.approx(logged["loss"])
    assert {"norm/mean", "rates/llm", "tokens_per_second"} <= set(events.Tags()["scalars"])
