"""The main job in one call. The bundled models take part where they are there; the way through the house is tried in any case."""

from __future__ import annotations

import dataclasses
import importlib
import re
import shutil
import sys
from pathlib import Path

import pytest

from builders.build import BuildOptions
from iit_bench.errors import UserError
from iit_bench.models.bundled import ASSETS
from iit_bench.storage.runs import load_run
from iit_bench.workflows import demo as module
from tests.recompute_figures import check_run

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def small(bench, tmp_path, monkeypatch):
    """A folder with a small benchmark, which is the demo's here, to save the time of the whole one."""
    known = {one.name for one in dataclasses.fields(BuildOptions)}
    monkeypatch.setattr(module, "BENCH", {name: value for name, value in bench.manifest["arguments"].items() if name in known})
    shutil.copytree(bench.path, tmp_path / "bench")
    return tmp_path


def test_another_benchmark_in_its_place_is_refused(bench, tmp_path):
    shutil.copytree(bench.path, tmp_path / "bench")
    with pytest.raises(UserError, match=r"/bench' was built with .*, not .* as the demo's; remove it to have it built again"):
        module.demo(tmp_path, limit=1, progress=False)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_demo_scores_every_run_writes_the_page_and_resumes_when_repeated(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "RUNS", {"base-llm": {"model": "random"}, "wings": {"model": "majority"}})
    monkeypatch.setattr(module, "LOOKED_INTO", ())
    page = module.demo(small, limit=4, progress=False)
    assert page == tmp_path / "report" / "index.html"
    assert "majority" in page.read_text(encoding="utf-8")
    runs = {name: load_run(tmp_path / "runs" / name) for name in ("base-llm", "wings")}
    assert runs["base-llm"].results.forgetting is None
    assert runs["wings"].results.forgetting is not None
    assert runs["wings"].run["limit"] == 4
    before = {name: (run.path / "responses.jsonl").read_bytes() for name, run in runs.items()}
    module.demo(tmp_path, limit=4, progress=False)
    assert {name: (run.path / "responses.jsonl").read_bytes() for name, run in runs.items()} == before
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.skipif(not (ASSETS / "wings" / "model.safetensors").is_file(), reason="the bundled models are not there")
def test_demo_scores_the_bundled_models(small):
    module.demo(small, limit=2, progress=False)
    runs = {name: load_run(small / "runs" / name) for name in module.RUNS}
    assert all(run.results.complete for run in runs.values())
    assert runs["wings"].results.iit["acc"].value is not None
    assert runs["base-llm"].results.iit["acc"].value is None
    assert runs["wings-blind"].run["model"]["blind"] is True
    for name in module.LOOKED_INTO:
        assert [arm.name for arm in sorted((runs[name].path / "arms").iterdir())] == sorted(module.ARMS)
        page = (small / "report" / "models" / f"{name}.html").read_text(encoding="utf-8")
        assert all(f'id="{section}-heading"' in page for section in ("ledger", "arms", "attention"))
    assert (small / "report" / "samples" / "index.html").is_file()
    for name, run in runs.items():
        check = check_run(run.path)
        assert (name, check.off, check.skipped) == (name, [], 0)
        assert check.compared > 100
    lines = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in (line.split("|") for line in _table(small))}
    assert list(lines)[2:7] == list(_make_readme().RUNS.values())
    for name, words in _make_readme().RUNS.items():
        for cell, figure in zip(lines[words], (runs[name].results.text_only_score["acc"], runs[name].results.t_score["acc"]), strict=False):
            assert cell == "–" if figure.value is None else cell.split(" [")[0] == f"{100 * figure.value:.1f}".replace("100.0", "100")
    lost = runs["llava-one-rate"].results.forgetting.pooled.difference
    assert lines["LLaVA-style, one learning rate for all"][4].strip("*").split(" [")[0].replace("−", "-") == f"{100 * lost.value:.1f}"


def _make_readme():
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module("make_readme")
    finally:
        sys.path.remove(str(DOCS))


def _table(demo):
    return _make_readme().table(demo).splitlines()


# Of the table in README.md: "98.7 [97.8, 99.2]", "100", "–", and accuracies by subject.
NUMBER = r"(−?\d+\.\d|100)"
FIGURE = rf"(–|(\*\*)?{NUMBER} \[{NUMBER}, {NUMBER}\](\*\*)?)"
BY_SOURCE = rf"(–|{NUMBER}( / {NUMBER}){{3}})"
ROW = re.compile(rf"\| [^|]+ \| {FIGURE} \| {FIGURE} \| {FIGURE} \| {BY_SOURCE} \| {FIGURE} \| {FIGURE} \|")
PRIOR = re.compile(rf"\| question prior [^|]+ \| ({NUMBER} \| ){{3}}{BY_SOURCE} \| \| \|")


def test_the_tables_of_the_pages_have_the_form_of_their_script():
    made = _make_readme()
    blocks = [page.read_text(encoding="utf-8").partition(made.BEGIN)[2].partition(made.END)[0].strip() for page in made.PAGES]
    assert blocks[0] == blocks[1]
    head, rule, *rows, prior = blocks[0].splitlines()
    assert (
        re.match(r"\| model \| text-only score \(n = [\d,]+\) \| T score \(n = [\d,]+\) \| V score \(", head) and rule == "|---" * 7 + "|"
    )
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(made.RUNS.values())
    assert all(ROW.fullmatch(row) for row in rows) and PRIOR.fullmatch(prior)
    text = f"a\n{made.BEGIN}\nold\n{made.END}\nb"
    assert made.rewrite(text, "new\n") == f"a\n{made.BEGIN}\n\nnew\n\n{made.END}\nb"
