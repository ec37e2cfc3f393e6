"""What arms cost: against code that imports nothing of the project, and against models whose answers are known."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from evaluators.arms.evaluate import ask_arms
from evaluators.arms.figures import arms_of
from evaluators.arms.names import parse_arms
from evaluators.arms.table import as_dict, as_table
from evaluators.iit.evaluate import evaluate, evaluate_model
from evaluators.runs.options import RunOptions
from iit_bench.models.baselines import RandomModel
from iit_bench.models.contract import ModelOptions
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.storage.runs import load_run
from tests import recompute_arms
from tests.recompute_figures import Check, check_paired


class Places(RandomModel):
    """Chooses the first choice of what it is shown: by place, not by what it says."""

    def __init__(self) -> None:
        super().__init__("random", ModelOptions())

    def choose(self, request) -> int:
        return 0


class Looks(RandomModel):
    """Chooses what is right of the image it is shown, by a question with the same choices; without one, the last choice."""

    def __init__(self, benchmark: Benchmark) -> None:
        super().__init__("random", ModelOptions())
        seen = [one for one in benchmark.questions.values() if one.images]
        self._gold = {(one.images[0].sha256, frozenset(one.choices)): one.answer_text for one in seen}

    def choose(self, request) -> int:
        images = request.messages[-1].images
        gold = self._gold.get((images[0].sha256, frozenset(request.continuations))) if images else None
        return request.continuations.index(gold) if gold is not None else len(request.continuations) - 1


@pytest.fixture(scope="module")
def larger(tmp_path_factory) -> Benchmark:
    """The lab with 24 targets per modality in four tiers: its history clusters serve several targets."""
    from builders.build import BuildOptions, build

    return load_benchmark(build(BuildOptions(out=tmp_path_factory.mktemp("larger") / "bench", preset="lab", size=24, tiers="T,VT,TV,V")))


def asked(model, benchmark: Benchmark, out: Path, names, **options):
    made = RunOptions(model="random", bench=benchmark.path, out=out, **options)
    evaluate_model(model, benchmark, made, progress=False)
    ask_arms(model, benchmark, made, names, progress=False)
    return {one.arm: one for one in arms_of(load_run(out))}


@pytest.mark.oracle
@pytest.mark.slow
def test_every_figure_equals_its_recomputation(larger, tmp_path):
    options = RunOptions(model="random", seed=2, bench=larger.path, style="letters", out=tmp_path / "run", arms=("all",))
    evaluate(options, progress=False)
    found = {one.arm: one for one in arms_of(load_run(options.out))}
    own = recompute_arms.gaps(options.out)
    check = Check()
    assert set(found) == set(own) and len(found) >= 10
    assert "two-way t" in {one.pooled.test for one in found.values()}
    for name, one in found.items():
        check.figure(f"{name} acc", dataclasses.asdict(one.acc), own[name]["acc"])
        check.figure(f"{name} arm_acc", dataclasses.asdict(one.arm_acc), own[name]["arm_acc"])
        check_paired(check, f"{name} pooled", dataclasses.asdict(one.pooled), own[name]["pooled"])
        assert [result.over for result in one.per_tier] and {result.over for result in one.per_tier} == set(own[name]["per_tier"])
        for result in one.per_tier:
            check_paired(check, f"{name} {result.over}", dataclasses.asdict(result), own[name]["per_tier"][result.over])
    orders, mine = found["reordered"].orders, recompute_arms.orders(options.out)
    assert orders is not None and 0 < orders.flip_rate.value < 1
    check.figure("flip rate", dataclasses.asdict(orders.flip_rate), mine["flip_rate"])
    check.figure("always right", dataclasses.asdict(orders.always_right), mine["always_right"])
    for places, (figure, other) in enumerate(zip(orders.accuracy, mine["accuracy"], strict=True)):
        check.figure(f"moved by {places}", dataclasses.asdict(figure), other)
    assert check.off == [] and check.compared > 300


def test_the_recomputation_imports_nothing_of_the_project():
    tree = ast.parse(Path(recompute_arms.__file__).read_text(encoding="utf-8"))
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {"builders", "evaluators", "iit_bench", "reports"} & {name.split(".")[0] for name in imported}


def test_a_model_that_chooses_by_place_flips_always_and_is_never_always_right(bench, tmp_path):
    orders = asked(Places(), bench, tmp_path / "run", ["reordered"], style="options")["reordered"].orders
    movable = [d for d in bench.dialogues if not bench.questions[d.target].fixed_order]
    assert (orders.flip_rate.value, orders.flip_rate.n) == (1.0, len(movable))
    assert orders.always_right.value == 0.0
    # The choice that is first after moving by r places is the one r places before the end: right where that is the gold one.
    for places, figure in enumerate(orders.accuracy):
        questions = [bench.questions[d.target] for d in movable if len(bench.questions[d.target].choices) > places]
        assert figure.n == len(questions)
        assert figure.value == pytest.approx(np.mean([q.answer == -places % len(q.choices) for q in questions]))


def test_a_model_that_looks_loses_what_it_sees_and_nothing_else(larger, tmp_path):
    found = asked(Looks(larger), larger, tmp_path / "run", parse_arms(["blind", "blank", "moved-last", "wordless", "contradicting"]))
    for name in ("moved-last", "wordless"):
        assert found[name].pooled.difference.value == 0.0 and found[name].acc.value == found[name].arm_acc.value == 1.0
    # Without its image it takes the last choice; with another's, that one's answer, which is always wrong.
    last = {d.id: (q := larger.questions[d.target]).answer == len(q.choices) - 1 for d in larger.dialogues if d.tier.endswith("V")}
    for name in ("blind", "blank"):
        assert found[name].arm_acc.value == pytest.approx(np.mean(list(last.values())))
        assert found[name].pooled.only_b == 0 and found[name].pooled.only_a == sum(not right for right in last.values())
    assert found["contradicting"].arm_acc.value == 0.0 and found["contradicting"].pooled.difference.n > 0
    assert found["contradicting"].pooled.p_holm <= 5 * found["contradicting"].pooled.p


def test_tables_and_json_show_the_gap_what_is_left_out_and_flips(bench, tmp_path):
    found = tuple(asked(Places(), bench, tmp_path / "run", ["blind", "reordered"], style="options").values())
    text = as_table(found, "run")
    assert max(map(len, text.splitlines())) <= 120
    line = next(line for line in text.splitlines() if line.split()[:2] == ["blind", "V*"])
    assert " 0.0 " in line and str(found[0].pooled.difference.n) in line
    assert "reordered: the choice changes with the order in 100.0% of" in text
    made = as_dict(found)
    assert made["arms"][1]["orders"]["flip_rate"]["value"] == 1.0
    assert made["arms"][0]["changes"] == "The target's images are removed."
    if found[1].left_out:
        assert "their choices keep their order" in text


def test_a_run_without_arms_has_none(bench, tmp_path):
    options = RunOptions(model="random", bench=bench.path, tiers=("T",), out=tmp_path / "run")
    evaluate(options, progress=False)
    assert arms_of(load_run(options.out)) == ()
