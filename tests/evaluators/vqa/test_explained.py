"""`iit-bench explain` over VLMEvalKit's own files: its rule and this project's, each run on both sides' replies."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import cache
from pathlib import Path

import pytest

from builders.build import BuildOptions, build
from builders.export.export import ExportOptions, export
from evaluators.explain.explain import Explanation, explain
from evaluators.iit.evaluate import evaluate_model
from evaluators.iit.extraction import extract_choice
from evaluators.runs.options import RunOptions
from evaluators.show.show import show
from evaluators.vqa.evaluate import evaluate_vqa_model
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.storage.runs import load_run

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

WORDINGS = ("{0}", "**{0}**", "答案：{0}", "The answer is {0}.", "Not {0}", "{1}", "($\\boxed{{{0}}}$)", "({0}) {1}", "I cannot say.")


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Benchmark:
    return load_benchmark(build(BuildOptions(out=tmp_path_factory.mktemp("lab") / "bench", preset="lab", size=40, tiers="T,V")))


def saying(benchmark: Benchmark, salt: str = ""):
    """The gold letter in one of several wordings, by the question and not by how it is put; for some, other words under another salt."""

    def said(text: str, images: int) -> str:
        targets = [benchmark.questions[one.target] for one in benchmark.dialogues]
        found = next(one for one in targets if one.question in text and all(choice in text for choice in one.choices))
        number, other = hashlib.sha256(found.question.encode()).digest()[:2]
        letter = "ABCDEFGH"[found.answer if not salt or other % 3 else (found.answer + 1) % len(found.choices)]
        return WORDINGS[number % len(WORDINGS)].format(letter, found.choices["ABCDEFGH".index(letter)])

    return said


@pytest.fixture(scope="module")
def ours(benchmark, make_parrot, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("iit") / "run"
    parrot = make_parrot()
    parrot.reply = saying(benchmark)
    evaluate_model(
        parrot, benchmark, RunOptions(model="parrot", bench=benchmark.path, out=out, scoring="generate", style="letters"), progress=False
    )
    return out


@pytest.fixture(scope="module")
def theirs(benchmark, make_parrot, tmp_path_factory):
    """theirs(salt, …) → our run of the exported tables, and VLMEvalKit's own files of it as it lays them out."""
    tables = tmp_path_factory.mktemp("tables") / "LMU"
    export(ExportOptions(bench=benchmark.path, out=tables, to="vlmeval"), progress=False)
    names = tuple(sorted(path.stem for path in tables.glob("*.tsv")))

    @cache
    def run(salt: str = "", **more) -> tuple[Path, Path]:
        work = tmp_path_factory.mktemp("vqa")
        parrot = make_parrot()
        parrot.reply = saying(benchmark, salt)
        options = RunOptions(model="parrot", out=work / "run", suite="vqa", tasks=names, data_root=tables, **more)
        evaluate_vqa_model(parrot, options, progress=False)
        (work / "parrot").mkdir()
        for path in (work / "run").glob("vlmeval/*/main/*"):
            shutil.copy(path, work / "parrot")
        return work / "run", work / "parrot"

    return run


def parts(found: Explanation) -> dict[str, float]:
    every = {part.name: part.size.value for part in found.parts}
    assert sum(every.values()) == pytest.approx(found.gap.value, abs=1e-12)
    return {name: value for name, value in every.items() if abs(value) > 1e-12}


def by_our_rule(benchmark: Benchmark, salt: str = "") -> dict[str, float]:
    """Dialogue → whether this project's rule reads the gold answer out of the reply."""
    scores = {}
    for one in benchmark.dialogues:
        target = benchmark.questions[one.target]
        reply = saying(benchmark, salt)(target.question + str(target.choices), 0)
        scores[one.id] = float(extract_choice(reply, target.choices, "letters") == target.answer)
    return scores


def means(benchmark: Benchmark, scores: dict[str, float]) -> float:
    tiers = {tier: [scores[one.id] for one in benchmark.dialogues if one.tier == tier] for tier in ("T", "V")}
    return sum(sum(values) / len(values) for values in tiers.values()) / 2


def verdicts(run: Path, benchmark: Benchmark) -> dict[str, float]:
    """Dialogue → VLMEvalKit's hit."""
    items = load_run(run).items
    return {
        one.id: item.score
        for tier in ("T", "V")
        for one, item in zip(
            [one for one in benchmark.dialogues if one.tier == tier], [item for item in items if f"IIT_{tier}_" in item.task], strict=True
        )
    }


@pytest.mark.parametrize("foreign", [False, True])
def test_equal_replies_read_by_two_rules_differ_by_the_rules(foreign, ours, theirs, benchmark):
    both = theirs()
    kit = means(benchmark, verdicts(both[0], benchmark))
    mine = means(benchmark, by_our_rule(benchmark))
    assert kit != mine
    found = explain([ours, both[foreign]])
    assert found.gap.value == pytest.approx(mine - kit)
    assert parts(found) == {"extraction": pytest.approx(mine - kit)}


@pytest.mark.parametrize("foreign", [False, True])
def test_each_rule_is_run_on_both_sides_replies(foreign, ours, theirs, benchmark):
    run_a, _ = theirs()
    run_b, files_b = theirs("other")
    a_by_a, b_by_a = means(benchmark, by_our_rule(benchmark)), means(benchmark, by_our_rule(benchmark, "other"))
    a_by_b, b_by_b = means(benchmark, verdicts(run_a, benchmark)), means(benchmark, verdicts(run_b, benchmark))
    found = explain([ours, files_b if foreign else run_b])
    expected = {"extraction": b_by_a - b_by_b, "not explained": a_by_b - b_by_b, "interaction": a_by_a - a_by_b - b_by_a + b_by_b}
    assert expected["interaction"] != 0
    assert parts(found) in (
        {name: pytest.approx(value) for name, value in expected.items()},
        {("not told apart" if name == "not explained" else name): pytest.approx(value) for name, value in expected.items()},
    )
    assert ("not explained" in parts(found)) == foreign  # our run's prompts are on record as others


def test_rows_that_were_not_asked_are_items_missing(theirs):
    whole, some = theirs()[1], theirs(limit=10)[1]
    a, b = (sum(sum(item.score for item in items) / len(items) for items in by_task(path)) / 2 for path in (whole, some))
    assert parts(explain([whole, some])) == ({"items": pytest.approx(a - b)} if a != b else {})


def by_task(folder: Path) -> list[list]:
    from evaluators.runs.reading import read_runs

    (run,) = read_runs(folder)
    return [[item for item in run.items if item.task == task] for task in run.run["tasks"]]


def test_what_vlmevalkit_does_not_record_is_named(theirs):
    found = explain([theirs()[1], theirs("other")[1]])
    assert set(parts(found)) == {"not explained"}
    assert set(found.as_dict()["not_recorded"]) == {"prompt", "template", "decoding", "weights", "dtype"}
    assert json.dumps(found.as_dict())


# ---------------------------------------------------------------- iit-bench show


@pytest.mark.parametrize("foreign", [False, True])
def test_rows_are_shown_with_their_question_choices_gold_answer_and_reply(foreign, theirs, benchmark):
    found = show(theirs()[foreign], limit=1000)
    targets = [benchmark.questions[one.target] for tier in ("T", "V") for one in benchmark.dialogues if one.tier == tier]
    assert found.total == len(targets) == len(found.items)
    say = saying(benchmark)
    for item, target in zip(found.items, targets, strict=True):
        assert item.asked.turns[0].endswith(target.question) and item.asked.choices == target.choices
        assert item.asked.answer == target.answer and item.answers[0].reply == say(target.question + str(target.choices), 0)
