"""Steps of mode `released` in a model that is saved as `strict` (iit_bench/training/trained_released.py), and the learners' scale."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.errors import UserError
from iit_bench.training import batches, chat, dialogues
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task

ONE_IMAGE = ("data.turns=[1]", "data.sources={easyvqa: 1, flags: 1}")


def task_of(inputs: dict[str, Path], method: str, *overrides: str) -> Any:
    start = (f"inputs.model={inputs['llava-stage1']}", "optim.batch=6", f"method={{name: wings, rank: 4{method}}}", *overrides)
    recipe: Any = load_recipe("lab-llava-stage2", start).recipe
    return make_task(recipe)


@pytest.fixture(scope="module")
def released(inputs: dict[str, Path]) -> Any:
    """A task whose learners add something."""
    task = task_of(inputs, ", mode: released", *ONE_IMAGE)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (*task.groups["visual"], *task.groups["textual"]):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return task


@pytest.mark.slow
def test_a_step_has_the_loss_of_the_released_equations(released: Any) -> None:
    """The model's own mode `released`, which the golden vectors hold (test_golden_step.py), on chats encoded with one slot per image."""
    recipe = released.recipe
    drawn = dialogues.batch(dialogues.of(recipe.data), recipe.data, 6, dialogues.generator(recipe.seed, 2))
    slots = [chat.encode(released.tokenizer, chat.messages(dialogue), 1) for dialogue in drawn]
    batch = batches.collate(slots, released.tokenizer.pad_token_id)
    features = released._features(batch.images)
    with torch.no_grad():
        found = released.loss(released.rows(2))
        assert released.module.config.mode == "strict"
        released.module.config.mode, released.module.config.system_prompt_length = "released", 0
        try:
            expected = released.module(batch.ids, batch.mask, image_features=features, labels=batch.labels).loss
        finally:
            released.module.config.mode = "strict"
        torch.testing.assert_close(found, expected * sum(row.labelled for row in slots))


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [True, False])
def test_the_first_token_of_an_answer_is_learned_with_the_later_ones_in_sight(inputs: dict[str, Path], released: Any, leaks: bool) -> None:
    """The label leak of docs/spec/wings.md#a5-causality; mode `strict` has none."""
    task = released
    if not leaks:
        task = task_of(inputs, "", *ONE_IMAGE)
        task.module.load_state_dict(released.module.state_dict())
    row = next(row for row in task.rows(0) if row.labelled > 2)
    first = next(place for place, label in enumerate(row.labels) if label != chat.IGNORED)
    only = dataclasses.replace(row, labels=[label if place == first else chat.IGNORED for place, label in enumerate(row.labels)])
    changed = dataclasses.replace(only, ids=[*row.ids[: first + 1], *[row.ids[first]] * (len(row.ids) - first - 1)])
    with torch.no_grad():
        assert (abs(float(task.loss([only]) - task.loss([changed]))) > 1e-4) == leaks


@pytest.mark.slow
def test_the_folder_is_of_mode_strict_and_has_the_scale(inputs: dict[str, Path], tmp_path: Path) -> None:
    from iit_bench.models.wings.configuration import WingsConfig

    task_of(inputs, ", mode: released", *ONE_IMAGE).save(tmp_path / "released")
    task_of(inputs, ", learner_scale: 0.5").save(tmp_path / "half")
    modes = [(config.mode, config.learner_scale) for config in map(WingsConfig.from_pretrained, (tmp_path / "released", tmp_path / "half"))]
    assert modes == [("strict", 2.0), ("strict", 0.5)]


@pytest.mark.parametrize(
    ("method", "overrides", "words"),
    [
        ("mode: released", [], "data.turns to \\[1\\]"),
        ("mode: released", ["data.turns=[1]", "data.sources={digits: 1}"], "some of easyvqa, flags, flag-facts"),
        ("mode: released", [*ONE_IMAGE, "data.replay={share: 0.1}"], "without data.mixture, data.replay"),
        ("mode: released, learner_scale: 1.0", ONE_IMAGE, "learner_scale 2 and weighs"),
        ("mode: released, router: false", ONE_IMAGE, "learner_scale 2 and weighs"),
        ("mode: exact", [], "strict or released"),
        ("learner_scale: 0", [], "above 0"),
    ],
)
def test_what_the_mode_cannot_train_on_is_refused_in_a_sentence(method: str, overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_recipe("lab-llava-stage2", (f"method={{name: wings, {method}}}", *overrides))
    assert "\n" not in str(caught.value)
