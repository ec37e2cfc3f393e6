"""Figures of the VQA suite's results.json against statsmodels and scipy, computed from nothing but the run folder."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

pytestmark = pytest.mark.oracle


@pytest.fixture
def run(vqa, parrot, makers, tmp_path):
    """60 images of one to five questions, of which a model gets those of an image right or wrong more often together than by chance."""
    rows = []
    for image in range(60):
        for k in range(1 + image * 7 % 5):
            cell = makers["picture"](image) if k == 0 else rows[-k]["index"]
            rows.append({"index": len(rows), "question": f"Image {image}, part {k}?", "answer": "Yes", "image": cell})
    makers["table"](tmp_path / "data/Many.tsv", rows)

    def reply(text: str, images: int) -> str:
        own, shared = (hashlib.sha256(part.encode()).digest()[0] / 256 for part in (text, text.partition(",")[0]))
        return "Yes" if 0.3 * own + 0.7 * shared < 0.6 else "No"

    parrot.reply = reply
    return vqa(parrot, "Many", data_root=tmp_path / "data")


@pytest.mark.slow
def test_an_accuracy_over_images_has_the_error_of_a_cluster_robust_regression_and_a_bootstraps_interval(run):
    (result,) = run.results.tasks
    figure = result.scores["acc"]
    x = np.array([item.score for item in run.items])
    of_image = defaultdict(list)
    for item in run.items:
        of_image[item.cluster].append(item.score)
    clusters = np.unique([item.cluster for item in run.items], return_inverse=True)[1]
    assert (figure.value, figure.n, figure.clusters) == (pytest.approx(x.mean()), len(x), 60)
    fit = sm.OLS(x, np.ones(len(x))).fit(cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": False})
    assert figure.se == pytest.approx(float(fit.bse[0]) * np.sqrt(60 / 59), rel=1e-9)
    sums, counts = (np.array([of(scores) for scores in of_image.values()], dtype=float) for of in (sum, len))

    def accuracy(total, count, axis=-1):
        return total.sum(axis) / count.sum(axis)

    found = stats.bootstrap((sums, counts), accuracy, paired=True, n_resamples=4000, rng=np.random.default_rng(0), method="percentile")
    assert (figure.low, figure.high) == pytest.approx(tuple(found.confidence_interval), abs=0.02)
    alone = sm.stats.proportion_confint(x.sum(), len(x), method="wilson")
    assert figure.high - figure.low > 1.3 * (alone[1] - alone[0])  # images matter here
