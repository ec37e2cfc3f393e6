"""Runs that stop when a loss is found or ruled out: where they stop, that they resume to the same, and what they refuse."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluators.compare.planning import PlanOptions, plan
from evaluators.compare.runs import comparisons
from evaluators.iit.comparison import incomparable
from evaluators.iit.evaluate import evaluate_model
from evaluators.runs.header import load_options
from evaluators.runs.options import RunOptions
from evaluators.runs.reading import load_run as load_whole
from evaluators.runs.summary import summary_text
from evaluators.show.show import diff
from iit_bench.cli import main
from iit_bench.errors import MachineError, UserError
from iit_bench.models.baselines import RandomModel
from iit_bench.models.contract import ModelOptions
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.storage.runs import Run, load_run
from iit_bench.types import Results
from iit_bench.workflows.several import evaluate_models
from tests.changed_numbers import as_json, changed_numbers, unnoticed
from tests.recompute_decision import off
from tests.resealed import change

pytestmark = pytest.mark.slow


class Knows(RandomModel):
    """Answers rightly, but for a share of the questions, drawn by a hash."""

    def __init__(self, benchmark: Benchmark, forgets: float = 0.0, fails_after: int | None = None) -> None:
        super().__init__("random", ModelOptions(seed=round(100 * forgets)))
        self._answers = {question.choices: question.answer for question in benchmark.questions.values()}
        self._forgets, self._left = forgets, fails_after

    def choose(self, request) -> int:
        answer = self._answers[tuple(request.continuations)]
        draw = hashlib.sha256("|".join(request.continuations).encode()).digest()[0] / 256
        return (answer + 1) % len(request.continuations) if draw < self._forgets else answer

    def score(self, batch):
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise MachineError("server gone", "connection refused")
        return super().score(batch)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """120 targets per modality in the tiers T, TT and V."""
    from builders.build import BuildOptions, build

    return load_benchmark(build(BuildOptions(out=tmp_path_factory.mktemp("big") / "bench", preset="lab", size=120, tiers="T,TT,V")))


@pytest.fixture(scope="module")
def base(big: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a base that knows all."""
    out = tmp_path_factory.mktemp("base") / "base"
    evaluate_model(Knows(big), big, RunOptions(model="random", bench=big.path, out=out), progress=False)
    return out


Go = Callable[..., Run]


@pytest.fixture
def go(big: Benchmark, base: Path, tmp_path: Path) -> Go:
    def call(model: Knows, out: str = "run", **options) -> Run:
        given = {"model": "random", "bench": big.path, "base": base, "until": "decided", "margin": 0.05, **options}
        evaluate_model(model, big, RunOptions(out=tmp_path / out, **given), progress=False)
        return load_run(tmp_path / out)

    return call


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("forgets", "margin", "verdict"), [(0.3, 0.05, "lost"), (0.0, 0.1, "not lost"), (0.0, 0.005, "undecided"), (0.02, 0.02, "undecided")]
)
def test_verdict_and_every_number_equal_their_recomputation(go: Go, big, base: Path, forgets: float, margin: float, verdict: str) -> None:
    run = go(Knows(big, forgets), margin=margin)
    decision = run.results.decision
    assert decision is not None and decision.verdict == verdict and off(run.path, base) == []
    whole = verdict == "undecided"
    assert (run.run["groups_asked"] == decision.of_groups) == whole and (decision.groups < decision.of_groups) == (not whole)
    assert {p.tier for p in run.predictions} == {"T", "TT"}  # text targets only
    assert decision.asked == run.run["groups_asked"] == len({p.group for p in run.predictions}) and decision.note == ""


@pytest.mark.parametrize(("forgets", "margin"), [(0.3, 0.05), (0.0, 0.1), (0.02, 0.02)])
def test_no_changed_number_of_a_decision_is_read(go: Go, big, tmp_path: Path, base: Path, forgets: float, margin: float) -> None:
    """Where the base is there as it was; without it, what the run itself and the decision's own parts say."""
    run = go(Knows(big, forgets), margin=margin)
    decision = as_json(run.results)["decision"]
    assert len(list(changed_numbers(decision))) > 8
    assert unnoticed(run, Results, {"decision": decision}) == []
    moved = tmp_path / "moved" / "run"
    shutil.copytree(run.path, moved)
    change(moved / "run.json", lambda body: body["arguments"].update(base=str(tmp_path / "nowhere")))
    others = {"verdict": "undecided" if decision["verdict"] != "undecided" else "lost", "asked": 7, "of_groups": 3, "margin": 0.5}
    for name, value in (others | {"e_lost": 1e9 if decision["verdict"] != "lost" else 1.0}).items():
        change(moved / "results.json", lambda body, name=name, value=value: body["decision"].update({name: value}))
        with pytest.raises(UserError, match=r"says decision\.\w+ = "):
            load_whole(moved)
        change(moved / "results.json", lambda body, name=name: body["decision"].update({name: decision[name]}))
    assert load_whole(moved).results.decision == run.results.decision


def test_asks_whole_blocks_in_an_order_that_the_seed_draws(go: Go, big) -> None:
    runs = [go(Knows(big, 0.3), out=f"run{seed}", seed=seed) for seed in (0, 1)]
    asked = [{p.group for p in run.predictions} for run in runs]
    assert asked[0] != asked[1]
    assert all(
        len([p for p in run.predictions if p.group == group]) == 2 for run, groups in zip(runs, asked, strict=True) for group in groups
    )
    assert {run.run["groups_asked"] for run in runs} <= {16, 32, 48, 64, 80, 100, 120}  # blocks of 16, then a quarter of those before


def test_run_killed_in_any_block_resumes_to_the_same_decision_and_bytes(go: Go, big) -> None:
    whole = go(Knows(big, 0.2), out="whole", batch_size=4)
    cut = go(Knows(big, 0.2, fails_after=7), batch_size=4)
    assert not cut.results.complete and cut.results.decision.verdict == "undecided"
    resumed = go(Knows(big, 0.2), batch_size=4)
    assert resumed.results == whole.results
    assert (resumed.path / "predictions.parquet").read_bytes() == (whole.path / "predictions.parquet").read_bytes()


def test_run_is_a_subset_that_shares_tables_with_its_like_only(go: Go, big, base: Path) -> None:
    lost, again, other = go(Knows(big, 0.3), "a"), go(Knows(big, 0.31), "b"), go(Knows(big, 0.0), "c", margin=0.5)
    assert incomparable(lost.run, load_run(base).run)[0].startswith("where it stops (decided, ")
    same_groups = lost.run["groups_asked"] == again.run["groups_asked"]
    assert (incomparable(lost.run, again.run) == []) == same_groups
    assert lost.run["groups_asked"] != other.run["groups_asked"] and incomparable(lost.run, other.run)
    assert lost.results.iit["acc"].value is None and lost.results.forgetting is not None


def test_compare_pairs_it_with_its_base_over_the_groups_that_both_asked(go: Go, big, base: Path) -> None:
    run = go(Knows(big, 0.3))
    (found,) = comparisons(base, run.path)
    asked, right = ({p.dialogue: p.outcome == "correct" for p in one.predictions} for one in (run, load_run(base)))
    pooled = found.results[-1]
    loss = [right[dialogue] - correct for dialogue, correct in asked.items()]
    assert pooled.over == "T*" and pooled.difference.n == len(loss)
    assert pooled.difference.value == pytest.approx(sum(loss) / len(loss), abs=1e-12)
    assert pooled.difference == run.results.forgetting.pooled.difference  # as `eval` measured it
    decision = run.results.decision
    assert decision.groups < decision.asked  # else the sentence has one number
    sentence = f"'run' stopped when it was decided, after {decision.groups} of 120 groups (the last block was asked to its end, so scores"
    sentence += f" are over {decision.asked} groups)"
    assert sentence in " ".join(found.as_table().split()) and found.as_dict()["stopped_early"][0].startswith(sentence)


def test_diff_says_that_a_decided_run_is_a_subset(go: Go, big, base: Path) -> None:
    found = diff(go(Knows(big, 0.5)).path, base)
    assert found.only_a == 0 < found.only_b
    assert "stopped when it was decided" in found.note


def test_a_pilot_may_be_a_run_that_stopped_when_it_was_decided(go: Go, big, base: Path) -> None:
    run = go(Knows(big, 0.3))
    made = plan(PlanOptions(difference=(0.05,), pilot=(base, run.path)))
    wrong = sum(p.outcome == "wrong" for p in run.predictions)
    assert made.basis.discordance == wrong / len(run.predictions) and made.basis.pilot_groups == run.run["groups_asked"]
    assert "'run' stopped when it was decided" in made.as_table()


def test_a_run_that_asked_all_its_groups_is_compared_without_a_word(go: Go, big, base: Path) -> None:
    (found,) = comparisons(base, go(Knows(big, 0.02), margin=0.02).path)  # undecided
    assert found.early == ()


def test_the_run_repeats_from_its_own_run_json(go: Go, big, tmp_path: Path) -> None:
    run = go(Knows(big, 0.3))
    options = load_options(run.path, out=tmp_path / "again")
    assert (options.until, options.margin, options.tiers) == ("decided", 0.05, ("T", "TT"))
    assert "--until decided --margin 0.05" in run.run["command"]


def test_summary_tells_the_verdict_and_that_other_intervals_are_too_narrow(go: Go, big) -> None:
    results = go(Knows(big, 0.3)).results
    text, after = summary_text("run", results), f"after {results.decision.groups} of 120 groups (the last block was asked to its end, so"
    assert f"lost: text-only abilities of base were lost; {after} scores are over {results.decision.asked} groups); e-values: " in text
    assert "holds whenever a run stops" in text


def test_a_run_of_few_histories_is_asked_whole_and_told_so_before(go: Go, big, base: Path, tmp_path: Path, capsys) -> None:
    first = [
        next(one.turns[0] for one in big.dialogues if one.tier == "TT" and one.target != other) for other in ("", big.dialogues[0].target)
    ]
    same = tuple(
        dataclasses.replace(one, turns=(first[one.target == first[0]], one.target)) if one.tier == "TT" else one for one in big.dialogues
    )
    options = RunOptions(model="random", bench=big.path, out=tmp_path / "run", base=base, until="decided", margin=0.05)
    evaluate_model(Knows(big, 0.3), dataclasses.replace(big, dialogues=same), options, progress=False)
    run, said = load_run(tmp_path / "run"), capsys.readouterr().err
    decision = run.results.decision
    assert (decision.verdict, decision.groups, decision.asked, run.run["groups_asked"]) == ("undecided", 120, 120, 120)
    assert said == f"iit-bench: the run is asked whole, not until decided: {decision.note}\n" and "serve 120 independent targets" in said
    assert decision.loss.value is None and run.results.forgetting.pooled.difference.n == 240  # with the interval of a whole run
    assert f"asked whole, not until decided: {decision.note}" in summary_text("run", run.results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": None}, "--base"),
        ({"margin": 1.5}, "--margin 1.5 is no fraction"),
        ({"tiers": ("T", "V")}, "leave V out of --tiers"),
        ({"until": None}, "--margin is what --until decided rules out"),
    ],
)
def test_what_makes_no_sense_is_refused(go: Go, big, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        go(Knows(big), **options)


def test_several_processes_are_refused(go: Go, big, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="takes one process, and 2 were started"):
        go(Knows(big))


def test_the_command_refuses_processes_before_it_starts_any(big, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", "random", "--bench", str(big.path), "--base", str(base), "--out", str(tmp_path / "run")]
    assert main(["eval", *words, "--until", "decided", "--processes", "2"]) == 2
    assert "takes one process, and 2 were started" in capsys.readouterr().err


def test_a_base_among_several_models_is_asked_whole(big, tmp_path: Path) -> None:
    options = RunOptions(model="majority,random", bench=big.path, out=tmp_path, base=tmp_path / "majority", until="decided", margin=0.05)
    outcome = evaluate_models(("majority", "random"), options, progress=False)
    assert outcome.failed == {} and outcome.results["majority"].decision is None
    assert outcome.results["majority"].iit["acc"].value is not None or outcome.results["majority"].subset_score == {}
    assert outcome.results["random"].decision is not None


def test_another_base_is_another_run(go: Go, big, base: Path, tmp_path: Path) -> None:
    go(Knows(big, 0.3))
    other = tmp_path / "other"
    evaluate_model(Knows(big, 0.02), big, RunOptions(model="random", bench=big.path, out=other), progress=False)
    with pytest.raises(UserError, match=r"holds another run .*until"):
        go(Knows(big, 0.3), base=other)
