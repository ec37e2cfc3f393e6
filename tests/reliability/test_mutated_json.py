"""Every JSON file of this project with a part dropped, retyped or buried: read, or refused in one sentence that names the file.

Here 60 changes, and 15 per file that every command reads; `make torture` makes TORTURE times as many.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders.build import BuildOptions, build
from evaluators.iit.evaluate import evaluate
from evaluators.runs.header import load_options
from evaluators.runs.options import RunOptions
from evaluators.runs.reading import load_run
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.lab.cells import read_cell
from iit_bench.training import recipe
from tests.reliability.damages import changed, places
from tests.reliability.tally import Tally
from tests.resealed import reseal

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "data"
CHANGES = 60 * int(os.environ.get("TORTURE", "1"))
OTHER: tuple[Any, ...] = (None, True, -1, 0, 10**30, 0.5, 1e300, "", "x", "²", [], {}, [None], {"x": []}, [[[[{}]]]])


def printed(*words: str) -> None:
    """Run a command; what it refuses is raised, and a bug fails."""
    code = main([*words, "--debug"])
    assert code in (0, 1, 2)


@dataclass(frozen=True)
class File:
    """A JSON file, and who reads its folder."""

    source: Path
    reads: Callable[[Path], Any]  # of the changed file


def of_a_run(file: Path) -> None:
    load_run(file.parent)
    load_options(file.parent, out=file.parent / "again")
    printed("compare", str(file.parent), str(OLD / "run_version_2" / "base"), "--json")
    printed("show", str(file.parent), "--limit", "2")


def of_tasks(file: Path) -> None:
    load_run(file.parent)
    load_options(file.parent, out=file.parent / "again")
    printed("compare", str(file.parent), str(OLD / "run_version_1" / "text"), "--json")


def of_a_recipe(file: Path) -> None:
    recipe.load_recipe(str(file))


FILES = {
    "run.json": File(OLD / "run_version_2" / "tuned" / "run.json", of_a_run),
    "results.json": File(OLD / "run_version_2" / "tuned" / "results.json", of_a_run),
    "errors.jsonl": File(OLD / "run_version_2" / "tuned" / "errors.jsonl", of_a_run),
    "text run.json": File(OLD / "run_version_1" / "text" / "run.json", of_tasks),
    "text results.json": File(OLD / "run_version_1" / "text" / "results.json", of_tasks),
    "recipe": File(ROOT / "iit_bench" / "recipes" / "lab2-wings-stage2.yaml", of_a_recipe),
    "cell": File(next((ROOT / "docs" / "lab" / "cells").glob("wings*.json")), read_cell),
}


def read_lines(file: Path) -> list[Any]:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".yaml":
        return [yaml.safe_load(text)]
    return [json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else [json.loads(text)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A copy of each file's folder, in which it is changed."""
    made = {}
    for name, file in FILES.items():
        made[name] = tmp_path_factory.mktemp("changed") / "folder" / file.source.name
        if file.source.suffix == ".json" and file.reads is read_cell:
            made[name].parent.mkdir()
            for part in file.source.parent.glob(f"{file.source.stem}.*"):
                shutil.copy(part, made[name].parent)
        else:
            shutil.copytree(file.source.parent, made[name].parent)
    return made


@pytest.mark.slow
def test_a_changed_file_is_read_or_refused_in_one_sentence(
    folders: dict[str, Path], record_property: Callable[[str, object], None]
) -> None:
    tally = Tally("changed JSON files", record_property)

    @settings(max_examples=CHANGES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def every(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(FILES)))
        lines = read_lines(FILES[name].source)
        number = data.draw(st.integers(0, len(lines) - 1))
        path = data.draw(st.sampled_from(list(places(lines[number])) or [()]))
        new, drop = data.draw(st.sampled_from(OTHER)), data.draw(st.booleans())
        lines[number] = changed(lines[number], path, new, drop) if path else new
        file = folders[name]
        file.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
        try:
            tally.tried(lambda: FILES[name].reads(file))
        finally:
            shutil.copy(FILES[name].source, file)

    every()


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [("run.json", ("arguments", "base"), True), ("text run.json", ("arguments", "base"), ["x"]), ("run.json", ("arguments", "engine"), {})],
)
def test_what_the_trial_found_is_refused(folders: dict[str, Path], name: str, path: tuple[str, ...], value: Any) -> None:
    """The first ended in an internal error in `make torture`; the others are its siblings."""
    (content,) = read_lines(FILES[name].source)
    folders[name].write_text(json.dumps(changed(content, path, value, False)), encoding="utf-8")
    try:
        with pytest.raises(UserError, match=rf"run\.json.*{'.'.join(path)}"):
            load_run(folders[name].parent)
    finally:
        shutil.copy(FILES[name].source, folders[name])


RUN_READERS: tuple[tuple[str, ...], ...] = (
    ("verify",),
    ("report", "--out", "{out}"),
    ("merge",),
    *(("export", "--to", to, "--out", "{out}") for to in ("inspect", "every-eval-ever", "csv", "latex", "markdown")),
    ("export", "--to", "hub", "--out", "{out}", "--dataset", "a/b", "--source", "https://example.org"),
)
BENCHMARK_READERS: tuple[tuple[str, ...], ...] = (
    ("verify",),
    *(("export", "--to", to, "--out", "{out}") for to in ("croissant", "hub", "lm-eval", "vlmeval")),
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A benchmark, a run until decided against a base, of which no field of run.json is empty, and a run of the text suite: whose file."""
    folder = tmp_path_factory.mktemp("sound")
    bench = build(BuildOptions(out=folder / "bench", preset="lab", size=4, tiers="T,TT,TV,V"))
    evaluate(RunOptions(bench=bench, out=folder / "base", model="majority"), progress=False)
    decided: dict[str, Any] = {"model": "random", "seed": 6, "base": folder / "base", "until": "decided", "margin": 0.4}
    evaluate(RunOptions(bench=bench, out=folder / "run", **decided), progress=False)
    printed(
        "eval", "--suite", "text", "--model", "random", "--tasks", "iit_facts", "--limit", "6", "--quiet", "--out", str(folder / "text")
    )
    files = {name: folder / "run" / name for name in ("run.json", "results.json")}
    return files | {f"text, {name}": folder / "text" / name for name in files} | {"manifest.json": bench / "manifest.json"}


@pytest.mark.slow
@pytest.mark.parametrize("which", ["run.json", "results.json", "text, run.json", "text, results.json", "manifest.json"])
def test_every_command_reads_a_changed_and_sealed_file_or_refuses_it_in_one_sentence(
    sound: dict[str, Path], which: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    whole, name = sound[which].parent, sound[which].name
    tally, source = Tally("changed JSON files", record_property), json.loads(sound[which].read_text(encoding="utf-8"))
    parts = [path for path in places(source) if path[0] not in ("format", "version", "seal")]
    tops = sorted({path[0] for path in parts})  # each as likely: most parts are within a few
    readers = BENCHMARK_READERS if name == "manifest.json" else RUN_READERS

    @settings(max_examples=CHANGES // 4, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def every(data: st.DataObject) -> None:
        top = data.draw(st.sampled_from(tops))
        path = data.draw(st.sampled_from([path for path in parts if path[0] == top]))
        command, *options = data.draw(st.sampled_from(readers))
        folder, out = tmp_path / "changed", tmp_path / "out"
        for old in (folder, out):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(whole, folder)
        reseal(folder / name, changed(source, path, data.draw(st.sampled_from(OTHER)), data.draw(st.booleans())))
        tally.tried(lambda: printed(command, str(folder), *(word.format(out=out) for word in options)))

    every()
