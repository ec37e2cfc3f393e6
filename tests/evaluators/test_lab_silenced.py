"""Effects of silenced learners and the router's weights (evaluators/lab/silenced.py), on cells made up with known ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from evaluators.lab.answers import load
from evaluators.lab.silenced import SILENCINGS, VISUAL_AT_TEXT, WHOLE, effects, routed
from tests.made_cells import levels, write

RATE = 2e-4
AT_IMAGES = next(one for one in SILENCINGS if one.silent == (("visual", "image"),))


def test_a_silencing_is_compared_with_the_same_models_whole(tmp_path: Path) -> None:
    methods = {
        WHOLE.method: {RATE: levels(0.85, 0.60, 0.70)},
        VISUAL_AT_TEXT.method: {RATE: levels(0.85, 0.80, 0.70)},
        AT_IMAGES.method: {RATE: levels(0.85, 0.60, 0.50)},
    }
    grid = load(write(tmp_path, methods, seeds=(0, 1, 2, 3, 4), n=400))
    first, second = effects(grid)
    assert [one.label for one in (first, second)] == [VISUAL_AT_TEXT.label, AT_IMAGES.label]
    for one, silencing, truth in ((first, VISUAL_AT_TEXT, (0.2, 0.0)), (second, AT_IMAGES, (0.0, -0.2))):
        for effect, known, tiers in zip(one.effects, truth, (["VT"], ["V"]), strict=True):
            own = grid.arms[silencing.method, RATE].right - grid.arms[WHOLE.method, RATE].right
            by_seed = own[:, np.isin(grid.tier, tiers)].mean(axis=1)
            assert effect.per_seed == pytest.approx(by_seed.tolist()) and effect.seeds == 5
            figure = effect.figure
            assert figure.value == pytest.approx(by_seed.mean()) and figure.low < known < figure.high
            assert effect.p_holm is not None and (effect.p_holm < 0.05) == (known != 0)


def test_models_of_other_seeds_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path, {WHOLE.method: {RATE: levels(0.85, 0.60, 0.70)}}, seeds=(0, 1))
    write(tmp_path, {VISUAL_AT_TEXT.method: {RATE: levels(0.85, 0.60, 0.70)}}, seeds=(0, 2))
    (one,) = effects(load(tmp_path))
    assert [effect.figure.value for effect in one.effects] == [None, None] and "seeds" in one.effects[0].figure.note


@pytest.mark.oracle
def test_router_weights_are_means_over_seeds_and_dialogues() -> None:
    rng, rows = np.random.default_rng(0), []
    for seed in range(6):
        own = rng.normal(0, 0.03)
        for tier, mean in (("VT", 0.4), ("TV", 0.5)):
            rows += [
                {"rate": RATE, "seed": seed, "tier": tier, "item": f"{tier}{n}", "cluster": f"{tier}{n}", "weight": mean + own}
                for n in range(50)
            ]
    table = pd.DataFrame(rows)
    (found,) = routed(table)
    of_seeds = table[table.tier == "VT"].groupby("seed")["weight"].mean()
    assert found.text.value == pytest.approx(of_seeds.mean())
    # All dialogues are alike, so only seeds vary: the interval is Student's over the seeds.
    low, high = ttest_1samp(of_seeds, 0).confidence_interval()
    assert (found.text.low, found.text.high) == pytest.approx((low, high))
    assert found.more.value == pytest.approx(0.1) and found.image.value == pytest.approx(of_seeds.mean() + 0.1)
