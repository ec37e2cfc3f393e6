"""Preset wings-text whole: every task, all subjects of the groups, is fetched, loads from its snapshot in the real schema and scores."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from evaluators.fetch.needs import suite_configs
from evaluators.runs.options import RunOptions
from evaluators.text.evaluate import evaluate_text_model
from evaluators.text.tasks import PRESETS, TaskOptions, load_tasks
from iit_bench.cli import main
from iit_bench.models.contract import Model, ModelOptions
from iit_bench.models.load import load_model

DATA = Path(__file__).parents[2] / "data"
SUBJECTS = {"mmlu": 57, "cmmlu": 67}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("whole-preset")
    runpy.run_path(str(DATA / "make_text_snapshots.py"))["write_text"](root, 6)
    old = runpy.run_path(str(DATA / "make_snapshots.py"))
    for make in ("openbookqa", "hellaswag", "winogrande"):
        old[make](root, 6)
    for group in SUBJECTS:
        old[group](root, [config["dataset_name"] for config in suite_configs([group]).values()], 1)
    return root


@pytest.fixture(scope="module")
def model(save_tiny) -> Model:
    return load_model(f"hf:{save_tiny('llama', max_position_embeddings=512)}", ModelOptions(device="cpu"))


@pytest.mark.slow
def test_the_whole_preset_is_fetched_loads_and_scores(server, repositories, model, tmp_path):
    server.repositories = repositories
    assert main(["fetch", "wings-text", "--data-root", str(tmp_path / "data"), "--quiet"]) == 0
    tasks = load_tasks(["wings-text"], TaskOptions(data_root=tmp_path / "data", unsafe_code=True), tmp_path / "scratch")
    assert tasks.left_out == {} and set(tasks.revisions) == set(tasks.loaded["tasks"])
    options = RunOptions(
        model="tiny", out=tmp_path / "run", suite="text", tasks=("wings-text",), limit=1, max_new_tokens=4, confirm_run_unsafe_code=True
    )
    results = {one.task: one for one in evaluate_text_model(model, tasks, options, progress=False).tasks}
    assert set(PRESETS["wings-text"]) <= set(results)
    for name in PRESETS["wings-text"]:
        figure = results[name].scores[results[name].metric]
        assert figure.value is not None and figure.low <= figure.value <= figure.high, name
        assert figure.n == SUBJECTS.get(name, 1)
