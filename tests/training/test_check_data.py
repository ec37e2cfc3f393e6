"""`train --check-data` prints what a training would refuse, trains nothing, and keeps the result for the training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.training import check_data, dry_run
from iit_bench.training.chats import checking
from iit_bench.training.chats.reading import Source
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task
from tests.training.chats.conftest import llava, picture

pytestmark = pytest.mark.slow


@pytest.fixture
def overrides(tiny: dict[str, tuple[str, ...]], tmp_path: Path) -> list[str]:
    """Of Wings' stage 2: three records, one of which is refused."""
    (tmp_path / "red.png").write_bytes(picture())
    (tmp_path / "train.json").write_text(json.dumps([llava(0), llava(1, "red.png"), llava(2, "gone.png")]))
    return [*tiny["lab-wings-stage2"], f"data.mixture=[{{source: {tmp_path}/train.json}}]", "optim.steps=2", "optim.batch=2"]


def words(overrides: list[str], *more: str) -> list[str]:
    return ["train", "lab-wings-stage2", *(word for item in overrides for word in ("--set", item)), "--quiet", *more]


@pytest.mark.parametrize(("allowed", "code"), [("0.3", 2), ("0.4", 0)])
def test_the_table_is_printed_and_the_exit_code_says_whether_it_may_be_trained_on(
    allowed: str, code: int, overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*words(overrides, "--set", f"data.refuse_above={allowed}", "--check-data", "--out", str(out))]) == code
    printed = capsys.readouterr()
    assert "image missing," in printed.out and "first: train.json record 2: gone.png" in printed.out
    assert ("1 of 3 records cannot be trained on" in printed.err) == (code == 2)
    assert [path.name for path in out.iterdir()] == [checking.CACHE]


def test_the_training_does_not_check_again(overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, settings = tmp_path / "out", [*overrides, "data.refuse_above=0.5"]
    (stage,) = check_data.check_data("lab-wings-stage2", settings, out)
    checked: list[int] = []
    real = Source.check
    monkeypatch.setattr(Source, "check", lambda self, number, pixels: (checked.append(number), real(self, number, pixels))[1])
    mixture = make_task(load_recipe("lab-wings-stage2", settings).recipe).mixture(out)
    assert mixture is not None and mixture.report.as_json() == stage.as_json()["data"]
    assert checked == [2]  # what was refused may have been mended


def test_a_dry_run_has_the_table_and_writes_nothing(overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, allowed = tmp_path / "out", ("--set", "data.refuse_above=0.5")
    assert main(words(overrides, *allowed, "--dry-run", "--out", str(out))) == 0
    assert "first: train.json record 2: gone.png" in capsys.readouterr().out
    assert main(words(overrides, *allowed, "--dry-run", "--json", "--out", str(out))) == 0
    (stage,) = json.loads(capsys.readouterr().out)
    assert stage["data"][0]["refused"]["image missing"]["count"] == 1 and not out.exists()


def test_rows_of_data_that_are_not_downloaded_yet_are_assumed(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (stage,) = dry_run.plan("lab-wings-stage2", [*overrides, "data.mixture=[{source: 'hf:me/chats'}]"], tmp_path / "out")
    assert not stage.rows.measured and "hf:me/chats is not in the Hub's cache" in stage.notes[0]


def test_files_that_are_missing_beside_data_of_the_hub_end_a_dry_run_or_are_noted(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such data were planned without a look at the folder of their images, and at files of one's own beside them."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    of_hub = f"{{source: 'hf:me/chats', images: {tmp_path}/pictures}}"

    def planned(*parts: str) -> dry_run.StagePlan:
        (stage,) = dry_run.plan("lab-wings-stage2", [*overrides, f"data.mixture=[{', '.join(parts)}]"], tmp_path / "out")
        return stage

    stage, ends = planned(of_hub), "on this machine the training would end: "
    assert stage.reads["data.mixture[0].images"] == f"{tmp_path}/pictures"
    assert stage.notes[0].startswith(f"{ends}{tmp_path}/pictures: there is no such folder or .zip file; set images in data.mixture")
    (tmp_path / "pictures").mkdir()
    assert not any(note.startswith(ends) for note in planned(of_hub).notes)
    for own, says in (
        ("{source: gone.json}", "gone.json: there is no such file"),
        (f"{{source: {tmp_path}/train.json, images: lost}}", "lost:"),
    ):
        with pytest.raises(UserError, match=says):
            planned(of_hub, own)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["data.mixture=[]"], "key 'mixture': is an empty list; give one or more, or leave the key out"),
        (["data={turns: [1]}"], "has no data.mixture, so there are no data of your own to check"),
    ],
)
def test_without_own_data_there_is_nothing_to_check(more: list[str], says: str, overrides: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says):
        check_data.check_data("lab-wings-stage2", [*overrides, *more], tmp_path / "out")


def test_scores_that_nothing_was_asked_for_are_left_out(overrides: list[str]) -> None:
    """Colours are asked of one picture in many, so that few questions may have none."""
    task = make_task(load_recipe("lab-wings-stage2", [*overrides, "data={turns: [1]}"]).recipe)
    found = task.score("dev", 1)
    assert found and all(score.n for score in found.values()) and "V" in found


def test_the_recipe_and_the_records_of_the_page_are_taken_as_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "train.md").read_text(encoding="utf-8").partition("## Your own data")[2]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for colour in ("red", "blue"):
        Path(f"{colour}.png").write_bytes(picture(colour))
    for name, language in (("my-recipe.yaml", "yaml"), ("chats.jsonl", "json")):
        Path(name).write_text(page.partition(f"```{language}\n")[2].partition("```")[0], encoding="utf-8")
    for source in ("chats.jsonl", "~/chats.jsonl"):
        Path("my-recipe.yaml").write_text(Path("my-recipe.yaml").read_text().replace("source: chats.jsonl", f"source: {source}"))
        assert main(["train", "my-recipe.yaml", "--check-data", "--out", "out", "--json"]) == 0
        (stage,) = json.loads(capsys.readouterr().out)
        (found,) = stage["data"]
        assert (found["records"], found["images"], found["refused"]) == (5, 5, {})
    (planned,) = dry_run.plan("my-recipe.yaml", [], Path("out"))
    assert {part.name for part in planned.parts if part.rate} == {"projector", "visual"}
