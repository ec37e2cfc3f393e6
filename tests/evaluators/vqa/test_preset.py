"""Preset wings-vqa whole: every table loads in its real schema and scores."""

from __future__ import annotations

import pytest

from evaluators.vqa.presets import PRESETS


@pytest.mark.slow
def test_the_whole_preset_loads_and_scores(vqa, parrot) -> None:
    run = vqa(parrot, "wings-vqa", limit=2)
    results = {result.task: result for result in run.results.tasks}
    assert tuple(results) == PRESETS["wings-vqa"] and run.results.complete
    for name, result in results.items():
        figure = result.scores[result.metric]
        assert figure.value is not None and figure.low <= figure.value <= figure.high, name
        assert figure.n == {"HallusionBench": 8}.get(name, 2)
        assert sum(result.outcomes.values()) >= 2 and result.outcomes["error"] == 0
