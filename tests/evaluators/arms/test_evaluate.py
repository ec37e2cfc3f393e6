"""Arms of real runs: asked, resumed, refused, told apart from runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter

import pytest

from evaluators.arms.evaluate import arms, ask_arms
from evaluators.arms.figures import arms_of
from evaluators.arms.names import ARMS, parse_arms
from evaluators.compare.runs import comparisons
from evaluators.iit.evaluate import evaluate
from evaluators.runs.header import load_options
from evaluators.runs.options import RunOptions
from evaluators.runs.reading import read_runs
from iit_bench.errors import MachineError, UserError
from iit_bench.models.baselines import RandomModel
from iit_bench.models.contract import ModelOptions
from iit_bench.storage.runs import RUN_FIELDS, folder_label, load_run, load_run_header, save_run_header
from reports.leaderboard import report
from tests.evaluators.iit.test_iit import Recorder
from tests.resealed import save_run_outcome

pytestmark = pytest.mark.slow

FILES = {"run.json", "responses.jsonl", "predictions.parquet", "results.json", "errors.jsonl"}


@pytest.fixture(scope="module")
def options(bench, tmp_path_factory):
    """Options of a finished run of the baseline `random`, in style letters."""
    made = RunOptions(model="random", bench=bench.path, style="letters", out=tmp_path_factory.mktemp("arms") / "run")
    evaluate(made, progress=False)
    return made


@pytest.fixture
def again(options, tmp_path):
    """A copy of that run, to be changed."""
    shutil.copytree(options.out, tmp_path / "run", ignore=shutil.ignore_patterns("arms"))
    return tmp_path / "run"


@pytest.fixture(scope="module")
def asked(options):
    """That run with all its arms."""
    return arms(options.out, progress=False)


def test_every_arm_is_a_run_folder_with_the_runs_dialogue_ids(options, asked, bench):
    run = load_run(options.out)
    of_dialogue = {dialogue.id: dialogue for dialogue in bench.dialogues}
    # The lab's images are first already, and of so few questions no two have the same words and another answer.
    assert [one.arm for one in asked] == [name for name in ARMS if name not in ("moved-first", "contradicting")]
    for one in asked:
        arm = load_run(options.out / "arms" / one.arm)
        assert {path.name for path in arm.path.iterdir()} == FILES
        assert set(arm.run) == {"format", "version", *RUN_FIELDS} == set(run.run)
        assert (arm.run["arm"], run.run["arm"]) == (one.arm, "")
        tiers = {of_dialogue[p.dialogue].tier for p in arm.predictions}
        assert list(arm.run["tiers"]) == [tier for tier in run.run["tiers"] if tier in tiers]
        modality = ARMS[one.arm].targets
        may = [d for d in bench.dialogues if d.tier.endswith(modality) and (not ARMS[one.arm].after_image or "V" in d.tier[:-1])]
        assert {p.dialogue for p in arm.predictions} <= {d.id for d in may}
        assert len(arm.predictions) + sum(arm.run["left_out"].values()) == len(may)


def test_arms_are_no_runs_of_their_own_in_a_report(options, asked, tmp_path):
    assert [run.path for run in read_runs(options.out)] == [options.out]
    assert [run.path.name for run in read_runs(options.out.parent)] == ["run"]
    assert {run.path.name for run in read_runs(options.out / "arms")} == {one.arm for one in asked}
    assert folder_label(options.out / "arms" / "blind") == "run/arms/blind"
    page = report([options.out, options.out / "arms" / "blind"], tmp_path / "report").read_text(encoding="utf-8")
    assert "run, blind" in page and "arm (none and blind)" in page  # a table of its own, that says why


def test_a_run_and_its_arm_share_no_table(options, asked):
    with pytest.raises(UserError, match=r"they differ in .*arm \(none and blind\)"):
        list(comparisons(options.out, options.out / "arms" / "blind"))


def test_an_arm_of_an_arm_is_refused(options, asked):
    with pytest.raises(UserError, match="is itself an arm, blind"):
        arms(options.out / "arms" / "blind", progress=False)


def test_an_arm_is_not_repeated_as_a_run(options, asked, tmp_path):
    with pytest.raises(UserError, match="is arm blind of a run"):
        load_options(options.out / "arms" / "blind" / "run.json", out=tmp_path / "other")


class Unasked(RandomModel):
    """The model `random`, where nothing should be left to ask."""

    def score(self, batch):
        raise AssertionError(f"asked {len(batch)} requests")


class Flaky(RandomModel):
    """A server that goes away after so many batches."""

    left = 2

    def score(self, batch):
        self.left -= 1
        if self.left < 0:
            raise MachineError("server gone", "connection refused")
        return super().score(batch)


def test_finished_arms_are_not_asked_again(options, asked, bench):
    before = {one.arm: (one.path / "predictions.parquet").read_bytes() for one in asked}
    ask_arms(Unasked("random", ModelOptions()), bench, options, list(before), progress=False)
    assert before == {name: (options.out / "arms" / name / "predictions.parquet").read_bytes() for name in before}


def test_a_killed_arm_resumes(bench, tmp_path):
    options = RunOptions(model="random", bench=bench.path, style="letters", batch_size=4, out=tmp_path / "run")
    evaluate(options, progress=False)
    names = ["blind", "reordered"]
    for name in names:
        ask_arms(Flaky("random", ModelOptions()), bench, options, [name], progress=False)
    first = arms_of(load_run(options.out))
    assert [one.run.results.complete for one in first] == [False, False]
    assert all(one.run.results.outcomes["error"] for one in first)
    ask_arms(RandomModel("random", ModelOptions()), bench, options, names, progress=False)
    second = arms_of(load_run(options.out))
    assert all(one.run.results.complete and one.run.run["resumed"] == 1 for one in second)
    shutil.copytree(options.out, tmp_path / "whole", ignore=shutil.ignore_patterns("arms"))
    whole = dataclasses.replace(options, out=tmp_path / "whole")
    ask_arms(RandomModel("random", ModelOptions()), bench, whole, names, progress=False)
    for name in names:
        one, other = (folder / "arms" / name / "predictions.parquet" for folder in (options.out, whole.out))
        assert one.read_bytes() == other.read_bytes()


def test_a_limit_takes_whole_groups_and_the_same_images(again, asked, bench):
    names = ["swapped", "irrelevant"]
    arms(again, names, limit=4, progress=False)
    groups = list(dict.fromkeys(dialogue.group for dialogue in bench.dialogues))[:4]
    for name in names:
        few = load_run(again / "arms" / name)
        assert {p.group for p in few.predictions} <= set(groups)
        assert few.run["limit"] == 4
        whole = {p.dialogue: p for p in next(one for one in asked if one.arm == name).run.predictions}
        assert all(p == whole[p.dialogue] for p in few.predictions)  # `random` draws by the chat, images included
        assert {p.dialogue for p in few.predictions} == {d for d, p in whole.items() if p.group in groups}
    with pytest.raises(UserError, match="limit 4 there, None now"):
        arms(again, names, progress=False)
    arms(again, ["irrelevant"], fresh=True, progress=False)
    assert load_run(again / "arms" / "irrelevant").run["limit"] is None


def test_targets_without_an_answer_are_counted(bench, tmp_path):
    options = RunOptions(model="random", bench=bench.path, tiers=("V", "T"), batch_size=4, out=tmp_path / "run")
    evaluate(options, progress=False)
    run = load_run(options.out)
    lost = [p.dialogue for p in run.predictions if p.tier == "V"][:2]
    kept = [dataclasses.replace(p, outcome="error", chosen=-1) if p.dialogue in lost else p for p in run.predictions]
    save_run_outcome(run.path, kept, run.results, [])
    (one,) = arms(run.path, ["blind"], progress=False)
    assert one.left_out == {"unanswered": 2}
    assert {p.dialogue for p in one.run.predictions} == {p.dialogue for p in kept if p.tier == "V"} - set(lost)


# ---------------------------------------------------------------- own history


def test_under_own_history_the_replies_before_the_target_are_the_runs(bench, tmp_path):
    options = RunOptions(model="random", bench=bench.path, history="own", tiers=("VT", "TV"), out=tmp_path / "run")
    evaluate(options, progress=False)
    said = {p.dialogue: p.reply for p in load_run(options.out).predictions if not p.is_target}
    model = Recorder(RandomModel("random", ModelOptions()))
    ask_arms(model, bench, options, ["blind", "irrelevant"], progress=False)
    replies = Counter(request.messages[1].text for request in model.requests)
    assert replies == Counter(said.values())
    golden = {d.id: bench.questions[d.turns[0]].answer_text for d in bench.dialogues if d.id in said}
    assert any(said[name] != golden[name] for name in said)
    assert all(p.position == 1 for p in load_run(options.out / "arms" / "blind").predictions)


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("model", "style", "tiers", "blind", "arm", "message"),
    [
        ("base-llm", "letters", ("T",), False, "irrelevant", "model 'base-llm' takes no images"),
        ("random", "cloze", ("T",), False, "reordered", "style cloze shows no choices"),
        ("random", "letters", ("T",), True, "pixels", r"the run's images are all removed \(--blind\)"),
        ("random", "letters", ("T", "TT"), False, "blind", "no tier of the run ends in V"),
        ("random", "letters", ("V", "TV"), False, "swapped-history", "no tier of the run ends in V after a visual turn"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(bench, tmp_path, model, style, tiers, blind, arm, message):
    options = RunOptions(model=model, bench=bench.path, style=style, tiers=tiers, blind=blind, limit=2, out=tmp_path / "run", device="cpu")
    evaluate(options, progress=False)
    with pytest.raises(UserError, match=f"^arm {arm} cannot be asked: {message}.*leave it out of --arms$"):
        arms(options.out, [arm], progress=False)
    assert not (options.out / "arms").exists()
    with pytest.raises(UserError, match=f"^arm {arm} cannot be asked: {message}"):  # before the run
        evaluate(dataclasses.replace(options, out=tmp_path / "other", arms=(arm,)), progress=False)
    assert not (tmp_path / "other").exists()


def test_what_is_not_named_and_cannot_be_asked_is_left_out_with_a_notice(bench, tmp_path, capsys):
    options = RunOptions(model="random", bench=bench.path, tiers=("T",), out=tmp_path / "run", arms=("all",))
    evaluate(options, progress=False)
    assert sorted(path.name for path in (options.out / "arms").iterdir()) == ["irrelevant", "pixels"]
    notices = capsys.readouterr().err.splitlines()
    assert sum(": no tier of the run ends in V" in line for line in notices) == 8
    assert "iit-bench: arm reordered is not asked: style cloze shows no choices, so they have no order" in "\n".join(notices)


def test_another_model_is_refused(again):
    header = load_run_header(again)
    header["model"]["checkpoint_sha256"] = "f" * 64
    save_run_header(again, {name: value for name, value in header.items() if name not in ("format", "version")})
    with pytest.raises(UserError, match=r"was not asked so .model checkpoint_sha256"):
        arms(again, ["blind"], progress=False)


def test_another_benchmark_is_refused_and_a_moved_one_is_named(again, bench, tmp_path):
    from builders.build import BuildOptions, build

    other = build(BuildOptions(out=tmp_path / "other", preset="lab", size=4, seed=3))
    with pytest.raises(UserError, match="is not the one that run"):
        arms(again, ["blind"], bench=other, progress=False)
    moved = shutil.copytree(bench.path, tmp_path / "moved")
    header = load_run_header(again)
    header["arguments"]["bench"] = str(tmp_path / "gone")
    save_run_header(again, {name: value for name, value in header.items() if name not in ("format", "version")})
    with pytest.raises(UserError, match="is not there; name it with --bench DIR"):
        arms(again, ["blind"], progress=False)
    (one,) = arms(again, ["blind"], bench=moved, progress=False)
    assert one.pooled.difference.value is not None


@pytest.mark.parametrize(("names", "message"), [(["sideways"], "there is no arm sideways; the arms are blind"), ([], "names no arm")])
def test_unknown_arms_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        parse_arms(names)


# ---------------------------------------------------------------- runs that changed


def test_starting_a_run_over_removes_its_arms(again, options):
    arms(again, ["blind"], progress=False)
    evaluate(dataclasses.replace(options, out=again, fresh=True), progress=False)
    assert not (again / "arms").exists()


def test_arms_of_another_run_have_no_figures(again, options, tmp_path, bench):
    arms(again, ["blind"], progress=False)
    other = RunOptions(model="random", seed=1, bench=bench.path, style="letters", out=tmp_path / "other")
    evaluate(other, progress=False)
    shutil.copytree(again / "arms", other.out / "arms")
    (one,) = arms_of(load_run(other.out))
    assert one.pooled.difference.value is None and one.pooled.p is None
    assert one.pooled.difference.note.startswith("of another run than this (seed 1 there, 0 now")
    header = json.loads((again / "arms" / "blind" / "results.json").read_text())
    assert header["n_dialogues"] == one.run.results.n_dialogues
    (again / "arms" / "blind" / "results.json").unlink()
    (unfinished,) = arms_of(load_run(again))
    assert unfinished.pooled.difference.note == "not finished; the same `iit-bench arms` resumes it"


def test_eval_with_arms_gives_the_same_as_asking_them_afterwards(options, asked, bench, tmp_path):
    made = dataclasses.replace(options, out=tmp_path / "run", arms=("blind", "reordered"))
    evaluate(made, progress=False)
    for name in made.arms:
        one, other = (folder / "arms" / name / "predictions.parquet" for folder in (made.out, options.out))
        assert one.read_bytes() == other.read_bytes()
