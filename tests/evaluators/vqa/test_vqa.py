"""The VQA suite as a user meets it: nothing lost, nothing leaked, one sentence for every mistake."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from evaluators.runs.options import RunOptions
from evaluators.vqa.datasets import parts_of
from evaluators.vqa.evaluate import evaluate_vqa, evaluate_vqa_model
from evaluators.vqa.messages import as_vlmeval_model
from iit_bench.errors import ItemError, MachineError, UserError
from iit_bench.models.contract import ModelOptions
from iit_bench.models.load import load_model
from iit_bench.storage.runs import SUITE_FIELDS, load_run
from iit_bench.tools.vlmevalkit import dataset_class, kit

pytestmark = pytest.mark.slow


def result_of(run, task):
    return next(result for result in run.results.tasks if result.task == task)


# ---------------------------------------------------------------- nothing is lost


@pytest.fixture(scope="module")
def several(tables, make_parrot, tmp_path_factory):
    """One finished run of several tasks; `model` is the parrot that was asked. Never changed."""
    out = tmp_path_factory.mktemp("several") / "run"
    model = make_parrot()
    evaluate_vqa_model(
        model,
        RunOptions(
            model="parrot",
            out=out,
            suite="vqa",
            tasks=("MadeOpen", "HallusionBench", "MadeChoice", "MME"),
            data_root=tables,
            batch_size=4,
        ),
        progress=False,
    )
    run = load_run(out)
    object.__setattr__(run, "model", model)
    return run


def test_rows_without_an_image_are_asked_as_text_and_reported(several) -> None:
    run, parrot = several, several.model
    result = result_of(run, "HallusionBench")
    assert sum(result.outcomes.values()) == 36  # every row of the table
    assert result.scores["aAcc"].n == 30  # VLMEvalKit's figure, over the rows that have an image
    assert result.scores["acc without image"].n == 6
    assert any(note.startswith("6 rows have no image") for note in result.notes)
    bare = [request for request in parrot.asked if not request.messages[-1].images]
    assert {item.item for item in run.items if item.metric == "acc without image"} == {
        f"HB_VS_chart_{g}_0_{k}" for g in range(3) for k in range(2)
    }
    assert len(bare) == 6 and all("line of plot" in request.messages[-1].text for request in bare)
    assert (run.path / "vlmeval/HallusionBench/no-image").is_dir()


def test_an_image_that_does_not_decode_fails_alone(tiny_llava, vqa) -> None:
    run = vqa(load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu")), "SEEDBench_IMG", max_new_tokens=2)
    result = result_of(run, "SEEDBench_IMG")
    (error,) = run.errors
    assert (error["task"], error["item"], error["kind"], error["reason"]) == ("SEEDBench_IMG", "14", "item", "unreadable image")
    assert result.outcomes["error"] == 1 and sum(result.outcomes.values()) == 15 == result.scores["acc"].n
    assert run.results.complete


def test_a_prompt_longer_than_the_models_context_fails_alone(tiny_llava, vqa, makers, tmp_path) -> None:
    rows = [
        {"index": i, "question": words, "answer": "yes", "image": makers["picture"](i)} for i, words in enumerate(("Why?", "so " * 1500))
    ]
    makers["table"](tmp_path / "data/Long.tsv", rows)
    run = vqa(load_model(f"hf:{tiny_llava}", ModelOptions(device="cpu")), "Long", max_new_tokens=2, data_root=tmp_path / "data")
    (error,) = run.errors
    assert (error["task"], error["item"], error["kind"], error["reason"]) == ("Long", "1", "item", "context overflow")
    assert [(item.item, item.outcome, item.score) for item in run.items][1] == ("1", "error", 0.0)
    assert result_of(run, "Long").scores["acc"].n == 2 and run.results.complete


def test_our_models_work_in_vlmevalkits_own_scripts(make_parrot) -> None:
    parrot = make_parrot()
    with kit():
        model = as_vlmeval_model(parrot, max_new_tokens=7)
        message = [{"type": "text", "value": "What is it?"}]
        assert model.generate(message=message, dataset="MadeOpen") == parrot.reply("What is it?", 0)
        assert parrot.asked[-1].max_new_tokens == 7
        parrot.generate = _refuse
        assert model.generate(message=message, dataset="MadeOpen").startswith("Failed to obtain answer via API.")


def test_a_failed_item_counts_as_wrong_whatever_vlmevalkit_reads_into_the_mark_of_failure(vqa, parrot) -> None:
    generate, parrot.generate = (
        parrot.generate,
        lambda batch: _refuse(batch) if len(batch) > 1 or "number 3 " in batch[0].messages[0].text else generate(batch),
    )
    run = vqa(parrot, "MadeOpen")
    failed = [item for item in run.items if item.outcome == "error"]
    assert [item.item for item in failed] == ["3"] and failed[0].score == 0
    assert result_of(run, "MadeOpen").scores["acc"].n == 8


def _refuse(batch):
    raise ItemError("too hard", "for this model")


def test_unmatched_replies_are_unparsed_and_wrong(vqa, parrot) -> None:
    parrot.reply = lambda text, images: "I would rather not say."
    run = vqa(parrot, "AI2D_TEST", "MME", "MMBench_DEV_CN")
    for result in run.results.tasks:
        assert result.outcomes == {"correct": 0, "wrong": 0, "unparsed": sum(result.outcomes.values()), "truncated": 0, "error": 0}
        assert result.scores[result.metric].value == 0
    assert "name no choice that could be read" in run.results.advice


def test_a_limit_keeps_whole_units(vqa, parrot) -> None:
    limit = 2
    run = vqa(parrot, "MME", "MMBench_DEV_EN", "HallusionBench", "MMMU_DEV_VAL", limit=limit)
    n = {result.task: result.scores[result.metric].n for result in run.results.tasks}
    assert n == {"MME": limit, "MMBench_DEV_EN": limit, "HallusionBench": 4 * limit, "MMMU_DEV_VAL": limit}
    assert result_of(run, "MME").scores["acc"].n == 2 * limit
    assert "acc dev" not in result_of(run, "MMMU_DEV_VAL").scores
    copies = [item.reply.count("\n") + 1 for item in run.items if item.task == "MMBench_DEV_EN"]
    assert copies == [2, 4]


def test_tables_that_vlmevalkit_does_not_know(several) -> None:
    run, parrot = several, several.model
    opened, choice = (result_of(run, task) for task in ("MadeOpen", "MadeChoice"))
    golds = {item.item: item for item in run.items if item.task == "MadeOpen"}
    assert opened.scores["acc"].value == sum(item.outcome == "correct" for item in golds.values()) / 8 > 0  # ten annotators would score 0
    assert choice.scores["acc"].clusters == 7  # two rows share an image
    two = next(request for request in parrot.asked if len(request.messages[-1].images) == 2)
    assert "diary" in two.messages[-1].text


def test_easyvqa_is_scored_by_the_exact_rule(vqa, parrot) -> None:
    from iit_bench.data.easyvqa import rows

    gold = {row.question: row.answer for row in rows("test")[:40]}
    parrot.reply = lambda text, images: f"{gold[text.splitlines()[0]].capitalize()}." if "colo" in text else "a teapot"
    run = vqa(parrot, "easyvqa", limit=40, data_root=None)
    first = {str(row.index): row for row in rows("test")[:40]}
    assert {item.item for item in run.items} == set(first)
    for item in run.items:
        colour = first[item.item].subject == "colour"
        assert item.score in (0, 1)
        assert (
            not colour
            or "colo" not in first[item.item].question
            or item.score == (gold[first[item.item].question] == first[item.item].answer)
        )
    assert 0 < result_of(run, "easyvqa").scores["acc"].value < 1


# ---------------------------------------------------------------- resumes


class Killed(BaseException):
    pass


def test_a_killed_run_resumes_and_ends_the_same(several, vqa, make_parrot, tmp_path) -> None:
    tasks = ("MadeOpen", "HallusionBench", "MadeChoice", "MME")
    first, second = make_parrot(), make_parrot()
    generate = first.generate

    def dying(batch):
        if len(first.asked) >= 12:
            raise Killed
        return generate(batch)

    first.generate = dying
    with pytest.raises(Killed):
        vqa(first, *tasks, batch_size=4)
    assert not (tmp_path / "run/results.json").exists()
    (tmp_path / "run/.vlmeval.1.partial/lmu").mkdir(parents=True)  # what a process leaves that had no time to clean up
    again = vqa(second, *tasks, batch_size=4)
    assert len(first.asked) == 12
    assert len(second.asked) == len(several.model.asked) - 12
    assert again.run["resumed"] == 1
    assert (again.path / "items.parquet").read_bytes() == (several.path / "items.parquet").read_bytes()
    assert again.results == several.results
    assert not list(again.path.glob(".vlmeval*")) and not list(again.path.rglob("*.pkl"))


def test_another_run_in_the_folder_is_refused_or_replaced(several, vqa, parrot, tmp_path) -> None:
    shutil.copytree(several.path, tmp_path / "run")
    with pytest.raises(UserError, match=r"holds another run .*limit None there, 2 now"):
        vqa(parrot, "MadeOpen", limit=2)
    assert vqa(parrot, "MadeOpen", limit=2, fresh=True).results.tasks[0].scores["acc"].n == 2
    assert not (tmp_path / "run/vlmeval/MME").exists()


def test_a_failing_machine_leaves_the_run_incomplete(vqa, parrot) -> None:
    parrot.generate = lambda batch: _gone(batch)
    run = vqa(parrot, "MadeOpen")
    assert not run.results.complete and {error["kind"] for error in run.errors} == {"machine"}


def _gone(batch):
    raise MachineError("server is gone")


# ---------------------------------------------------------------- the caller's process stays as it is


def test_side_effects_stay_in_vlmevalkits_process(vqa, parrot, tmp_path, monkeypatch, state_of_the_process) -> None:
    """Also where the package that is found has an `__init__` that does all that VLMEvalKit's full one does, and more."""
    real = Path(next(iter(find_spec("vlmeval").submodule_search_locations)))
    full = tmp_path / "site/vlmeval"
    full.mkdir(parents=True)
    for path in real.iterdir():
        if path.name not in ("__init__.py", "__pycache__"):
            (full / path.name).symlink_to(path)
    (full / "__init__.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()\nraise SystemExit('loads every model')\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    before = state_of_the_process()
    run = vqa(parrot, "MadeOpen", "AI2D_TEST")
    after = state_of_the_process()
    assert [name for name in before if after[name] != before[name]] == []
    assert run.results.complete and not (tmp_path / "executed").exists()


def test_the_process_is_a_fresh_one_whatever_the_users_shell_says(several, vqa, parrot, monkeypatch) -> None:
    for name, value in {
        "PRED_FORMAT": "xlsx",
        "WORLD_SIZE": "2",
        "RANK": "1",
        "SPLIT_THINK": "1",
        "VERBOSE": "1",
        "LMUData": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    assert vqa(parrot, "MadeChoice").results.tasks[0] == result_of(several, "MadeChoice")


def test_cells_of_a_table_are_not_executed(vqa, parrot, parts, tmp_path, makers) -> None:
    mark = tmp_path / "executed"
    evil = f"[__import__('pathlib').Path({str(mark)!r}).touch() or 'copper']"
    row = {"index": 0, "question": "What is it?", "answer": evil, "image": makers["picture"](1)}
    makers["table"](tmp_path / "data/Evil.tsv", [row])
    assert vqa(parrot, "Evil", data_root=tmp_path / "data").results.tasks[0].scores["acc"].n == 1
    makers["table"](tmp_path / "data/Worse.tsv", [row | {"answer": "x", "image": evil}])
    with pytest.raises(UserError):
        parts("Worse", tmp_path / "data")
    assert not mark.exists()


# ---------------------------------------------------------------- bad input


def options(tmp_path, *tasks, **more) -> RunOptions:
    return RunOptions(model="parrot", out=tmp_path / "run", suite="vqa", tasks=tasks, **more)


@pytest.mark.parametrize(
    ("tasks", "more", "sentence"),
    [
        (("MMBench_DEV_ENN",), {}, "no task 'MMBench_DEV_ENN' among VLMEvalKit's image data sets.*did you mean 'MMBench_DEV_EN'"),
        (("mme",), {}, "did you mean 'MME'"),
        (("wings_vqa",), {}, "did you mean 'wings-vqa'"),
        ((), {}, "--tasks names no data set; give names, or the preset wings-vqa"),
        (("MME",), {"limit": 0}, "--limit 0 is too low"),
        (("MME",), {"data_root": Path("/nowhere")}, "--data-root '/nowhere' is not a folder"),
    ],
)
def test_bad_options_in_one_sentence_before_a_model_is_loaded(tmp_path, tasks, more, sentence) -> None:
    with pytest.raises(UserError, match=sentence):
        evaluate_vqa(options(tmp_path, *tasks, **more))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """parts(task, data root): what VLMEvalKit's process does with a table, in this one."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path / "scratch")
    monkeypatch.setenv("LMUData", str(tmp_path / "scratch/lmu"))
    limit = csv.field_size_limit()  # that process raises it for good

    def call(task: str, data_root: Path):
        with kit() as vlmeval:
            return parts_of(task, str(data_root), None, vlmeval)

    yield call
    csv.field_size_limit(limit)


def test_a_snapshot_without_the_table_or_a_column(parts, tmp_path, makers) -> None:
    def refused(sentence: str) -> None:
        with pytest.raises(UserError, match=sentence):
            parts("MME", tmp_path)

    refused(r"there is no table MME.tsv in .* or its folder LMUData; fetch it with `iit-bench fetch MME --data-root ")
    makers["table"](tmp_path / "MME.tsv", [{"index": 1, "question": "?", "image": makers["picture"](1)}])
    refused(r"table 'MME.tsv' has no column 'answer' .VLMEvalKit does not publish")
    makers["table"](tmp_path / "MME.tsv", [{"index": 1, "question": "?", "answer": "Yes"}])
    refused("has neither a column 'image' nor 'image_path'")
    makers["table"](tmp_path / "MME.tsv", [{"index": 1, "question": "?", "answer": "A", "A": "x", "B": "y"}])  # MME is of images
    refused("has neither a column 'image' nor 'image_path'")
    makers["table"](tmp_path / "MME.tsv", [{"index": 1, "question": "?", "answer": "Yes", "image": "7"}])
    refused("VLMEvalKit cannot read table MME.tsv")
    (tmp_path / "MME.tsv").write_bytes(b"\xff\xfe\x00index")
    refused("not a tab-separated table in UTF-8")


def test_what_vlmevalkits_process_refuses_is_the_users_sentence(vqa, parrot, tmp_path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/MadeOpen.tsv").write_text("index\tquestion\n1\t?\n")
    with pytest.raises(UserError, match=r"^table 'MadeOpen.tsv' has no column 'answer'"):
        vqa(parrot, "MadeOpen", data_root=tmp_path / "data")
    assert not parrot.asked


def test_models_that_cannot_be_asked(vqa, parrot) -> None:
    can = parrot.capabilities
    parrot.capabilities = dataclasses.replace(can, takes_images=False, why_not={**can.why_not, "takes_images": "its eyes are shut"})
    with pytest.raises(UserError, match=r"takes no images \(its eyes are shut\); add --blind"):
        vqa(parrot, "MadeOpen")
    parrot.capabilities = dataclasses.replace(can, generates=False, why_not={**can.why_not, "generates": "it is silent"})
    with pytest.raises(UserError, match="cannot generate"):
        vqa(parrot, "MadeOpen")


def test_a_judge_is_never_replaced_in_silence(vqa, parrot) -> None:
    with pytest.raises(UserError, match="judge"):
        vqa(parrot, "MadeChoice", judge="gpt-4o-mini")


def test_run_json_has_the_documented_fields(several) -> None:
    assert set(several.run) - {"format", "version"} == set(SUITE_FIELDS)


def test_run_folders_of_the_suites_are_distinguished(several, tmp_path) -> None:
    run = load_run(shutil.copytree(several.path, tmp_path / "run"))
    with pytest.raises(UserError, match="is of suite vqa, and one of suite iit is needed"):
        load_run(run.path, "iit")
    (run.path / "items.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"'items.parquet' .* was changed"):
        load_run(run.path)


def test_a_data_set_of_another_kind_is_not_taken_for_a_table_of_ones_own() -> None:
    with kit() as vlmeval:
        assert dataset_class("MadeChoice", vlmeval.root) is None
        with pytest.raises(UserError, match=r"'DUDE' (needs what is not installed here|is not a data set of images)"):
            dataset_class("DUDE", vlmeval.root)
