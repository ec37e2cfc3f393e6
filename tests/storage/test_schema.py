"""Nested fields of run.json and manifest.json with another type, null or gone, sealed anew: one sentence with the file and the field."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from builders.build import BuildOptions, build
from evaluators.runs.foreign.inspect_iit import iit_run
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.models.recorded import RecordedModel
from iit_bench.storage.benchmark import load_manifest
from iit_bench.storage.runs import load_run_header
from iit_bench.training.train import read_card
from tests.reliability.damages import changed
from tests.resealed import change, reseal

RUN = Path(__file__).parents[1] / "data" / "run_version_2" / "base"
UNTIL = {"margin": 0.02, "alpha": 0.05, "seed": 0, "base_sha256": "0" * 64, "blocks": [16, 4]}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    shutil.copytree(RUN, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(BuildOptions(out=tmp_path_factory.mktemp("schema") / "bench", preset="lab", size=4, tiers="T,V"))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("until",), {}),
        (("until",), UNTIL | {"seed": "x"}),
        (("versions",), None),
        (("versions", "python"), {}),
        (("started",), "x"),
        (("ended",), "x"),
        (("ended",), "0001-01-01T00:00:00"),
        (("seconds",), None),
        (("resumed",), None),
        (("engine",), {"way": "x"}),
        (("usage",), {"cost": "x"}),
        (("tiers",), ["x"]),
        (("arguments", "allow_errors"), None),
        (("model", "details"), None),
        (("model", "settings"), {"image_processing": "x"}),
        (("model", "settings"), {"reply_delimiter": []}),
        (("model", "settings"), {"quantization": ["x"]}),
        (("benchmark", "tiers"), {"": 1}),
        (("benchmark", "sources", "facts", "left_out"), "x"),
        (("benchmark", "baselines", "T"), {"random": "x"}),
    ],
)
def test_a_nested_field_of_a_run_with_another_value_is_named(run: Path, path: tuple[str, ...], value: Any) -> None:
    body = change(run / "run.json")
    reseal(run / "run.json", changed(body, path, value, False))
    with pytest.raises(UserError, match=rf"run\.json': .*'{'.'.join(path)}"):
        load_run_header(run)


@pytest.mark.parametrize("value", [UNTIL, None])
def test_a_run_until_decided_and_a_whole_one_are_read(run: Path, value: Any) -> None:
    change(run / "run.json", until=value)
    assert load_run_header(run)["until"] == value


def test_a_report_of_a_run_without_the_seed_of_its_order_is_refused_in_one_sentence(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(run / "run.json", until={})
    assert main(["report", str(run), "--out", str(run.parent / "report")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "run.json" in told and "'until.margin'" in told


def test_a_model_that_lacks_fields_cannot_stand_in(run: Path) -> None:
    change(run / "run.json", model={})
    with pytest.raises(UserError, match=r"run\.json', 'model', lacks the field 'name'"):
        RecordedModel(load_run_header(run))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("tiers",), {}),
        (("tiers",), {"": 1}),
        (("files",), {}),
        (("arguments", "match"), None),
        (("sources", "facts", "left_out"), None),
        (("baselines", "T"), None),
        (("baselines", "T", "random"), "x"),
        (("history_turns",), {"T": [None]}),
        (("history_use",), {"T": {"cap": []}}),
    ],
)
def test_a_nested_field_of_a_manifest_with_another_value_is_named(
    benchmark: Path, tmp_path: Path, path: tuple[str, ...], value: Any
) -> None:
    shutil.copytree(benchmark, tmp_path / "bench")
    body = change(benchmark / "manifest.json")
    reseal(tmp_path / "bench" / "manifest.json", changed(body, path, value, False))
    with pytest.raises(UserError, match=rf"manifest\.json': .*'{'.'.join(path)}"):
        load_manifest(tmp_path / "bench")


@pytest.mark.parametrize("part", ["arguments", "sources.facts", "baselines.T"])
def test_a_part_of_a_manifest_that_lacks_its_fields_is_named_where_it_is_read(
    benchmark: Path, tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(benchmark, tmp_path / "bench")
    body = change(benchmark / "manifest.json")
    reseal(tmp_path / "bench" / "manifest.json", changed(body, tuple(part.split(".")), {}, False))
    assert main(["export", str(tmp_path / "bench"), "--to", "croissant", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "lacks the field" in told and all(name in told for name in ("manifest.json", *part.split(".")))


def test_a_benchmark_whose_manifest_lists_no_tables_is_not_whole(
    benchmark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(benchmark, tmp_path / "bench")
    change(tmp_path / "bench" / "manifest.json", files={})
    assert main(["verify", str(tmp_path / "bench")]) != 0
    assert "'files'" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "value"), [("files", []), ("seconds", {"training": "x"}), ("scores", {"dev": []}), ("weights_sha256", 1)])
def test_a_field_of_a_trained_model_with_another_value_is_named(tmp_path: Path, name: str, value: Any) -> None:
    (tmp_path / "training.json").write_text(json.dumps({name: value}), encoding="utf-8")
    with pytest.raises(UserError, match=rf"training\.json': its field '{name}"):
        read_card(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("until", {}), ("started", "x"), ("model", {"name": 1})])
def test_a_run_inside_a_log_of_inspect_is_checked_as_its_folder_is(run: Path, name: str, value: Any) -> None:
    kept = {"run": change(run / "run.json") | {name: value}, "results": json.loads((run / "results.json").read_text(encoding="utf-8"))}
    with pytest.raises(UserError, match=rf"a\.eval', in its metadata the run\.json: .*'{name}"):
        iit_run(Path("a.eval"), kept, [])
