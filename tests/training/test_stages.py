"""Every stage trains what its recipe says, freezes the rest, and resumes after an interruption as if there had been none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.errors import UserError
from iit_bench.training import loop
from iit_bench.training.identity import identity_of
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task, run

pytestmark = pytest.mark.slow

STAGES = ("lab-base", "lab-tower", "lab-wings-stage1", "lab-wings-stage2", "lab-llava-stage1", "lab-llava-stage2")
STEPS = ("optim.steps=10", "every.checkpoint=4", "every.score=100", "every.log=5", "optim.batch=3")


class Interrupted(Exception):
    pass


class InterruptedTask:
    """A task that stops at a step, as Ctrl-C or a kill would."""

    def __init__(self, task: Any, at: int) -> None:
        self.module, self.groups, self._task, self._at = task.module, task.groups, task, at

    def rows(self, step: int) -> Any:
        if step == self._at:
            raise Interrupted
        return self._task.rows(step)

    def held_out(self) -> Any:
        return []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def score(self, split: str, limit: int | None) -> dict[str, Any]:
        return {}


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


METHODS = {
    "wings": "{llm: 1.0e-3, projector: 1.0e-3, visual: 1.0e-3, textual: 1.0e-3}",
    "projector": "{projector: 1.0e-3}",
    "lora": "{adapter: 1.0e-3, projector: 1.0e-3}",
    "dora": "{adapter: 1.0e-3, projector: 1.0e-3}",
    "replay": "{llm: 1.0e-3, projector: 1.0e-3}",
}


@pytest.mark.parametrize("stage", (*STAGES, *METHODS))
def test_resumed_equals_uninterrupted(stage: str, inputs: dict[str, Path], tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    if stage in METHODS:
        options = {"wings": "router: false, rank: 4", "lora": "rank: 2", "dora": "rank: 2"}.get(stage, "")
        method = (f"inputs.model={inputs['llava-stage1']}", f"method={{name: {stage}, {options}}}", f"optim.lr={METHODS[stage]}")
        recipe: Any = load_recipe("lab-llava-stage2", [*method, *STEPS]).recipe
    else:
        recipe = load_recipe(stage, [*tiny[stage], *STEPS]).recipe
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    straight = make_task(recipe)
    before = weights(straight.module)
    loop.fit(straight, recipe.optim, recipe.every, whole, {}, resume=False)
    with pytest.raises(Interrupted):
        loop.fit(InterruptedTask(make_task(recipe), 7), recipe.optim, recipe.every, parts, {}, resume=False)
    resumed = make_task(recipe)
    loop.fit(resumed, recipe.optim, recipe.every, parts, {}, resume=True)
    expected, got = weights(straight.module), weights(resumed.module)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert any(not torch.equal(expected[name], before[name]) for name in expected)
    steps = [json.loads(line)["step"] for line in (parts / "log.jsonl").read_text().splitlines()]
    assert steps == [5, 5, 10]  # the interrupted run logged step 5, the resumed one went on from step 4


@pytest.mark.parametrize(
    ("stage", "trained"),
    [
        ("lab-wings-stage1", {"projector", "visual"}),
        ("lab-wings-stage2", {"llm", "projector", "visual", "textual", "router"}),
        ("lab-llava-stage1", {"projector"}),
        ("lab-llava-stage2", {"llm", "projector"}),
    ],
)
def test_only_the_stages_groups_change(stage: str, trained: set[str], tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    recipe: Any = load_recipe(stage, [*tiny[stage], *STEPS, "optim.steps=3"]).recipe
    task = make_task(recipe)
    before, buffers = ({n: t.detach().clone() for n, t in some} for some in (task.module.named_parameters(), task.module.named_buffers()))
    groups = {id(p): group for group, parameters in task.groups.items() for p in parameters}
    loop.fit(task, recipe.optim, recipe.every, tmp_path, {}, resume=False)
    changed = {groups[id(p)] for name, p in task.module.named_parameters() if not torch.equal(p, before[name])}
    assert changed == trained
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in task.module.named_buffers())  # the tower's statistics do not drift
    learners = {"visual", "textual"} & set(groups.values())
    assert learners == {"lab-wings-stage1": {"visual"}, "lab-wings-stage2": {"visual", "textual"}}.get(stage, set())


def test_a_stage_starts_as_the_stage_before_ended(inputs: dict[str, Path], tiny: dict[str, tuple[str, ...]]) -> None:
    """Before its first step the textual learner adds nothing, so stage 2 has the weights of stage 1 wherever both have them."""
    from iit_bench.models.wings.modeling import WingsForConditionalGeneration

    stage1 = WingsForConditionalGeneration.from_pretrained(inputs["wings-stage1"], dtype=torch.float32).state_dict()
    stage2 = make_task(load_recipe("lab-wings-stage2", tiny["lab-wings-stage2"]).recipe).module.state_dict()
    assert set(stage1) < set(stage2)
    assert all(torch.equal(stage1[name], stage2[name]) for name in stage1)


def test_a_visual_stage_saves_its_processor(inputs: dict[str, Path]) -> None:
    from transformers import AutoProcessor

    from iit_bench.models.wings import WingsConfig, WingsProcessor

    processor = AutoProcessor.from_pretrained(inputs["wings-stage1"])
    config = WingsConfig.from_pretrained(inputs["wings-stage1"])
    assert type(processor) is WingsProcessor
    assert processor.image_token_length == config.image_token_length


def test_a_run_writes_a_loadable_bfloat16_model_and_its_card(
    tiny: dict[str, tuple[str, ...]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    arguments = [*tiny["lab-base"], *STEPS, "optim.steps=2", "limit=4", "test=false"]
    out = run("lab-base", arguments, tmp_path / "out")
    assert "Loading weights" not in capfd.readouterr().err  # transformers' own bar
    card = json.loads((out / "training.json").read_text())
    assert card["recipe"] == "lab-base" and card["recipe_sha256"] == load_recipe("lab-base").sha256
    assert card["scores"]["dev"]["T"]["n"] == 4 and "test" not in card["scores"]
    assert not (out / "checkpoint").exists()
    model = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    assert model.dtype == torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True) == (
        "<|user|>Hi<|end|><|assistant|>"
    )
    with pytest.raises(UserError, match="not empty"):
        run("lab-base", arguments, out)
    stamp = (out / "model.safetensors").stat().st_mtime_ns
    run("lab-base", arguments, out, resume=True)  # finished: nothing to do
    assert (out / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_checkpoint_of_other_arguments_is_refused(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    def of_seed(seed: int) -> dict[str, Any]:
        return identity_of(load_recipe("lab-base", [f"seed={seed}"]))

    recipe: Any = load_recipe("lab-base", [*tiny["lab-base"], *STEPS]).recipe
    with pytest.raises(Interrupted):
        loop.fit(InterruptedTask(make_task(recipe), 5), recipe.optim, recipe.every, tmp_path, of_seed(0), resume=False)
    with pytest.raises(UserError, match=r"another recipe or other --set values \(--set here: seed=1; there: seed=0\)"):
        loop.fit(make_task(recipe), recipe.optim, recipe.every, tmp_path, of_seed(1), resume=True)


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (["inputs.model=nowhere"], "inputs.model"),
        (["inputs.model=''"], "inputs.llm"),
        (["optim.lr.tower=1"], "tower"),
    ],
)
def test_bad_inputs_are_one_sentence(overrides: list[str], word: str) -> None:
    with pytest.raises(UserError, match=word):
        make_task(load_recipe("lab-wings-stage2", overrides).recipe)


def test_a_rate_for_a_part_the_model_lacks_is_refused(tiny: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(UserError, match="router"):
        load_recipe("lab-llava-stage2", [*tiny["lab-llava-stage2"], "optim.lr.router=1"])
    with pytest.raises(UserError, match="nothing would be trained"):
        load_recipe("lab-base", [*tiny["lab-base"], "optim.lr.llm=0"])
