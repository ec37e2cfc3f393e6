"""The main job in one call. The bundled models take part where they are there; the way through the house is tried in any case."""

from __future__ import annotations

import shutil

import pytest

from iit_bench.models.bundled import ASSETS
from iit_bench.storage.runs import load_run
from iit_bench.workflows import demo as module
from tests.recompute_figures import check_run


def copied(bench, folder):
    """A demo resumes from an existing benchmark; a small one saves its time."""
    shutil.copytree(bench.path, folder / "bench")
    return folder


@pytest.mark.slow
def test_demo_scores_every_run_writes_the_page_and_resumes_when_repeated(bench, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "RUNS", {"base-llm": {"model": "random"}, "wings": {"model": "majority"}})
    page = module.demo(copied(bench, tmp_path), limit=4, progress=False)
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
def test_demo_scores_the_bundled_models(bench, tmp_path):
    module.demo(copied(bench, tmp_path), limit=2, progress=False)
    runs = {name: load_run(tmp_path / "runs" / name) for name in module.RUNS}
    assert all(run.results.complete for run in runs.values())
    assert runs["wings"].results.iit["acc"].value is not None
    assert runs["base-llm"].results.iit["acc"].value is None
    assert runs["wings-blind"].run["model"]["blind"] is True
    for name, run in runs.items():
        check = check_run(run.path)
        assert (name, check.off, check.skipped) == (name, [], 0)
        assert check.compared > 100
