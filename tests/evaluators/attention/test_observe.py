"""`iit-bench attention`: what is observed of the lab's models goes into one table, and everything else is refused or counted."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from evaluators.attention.observe import NO_IMAGE, observe_attention, observe_run
from evaluators.attention.options import AttentionOptions
from evaluators.attention.shift import attention_figures
from evaluators.attention.table import FILE, differs, load_observed, observed_of
from evaluators.iit.evaluate import evaluate
from evaluators.runs.options import RunOptions
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run, load_run_header
from tests.recompute_attention import check
from tests.resealed import reseal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wings(bench, tmp_path_factory) -> Path:
    """A run of the bundled Wings on some tiers, with what was observed of it."""
    folder = tmp_path_factory.mktemp("observed") / "wings"
    evaluate(RunOptions(model="wings", bench=bench.path, out=folder, tiers=("T", "V", "TV", "VTV"), limit=6), progress=False)
    observe_run(folder, progress=False)
    return folder


@pytest.mark.oracle
def test_every_figure_equals_its_recomputation(wings: Path) -> None:
    figures = attention_figures(load_observed(wings / FILE).rows)
    compared, off = check(wings / FILE, json.loads(json.dumps(dataclasses.asdict(figures))))
    assert off == [] and compared >= 30


def test_a_run_is_observed_as_it_was_asked(wings: Path, bench) -> None:
    observed, run = load_observed(wings / FILE), load_run_header(wings)
    assert observed.about["tiers"] == ["TV", "VTV", "V"] and observed.about["limit"] == 6 and differs(observed.about, run) == ""
    targets = {row.group for row in observed.rows}
    assert len(targets) == 6 - observed.about["not_observed"][NO_IMAGE] and {row.tier for row in observed.rows} == {"V", "TV", "VTV"}
    assert observed.rows == observed_of(load_run(wings)).rows


def test_a_row_has_a_weight_per_layer_and_all_weights_sum_to_one(wings: Path) -> None:
    for row in load_observed(wings / FILE).rows:
        assert row.layers == row.router_layers == tuple(range(8)) and row.n_image == 16 * row.tier.count("V")
        parts = [(kind, row.tokens(kind)) for kind in ("before", "image", "between", "after") if row.tokens(kind)]
        for layer in range(8):
            assert sum(row.curve(kind)[layer] * n for kind, n in parts) == pytest.approx(1, abs=1e-5)
        assert not row.router_before and len(row.router_image) == len(row.router_after) == 8


def test_the_same_observation_gives_the_same_rows(wings: Path, tmp_path: Path) -> None:
    again = observe_run(wings, progress=False, out=tmp_path / FILE, tiers=("V",), limit=3)
    assert again.rows == [row for row in load_observed(wings / FILE).rows if row.tier == "V"]


def test_an_observation_of_more_is_not_replaced(wings: Path) -> None:
    before = (wings / FILE).read_bytes()
    for less, why in (({"limit": 1}, "more groups than --limit 1"), ({"tiers": ("V",)}, "TV, VTV")):
        with pytest.raises(UserError, match=why):
            observe_run(wings, progress=False, **less)
    assert (wings / FILE).read_bytes() == before


def test_a_table_of_another_model_is_refused(wings: Path, tmp_path: Path, bench) -> None:
    folder = shutil.copytree(wings, tmp_path / "run")
    run = json.loads((folder / "run.json").read_text())
    run["model"]["checkpoint_sha256"] = "0" * 64
    reseal(folder / "run.json", run)
    with pytest.raises(UserError, match="is of another model; make it again"):
        observed_of(load_run(folder))
    (folder / FILE).unlink()
    with pytest.raises(UserError, match="is of another model than what is to be observed"):
        observe_attention(AttentionOptions(model="wings", bench=bench.path, out=folder, limit=1), progress=False)


def test_a_run_without_an_observation_has_none(wings: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(wings, tmp_path / "run", ignore=shutil.ignore_patterns(FILE))
    assert observed_of(load_run(folder)) is None
    with pytest.raises(UserError, match="is not there; make it with"):
        load_observed(folder / FILE)


def test_an_interrupted_observation_leaves_nothing(wings: Path, tmp_path: Path, monkeypatch) -> None:
    from iit_bench.models.wings.adapter import WingsModel

    calls = []
    plain = WingsModel.observe_attention

    def interrupted(self, request):
        calls.append(request)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(self, request)

    monkeypatch.setattr(WingsModel, "observe_attention", interrupted)
    with pytest.raises(KeyboardInterrupt):
        observe_run(wings, progress=False, out=tmp_path / "new" / FILE)
    assert not list(tmp_path.rglob("*.parquet*")) and not list(tmp_path.rglob(".*"))


def test_another_file_is_never_replaced(bench, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"mine")
    with pytest.raises(UserError, match="is not a readable parquet table"):
        observe_attention(AttentionOptions(model="wings", bench=bench.path, out=tmp_path, limit=1), progress=False)
    assert (tmp_path / FILE).read_bytes() == b"mine"


@pytest.mark.parametrize("model, why", [("base-llm", "takes no images"), ("random", "shows no attention")])
def test_models_that_cannot_be_observed_are_refused(model: str, why: str, bench, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=why):
        observe_attention(AttentionOptions(model=model, bench=bench.path, out=tmp_path, limit=1), progress=False)
    assert not list(tmp_path.iterdir())


def test_tiers_without_images_are_refused(bench, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no chosen dialogue has an image"):
        observe_attention(AttentionOptions(model="llava", bench=bench.path, out=tmp_path, tiers=("T", "TT")), progress=False)


def test_a_prompt_longer_than_the_context_is_counted(wings: Path, tmp_path: Path, monkeypatch) -> None:
    from iit_bench.models.wings import adapter

    monkeypatch.setattr(adapter.WingsModel, "request_tokens", lambda self, request: 40 if len(request.messages) < 4 else 10**6)
    observed = observe_run(wings, progress=False, out=tmp_path / FILE)
    assert observed.about["not_observed"]["context overflow"] and "VTV" not in {row.tier for row in observed.rows}


def test_options_that_have_no_meaning_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--blind removes the images"):
        AttentionOptions(model="wings", bench=tmp_path, out=tmp_path, blind=True)
    with pytest.raises(UserError, match="--bench, --out is missing"):
        AttentionOptions(model="wings")


def test_a_run_with_its_own_replies_as_history_is_refused(bench, tmp_path: Path) -> None:
    evaluate(RunOptions(model="random", bench=bench.path, out=tmp_path / "own", history="own", tiers=("T",), limit=2), progress=False)
    with pytest.raises(UserError, match="under gold history only"):
        observe_run(tmp_path / "own", progress=False)
