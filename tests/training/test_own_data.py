"""A visual stage on chats of the user's own, in one mixture with the lab's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from iit_bench.errors import UserError
from iit_bench.training import dry_run, loop, train
from iit_bench.training.chats import checking
from iit_bench.training.parallel import Processes
from iit_bench.training.recipe import load_recipe
from iit_bench.training.steps import Stepper
from iit_bench.training.train import make_task
from tests.training.chats.conftest import llava, picture
from tests.training.test_stages import Interrupted, InterruptedTask, weights

pytestmark = pytest.mark.slow
TURNS = [{"from": "human", "value": "Is <image> red?"}, {"from": "gpt", "value": "yes"}]
RECORDS = [
    llava(0),  # text only
    llava(1, "red.png"),
    llava(2, ["red.png", "blue.png"], "and <image>?"),
    {"image": ["blue.png", "red.png"], "conversations": [*TURNS, *TURNS]},  # two turns, an image in each
    llava(4, "gone.png"),
    *[llava(number, "blue.png") for number in range(5, 10)],
]


@pytest.fixture
def own(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> Callable[..., Any]:
    """own("wings", …) → the recipe of its second stage on RECORDS and the lab's facts, with further overrides."""
    for colour in ("red", "blue"):
        (tmp_path / f"{colour}.png").write_bytes(picture(colour))
    (tmp_path / "train.json").write_text(json.dumps(RECORDS))
    mixture = f"data.mixture=[{{source: {tmp_path}/train.json, weight: 9}}, {{source: 'lab:facts', weight: 1}}]"
    steps = ("optim.steps=6", "every.checkpoint=2", "every.score=100", "every.log=3", "optim.batch=10", "data.refuse_above=0.1")

    def overrides(model: str, *more: str) -> list[str]:
        return [*tiny[f"lab-{model}-stage2"], mixture, *steps, *more]

    return overrides


def recipe_of(model: str, overrides: list[str]) -> Any:
    return load_recipe(f"lab-{model}-stage2", overrides).recipe


@pytest.mark.oracle
@pytest.mark.parametrize("model", ["wings", "llava"])
def test_rows_of_all_kinds_in_one_batch_have_the_loss_they_have_alone(model: str, own: Callable[..., Any]) -> None:
    task = make_task(recipe_of(model, own(model)))
    rows = task.rows(0)
    assert {len(row.images) for row in rows} == {0, 1, 2} and len({len(row.ids) for row in rows}) > 2
    with torch.no_grad():
        together = float(task.loss(rows))
        alone = [float(task.loss([row])) for row in rows]
    assert together == pytest.approx(sum(alone), rel=1e-5)


def test_resumed_on_own_data_equals_uninterrupted(own: Callable[..., Any], tmp_path: Path) -> None:
    recipe = recipe_of("wings", own("wings"))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    straight = make_task(recipe)
    loop.fit(straight, recipe.optim, recipe.every, whole, {}, resume=False)
    with pytest.raises(Interrupted):
        loop.fit(InterruptedTask(make_task(recipe), 5), recipe.optim, recipe.every, parts, {}, resume=False)
    resumed = make_task(recipe)
    loop.fit(resumed, recipe.optim, recipe.every, parts, {}, resume=True)
    expected, got = weights(straight.module), weights(resumed.module)
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_what_was_refused_is_in_the_card_and_the_check_is_not_repeated(
    own: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "fit", lambda *args, **more: (_ for _ in ()).throw(Interrupted))
        with pytest.raises(Interrupted):
            train.run("lab-wings-stage2", own("wings", "limit=1"), out, progress=False)
    monkeypatch.setattr(checking, "_checked", None)  # would raise
    train.run("lab-wings-stage2", own("wings", "limit=1"), out, resume=True, progress=False)
    card = json.loads((out / train.CARD).read_text())
    (part,) = card["data"]
    assert (part["source"], part["records"], part["images"]) == ("train.json", 10, 10)
    assert part["refused"] == {"image missing": {"count": 1, "examples": ["train.json record 4: gone.png"]}}
    assert "T" in card["scores"]["dev"]
    mixture = [{"source": "train.json", "weight": 9}, {"source": "lab:facts", "weight": 1}]
    assert f"data.mixture={json.dumps(mixture)}" in card["overrides"]
    assert not [path.name for path in out.iterdir() if str(tmp_path.parent).encode() in path.read_bytes()]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)  # where the data lie
    start = next(item for item in own("wings") if item.startswith("inputs.model="))
    (first,), (again,) = (
        dry_run.plan(*of, tmp_path / "next") for of in (("lab-wings-stage2", own("wings")), (str(out / "recipe.yaml"), [start]))
    )
    assert replace(again, recipe="", reads={}) == replace(first, recipe="", reads={})


def test_what_is_held_out_is_said_by_source(own: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(llava(number)) + "\n" for number in range(45)))
    parts = ("train.json", "more.jsonl")
    mixture = ", ".join([*(f"{{source: {tmp_path}/{name}}}" for name in parts), "{source: 'lab:facts'}", "{source: 'lab:scenes'}"])
    recipe, out = (
        recipe_of("wings", own("wings", f"data.mixture=[{mixture}]", "optim.steps=2", "every.score=1", "limit=1")),
        tmp_path / "out",
    )
    out.mkdir()
    task = make_task(recipe)
    task.mixture(out, show=True)
    said = capsys.readouterr().err
    assert "nothing is held out of train.json, lab:scenes, so the validation loss is of more.jsonl, lab:facts only" in said
    task.score = lambda split, limit: {}
    loop.fit(task, recipe.optim, recipe.every, out, {}, resume=False)
    line = json.loads((out / "log.jsonl").read_text().splitlines()[0])
    rows = {one["source"]: one["rows"] for one in line["held_out"]}
    assert rows == {"train.json": 0, "more.jsonl": 2, "lab:facts": 16, "lab:scenes": 0}
    assert sum(rows.values()) == len(task.held_out()) and line["validation"] > 0


def test_the_validation_loss_is_also_of_each_source(own: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(llava(number)) + "\n" for number in range(45)))
    mixture = f"data.mixture=[{{source: {tmp_path}/train.json}}, {{source: {tmp_path}/more.jsonl}}, {{source: 'lab:facts'}}]"
    task = make_task(recipe := recipe_of("wings", own("wings", mixture)))
    stepper = Stepper(task, recipe.optim, recipe.run, Processes(recipe.run))
    task.score = lambda split, limit: {}
    scores = loop._scores(stepper, (task.held_out(), task.held_out_sources()), 1)
    file, facts = (rows := task.held_out())[:2], rows[2:]
    with torch.no_grad():
        alone, together = ([float(task.loss(some) / task.weight(some)) for some in of] for of in ((file, facts), (rows,)))
    found = {one["source"]: one.get("loss") for one in scores["held_out"]}
    assert found == {"train.json": None, "more.jsonl": pytest.approx(alone[0], abs=2e-5), "lab:facts": pytest.approx(alone[1], abs=2e-5)}
    assert scores["validation"] == pytest.approx(together[0], abs=2e-5)


def test_data_that_changed_since_the_checkpoint_are_refused(own: Callable[..., Any], tmp_path: Path) -> None:
    recipe, out = recipe_of("wings", own("wings")), tmp_path / "out"
    out.mkdir()
    task = make_task(recipe)
    task.mixture(out)
    with pytest.raises(Interrupted):
        loop.fit(InterruptedTask(task, 3), recipe.optim, recipe.every, out, {}, resume=False)
    (tmp_path / "train.json").write_text(json.dumps(RECORDS[1:]))
    with pytest.raises(UserError, match=r"train\.json: is not what this training began with"):
        make_task(recipe).mixture(out)


def test_too_much_that_is_refused_ends_before_the_first_step(own: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 10 records cannot be trained on, more than data\.refuse_above allows"):
        train.run("lab-wings-stage2", own("wings", "data.refuse_above=0.05"), tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").glob("checkpoint*"))


def test_an_image_that_breaks_or_goes_after_the_check_ends_the_run_by_name(own: Callable[..., Any], tmp_path: Path) -> None:
    task = make_task(recipe_of("wings", own("wings", f"data.mixture=[{{source: {tmp_path}/train.json}}]")))
    task.rows(0)
    (tmp_path / "blue.png").write_bytes(picture("green", (90, 90))[:-40])
    with pytest.raises(
        UserError, match=r"train\.json record \d: blue\.png: an image is damaged .*finds all such images unless data\.pixels is false"
    ):
        task.loss(task.rows(0))
    (tmp_path / "blue.png").unlink()
    with pytest.raises(UserError, match=r"train\.json record \d: image missing: blue\.png, though it was there when it was checked"):
        task.loss(task.rows(0))


def test_a_row_is_described_by_its_record(own: Callable[..., Any]) -> None:
    task = make_task(recipe_of("wings", own("wings")))
    described = [task.describe(row) for row in task.rows(0) if row.id]
    assert described and all(text.startswith("train.json record ") and "<image><image>" not in text for text in described)


def test_own_data_without_the_labs_have_no_scores(own: Callable[..., Any], tmp_path: Path) -> None:
    task = make_task(recipe_of("wings", own("wings", f"data.mixture=[{{source: {tmp_path}/train.json}}]")))
    assert task.score("dev", 1) == {}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("data.mixture=[{source: 'lab:moon'}]", "the lab's sources are lab:facts"),
        ("data.mixture=[{source: a.json, weight: 0}]", "must be above 0"),
        ("data.mixture=[{weight: 1}]", "lacks the key 'source'"),
        ("data.sources={facts: 1}", "exclude each other"),
    ],
)
def test_a_mixture_that_cannot_be(setting: str, says: str, own: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=says):
        recipe_of("wings", own("wings", setting))


def test_a_base_llm_takes_no_mixture() -> None:
    with pytest.raises(UserError, match=r"data\.mixture is read by the stages of kind vlm only"):
        load_recipe("lab-base", ["data.mixture=[{source: a.json}]"])


def test_text_alone_trains_no_projector_and_text_beside_images_does_no_harm(own: Callable[..., Any], tmp_path: Path) -> None:
    """A pass of text rows has no gradient where only the projector is trained, and a mixture of nothing else is refused."""
    (tmp_path / "text.json").write_text(json.dumps([llava(number) for number in range(20)]))
    text = f"{{source: {tmp_path}/text.json, weight: 9}}"
    frozen = ("optim.lr.llm=0", "run.accumulate=64")
    task = make_task(recipe_of("llava", own("llava", f"data.mixture=[{text}, {{source: 'lab:facts', weight: 1}}]", *frozen)))
    with pytest.raises(UserError, match=r"no chat of data\.mixture has an image, and text does not reach the projector"):
        task.mixture()
    recipe = recipe_of("llava", own("llava", f"data.mixture=[{text}, {{source: 'lab:easyvqa', weight: 1}}]", *frozen))
    made = Stepper(make_task(recipe), recipe.optim, recipe.run, Processes(recipe.run))
    _, done = made.gradients(made.task.rows(0))
    assert done["passes"] > 1 and any(bool(p.grad.any()) for p in made.task.groups["projector"])


def test_a_mixture_of_which_nothing_is_asked_announces_no_scoring(
    own: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = own("wings", f"data.mixture=[{{source: {tmp_path}/train.json}}]", "optim.steps=1", "test=true", "limit=1200")
    train.run("lab-wings-stage2", overrides, tmp_path / "out")
    said = capsys.readouterr().err
    assert "scoring" not in said and said.count("nothing is scored") == 1
    assert json.loads((tmp_path / "out" / train.CARD).read_text())["scores"] == {"dev": {}, "test": {}}
