"""Attention shift against forgetting over real models: four mixtures of two bundled ones, the base LLM as their base."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from scipy import stats

from evaluators.attention.observe import observe_run
from evaluators.attention.shift import attention_figures
from evaluators.attention.table import FILE, load_observed
from evaluators.iit.evaluate import evaluate
from evaluators.runs.options import RunOptions
from iit_bench.models.bundled import ASSETS
from iit_bench.storage.runs import load_run
from reports.entries import groups_of
from reports.iit.attention import shift_against_forgetting
from reports.section import Words

SHARES = (0.0, 0.4, 0.7, 1.0)  # of the second model's weights


def mixed(share: float, folder: Path) -> Path:
    """A checkpoint with the weighted mean of the weights of llava and llava-one-rate."""
    from safetensors.torch import load_file, save_file

    one, other = (load_file(ASSETS / name / "model.safetensors") for name in ("llava", "llava-one-rate"))
    shutil.copytree(ASSETS / "llava", folder)
    save_file(
        {name: ((1 - share) * one[name].float() + share * other[name].float()).to(one[name].dtype) for name in one},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    return folder


@pytest.mark.slow
@pytest.mark.oracle
def test_the_correlation_over_four_real_models_is_scipys(bench, tmp_path: Path) -> None:
    if not (ASSETS / "llava-one-rate" / "model.safetensors").is_file():
        pytest.skip("the bundled models are not there")
    asked = {"bench": bench.path, "tiers": ("T", "TV"), "limit": 12}
    evaluate(RunOptions(model="base-llm", out=tmp_path / "base", **asked), progress=False)
    runs = []
    for share in SHARES:
        checkpoint = mixed(share, tmp_path / f"model-{share}")
        runs.append(tmp_path / f"run-{share}")
        evaluate(RunOptions(model="wings", checkpoint=str(checkpoint), out=runs[-1], base=tmp_path / "base", **asked), progress=False)
        observe_run(runs[-1], False, limit=3)
    (group,) = groups_of([load_run(run) for run in (tmp_path / "base", *runs)])
    section = shift_against_forgetting(group.entries)
    assert section is not None
    said = " ".join(part.text for part in section.parts if isinstance(part, Words))
    shifts = [attention_figures(load_observed(run / FILE).rows).pooled.shift.value for run in runs]
    lost = [load_run(run, "iit").results.forgetting.pooled.difference.value for run in runs]
    assert len(set(shifts)) == len(shifts) and len(set(lost)) > 1
    pearson = stats.pearsonr(shifts, lost)
    low, high = pearson.confidence_interval(0.95)
    assert f"over 4 models: Pearson {pearson.statistic:.2f} ({low:.2f} to {high:.2f})" in said
    assert f"Spearman {stats.spearmanr(shifts, lost).statistic:.2f}" in said
