"""Runs with files that no checksum covers are named as unsealed wherever their figures are printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluators.arms.table import as_dict, as_table
from evaluators.compare.planning import PlanOptions, plan
from evaluators.compare.runs import comparisons
from evaluators.explain.explain import explain
from evaluators.explain.table import as_dict as explained_as_dict
from evaluators.explain.table import as_text
from evaluators.runs.marks import unsealed, unsealed_note
from evaluators.runs.reading import load_run
from evaluators.show.show import diff, show
from iit_bench.cli import main
from iit_bench.models.baselines import RandomModel
from iit_bench.models.contract import ModelOptions
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.runs import Run
from iit_bench.workflows.verifying import verify
from tests.resealed import change

NOTE = "Unsealed: old. These runs, as an earlier iit-bench wrote them, have files that no checksum covers"


@pytest.fixture
def folders(run: Callable[..., Run], tmp_path: Path) -> tuple[Path, Path]:
    """Two runs; of the second, "old", an earlier version did not record the hashes of its files."""
    whole = run(RandomModel("random", ModelOptions(seed=1))).path
    old = run(RandomModel("random", ModelOptions(seed=2)), out="old").path
    change(old / "run.json", lambda body: body.pop("files"))
    return whole, old


def test_every_print_of_figures_names_them(folders: tuple[Path, Path]) -> None:
    whole, old = folders
    (compared,) = comparisons(whole, old)
    made = plan(PlanOptions(pilot=(whole, old), difference=(0.2,)))
    explained = explain([whole, old])
    texts = [compared.as_table(), made.as_table(), as_text(explained), show(old).as_text(), diff(whole, old).as_text()]
    texts.append(as_table([], "run", unsealed=unsealed([load_run(whole), load_run(old)])))
    for text in texts:
        assert NOTE in " ".join(text.split())
    dicts: list[Any] = [compared.as_dict()["unsealed"], as_dict([], ["old"])["unsealed"], list(made.as_dict()["basis"]["unsealed"])]
    assert dicts == [["old"]] * 3
    assert [one["unsealed"] for one in explained_as_dict(explained)["results"]] == [False, True]
    assert NOTE in show(old).as_dict()["note"] and NOTE in diff(old, whole).as_dict()["note"]


def test_whole_runs_are_not_marked(folders: tuple[Path, Path]) -> None:
    whole, _ = folders
    (compared,) = comparisons(whole, whole)
    assert unsealed([load_run(whole)]) == [] and unsealed_note([]) == ""
    assert not any("Unsealed" in text for text in (compared.as_table(), show(whole).as_text(), diff(whole, whole).as_text()))


@pytest.mark.parametrize("as_json", [False, True])
def test_an_evaluation_names_a_base_that_is_unsealed(
    as_json: bool, folders: tuple[Path, Path], bench: Benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "new")
    command = ["eval", "--model", "random", "--bench", str(bench.path), "--base", str(folders[1]), "--out", out, "--quiet"]
    assert main([*command, *(["--json"] if as_json else [])]) == 0
    printed = capsys.readouterr()
    assert NOTE in " ".join((printed.err if as_json else printed.out).split())


@pytest.mark.parametrize("of", ["1", "2"])
def test_a_run_whose_answers_are_of_a_log_without_checksums_is_unsealed(
    of: str, bench: Benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the process that resumes it is one of two."""
    out = tmp_path / "run"
    command = ["eval", "--model", "random", "--bench", str(bench.path), "--tiers", "T", "--out", str(out), "--quiet"]
    assert main(command) == 0
    log = out / "responses.jsonl"
    lines = [{**json.loads(line), "version": 1} for line in log.read_text().splitlines()[:1]]
    lines += [json.loads(line) for line in log.read_text().splitlines()[1:]]
    log.write_text("".join(json.dumps({name: value for name, value in line.items() if name != "check"}) + "\n" for line in lines))
    assert not load_run(out).unsealed and "Unsealed" not in capsys.readouterr().out
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", of)
    assert main(command) == 0
    assert "Unsealed: run." in capsys.readouterr().out
    run = load_run(out)
    assert run.unsealed and run.run["unchecked_answers"] == len(lines) - 1
    assert "unsealed" in verify([out])[0].line()


def test_an_export_names_them(folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *map(str, folders), "--to", "csv", "--out", str(tmp_path / "out")]) == 0
    written = (tmp_path / "out" / "README.md").read_text()
    assert NOTE in " ".join(written.split()) and NOTE in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["unsealed"] == ["old"]
