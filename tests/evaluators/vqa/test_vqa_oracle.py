"""Our scores are those of VLMEvalKit's own run of the same model, item by item.

The oracle (kit_alone.py) lets VLMEvalKit do all, in a process of its own: its data set class as it stands, its inference loop item by
item, a model class of its own kind over plain transformers, its scoring. Ours batches, logs and replays.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from iit_bench.models.bundled import ASSETS
from iit_bench.models.contract import ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.runs import TaskRun

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

CHOICE = ("MMMU_DEV_VAL", "ScienceQA_TEST", "AI2D_TEST", "MMStar")
CIRCULAR = ("MMBench_DEV_EN", "MMBench_DEV_CN", "CCBench")
YES_NO = ("MME", "HallusionBench", "POPE", "AMBER", "VSR-zeroshot")
OPEN = ("TextVQA_VAL", "ChartQA_TEST", "DocVQA_VAL", "InfoVQA_VAL", "OCRVQA_TESTCORE", "GQA_TestDev_Balanced")
ALL = (*CHOICE, *CIRCULAR, *YES_NO, *OPEN)


# ---------------------------------------------------------------- a model whose replies have every outcome


@pytest.fixture(scope="module")
def fixed(oracle, tables, make_parrot, tmp_path_factory) -> tuple[TaskRun, dict[str, Any]]:
    work = tmp_path_factory.mktemp("fixed")
    return oracle.ours(make_parrot(), ALL, tables, work / "run"), oracle.vlmevalkits_own("mixed", tables, ALL, tables, work)


def test_predictions_and_verdicts_are_vlmevalkits(oracle, fixed) -> None:
    run, own = fixed
    oracle.check_equal_item_by_item(run, own)
    for task in ALL:
        outcomes = next(result.outcomes for result in run.results.tasks if result.task == task)
        assert outcomes["correct"] and outcomes["wrong"] + outcomes["unparsed"], (
            task,
            "the fixed replies must differ under different rules",
        )


def figures(run: TaskRun, task: str) -> dict[str, float | None]:
    (result,) = [result for result in run.results.tasks if result.task == task]
    assert result.warnings == () and not [note for note in result.notes if "own figure" in note]
    return {name: figure.value for name, figure in result.scores.items()}


@pytest.mark.parametrize("task", [*CHOICE, *CIRCULAR])
def test_multiple_choice_and_circular_accuracy(fixed, task) -> None:
    run, own = fixed
    frame = pd.DataFrame(own[task]["result"]).set_index("split")["Overall"]
    best = next(split for split in ("test", "validation", "dev", "none") if split in frame)
    assert figures(run, task)["acc"] == pytest.approx(frame[best], abs=1e-12)
    if task == "MMMU_DEV_VAL":
        assert best == "validation"
        assert figures(run, task)["acc dev"] == pytest.approx(frame["dev"], abs=1e-12)


def test_a_circular_item_is_right_only_if_all_its_copies_are(fixed, tables) -> None:
    run, own = fixed
    frame = pd.read_csv(tables / "LMUData/MMBench_DEV_EN.tsv", sep="\t")
    copies = frame.groupby(frame["index"] % 10**6).size()
    items = [item for item in run.items if item.task == "MMBench_DEV_EN"]
    assert {item.item: item.reply.count("\n") + 1 for item in items} == {str(index): n for index, n in copies.items()}
    assert len(items) < len(own["MMBench_DEV_EN"]["predictions"])


def test_mme_points(fixed) -> None:
    run, own = fixed
    (theirs,), found = own["MME"]["result"], figures(run, "MME")
    assert found["perception"] == pytest.approx(theirs["perception"], abs=1e-9)
    assert found["reasoning"] == pytest.approx(theirs["reasoning"], abs=1e-9)
    assert found["total"] == pytest.approx(theirs["perception"] + theirs["reasoning"], abs=1e-9)
    (result,) = [result for result in run.results.tasks if result.task == "MME"]
    assert result.best == 600  # three categories of 200
    total = result.scores["total"]
    assert total.low < total.value < total.high <= result.best


def test_hallusion_bench_counts_questions_figures_and_questions_over_figures(fixed) -> None:
    run, own = fixed
    frame, found = pd.DataFrame(own["HallusionBench"]["result"]).set_index("split"), figures(run, "HallusionBench")
    for name in ("aAcc", "fAcc", "qAcc"):
        assert 100 * found[name] == pytest.approx(frame[name]["Overall"], abs=1e-9)
    assert 100 * found["mean"] == pytest.approx(frame.loc["Overall", ["aAcc", "fAcc", "qAcc"]].mean(), abs=1e-9)


def test_amber_and_vsr(fixed) -> None:
    run, own = fixed
    ((amber,), (vsr,)) = own["AMBER"]["result"], own["VSR-zeroshot"]["result"]
    (result,) = [result for result in run.results.tasks if result.task == "AMBER"]
    assert result.scores["Avg ACC"].value == pytest.approx(amber["Avg ACC"] / 100, abs=1e-12)
    assert result.scores["acc"].n == 18 and result.scores["acc"].clusters == 9
    assert any("the mean over its categories, which count alike" in note for note in result.notes) and result.warnings == ()
    found = figures(run, "VSR-zeroshot")
    assert (found["acc"], found["F1"]) == (pytest.approx(vsr["acc"] / 100, abs=1e-12), pytest.approx(vsr["f1_score"], abs=1e-12))


def test_pope_counts_a_question_once_in_each_of_its_categories(fixed) -> None:
    run, own = fixed
    scores = [item.score for item in run.items if item.task == "POPE"]
    assert figures(run, "POPE")["acc"] != pytest.approx(sum(scores) / len(scores), abs=1e-3)
    frame, found = pd.DataFrame(own["POPE"]["result"]).set_index("split"), figures(run, "POPE")
    assert 100 * found["acc"] == pytest.approx(frame["acc"]["Overall"], abs=1e-9)
    assert 100 * found["F1"] == pytest.approx(frame["Overall"]["Overall"], abs=1e-9)


@pytest.mark.parametrize("task", OPEN)
def test_open_answers_by_the_data_sets_own_rule(fixed, task) -> None:
    run, own = fixed
    assert 100 * figures(run, task)["acc"] == pytest.approx(own[task]["result"][0]["Overall"], abs=1e-9)


# ---------------------------------------------------------------- models of one kind of reply


@pytest.fixture(scope="module")
def one_kind(oracle, tables, make_parrot, tmp_path_factory):
    """one_kind(name of a model in replies.py, its replies, tasks) -> our run, and VLMEvalKit's own."""

    def both(name: str, reply: Any, tasks: tuple[str, ...]) -> tuple[TaskRun, dict[str, Any]]:
        work = tmp_path_factory.mktemp(name)
        parrot = make_parrot()
        parrot.reply = reply
        own = oracle.vlmevalkits_own(name, tables, tasks, tables, work)
        run = oracle.ours(parrot, tasks, tables, work / "run")
        oracle.check_equal_item_by_item(run, own)
        assert all(result.warnings == () for result in run.results.tasks)
        return run, own

    return both


@pytest.mark.parametrize("word", ["Yes", "No"])
def test_a_model_that_always_says_the_same(one_kind, replies_by_name, word) -> None:
    """Always-yes on MME was 600 of 600 points: half of each image's answers are right, and none of its pairs."""
    run, own = one_kind(word, replies_by_name["always"](word), YES_NO)
    (mme,) = own["MME"]["result"]
    assert figures(run, "MME")["total"] == pytest.approx(mme["perception"] + mme["reasoning"], abs=1e-9)
    assert mme["perception"] + mme["reasoning"] == 150
    hallusion = pd.DataFrame(own["HallusionBench"]["result"]).set_index("split").loc["Overall"]
    for name in ("aAcc", "fAcc", "qAcc"):
        assert 100 * figures(run, "HallusionBench")[name] == pytest.approx(hallusion[name], abs=1e-9)
    pope = pd.DataFrame(own["POPE"]["result"]).set_index("split")
    assert 100 * figures(run, "POPE")["acc"] == pytest.approx(pope["acc"]["Overall"], abs=1e-9)
    assert figures(run, "VSR-zeroshot")["acc"] == pytest.approx(own["VSR-zeroshot"]["result"][0]["acc"] / 100, abs=1e-12)


def test_partial_credits_without_a_zero_are_no_full_marks(one_kind, replies_by_name, tables) -> None:
    """Where every reply earns part of the credit, DocVQA was 100 % instead of the mean."""
    tasks = ("DocVQA_VAL", "InfoVQA_VAL", "TextVQA_VAL")
    run, own = one_kind("partial", replies_by_name["partial"](tables), tasks)
    for task in tasks:
        scores = [item.score for item in run.items if item.task == task]
        assert min(scores) > 0 and max(scores) < 1
        assert 100 * figures(run, task)["acc"] == pytest.approx(own[task]["result"][0]["Overall"], abs=1e-9)


def test_chinese_and_markdown_replies_get_vlmevalkits_verdicts(one_kind, replies_by_name, tables) -> None:
    run, own = one_kind("worded", replies_by_name["worded"](tables), ALL)
    outcomes = run.results.outcomes
    assert outcomes["correct"] and outcomes["unparsed"]
    for task in OPEN:
        assert 100 * figures(run, task)["acc"] == pytest.approx(own[task]["result"][0]["Overall"], abs=1e-9)


# ---------------------------------------------------------------- real models


@pytest.mark.parametrize("name", ["llava", "wings"])
def test_a_real_model_item_by_item(oracle, tiny_llava, tables, tmp_path, name) -> None:
    """Every kind; ours in batches, VLMEvalKit's one by one."""
    tasks = ("MMMU_DEV_VAL", "MMBench_DEV_CN", "MME", "HallusionBench", "TextVQA_VAL")
    folder = {"llava": tiny_llava, "wings": ASSETS / "wings"}[name]
    own = oracle.vlmevalkits_own(name, folder, tasks, tables, tmp_path)
    model = load_model("wings" if name == "wings" else f"hf:{folder}", ModelOptions(device="cpu"))
    run = oracle.ours(model, tasks, tables, tmp_path / "run")
    oracle.check_equal_item_by_item(run, own)
    assert any(item.reply for item in run.items)
