"""Scores of other tools whose squares go beyond floating point: refused where they are read, not met as an infinite interval later."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from evaluators.runs.reading import read_runs
from evaluators.text.figures import Measured, from_stderr
from iit_bench.errors import UserError
from tests.reliability.borders import BORDERS
from tests.reliability.test_fuzzed import write

# border -> in which file, what is changed into 1e200
PLACES = {
    "files of lm-eval": ("results_", '"acc,none": 0.5'),
    "files of lmms-eval": ("1_results", '"acc,none": 0.5'),
    "files of lighteval": ("results_", '"acc": 0.5, "acc_stderr": 0.15'),
    "open answers of VLMEvalKit": ("model/model_DATA_acc", "Overall\r\n50.0"),
    "an item's score of lmms-eval": ("1_samples", '"acc": 1.0'),
    "a standard error of lighteval": ("results_", '"acc_stderr": 0.15'),
}
BORDER = {"an item's score of lmms-eval": "files of lmms-eval", "a standard error of lighteval": "files of lighteval"}


@pytest.mark.filterwarnings("error::RuntimeWarning")  # numpy's, printed before the sentence
@pytest.mark.parametrize("place", PLACES)
def test_a_score_whose_square_is_beyond_floating_point_is_refused(place: str, tmp_path: Path) -> None:
    border = BORDERS[BORDER.get(place, place)]
    write(tmp_path, border)
    start, old = PLACES[place]
    (file,) = (name for name in border.files if name.startswith(start))
    last = max(old.rfind(sign) for sign in " ,\n")
    changed = border.files[file].replace(old, f"{old[: last + 1]}1e200", 1)
    assert changed != border.files[file]
    (tmp_path / file).write_text(changed, encoding="utf-8")
    with pytest.raises(UserError, match=r"the metric '\w*' has a value of (1e\+200|5e\+199), and none beyond 1e\+100") as refused:
        read_runs(tmp_path)
    assert "\n" not in str(refused.value)


def test_the_interval_of_a_large_perplexity_is_finite() -> None:
    figure = from_stderr(Measured(metric="word_perplexity", value=1e90, stderr=1e99, count=10))
    assert 0 < figure.low < 1e90 < figure.high < math.inf
