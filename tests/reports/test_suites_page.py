"""Text-only and VQA runs on the page: one row per model, one column per way of asking, and what was forgotten on text tasks."""

from __future__ import annotations

import dataclasses
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluators.statistics import paired
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run
from iit_bench.types import Figure, TaskResult
from reports.leaderboard import report
from tests.resealed import reseal, save_run_outcome

pytestmark = pytest.mark.slow

MakeRun = Callable[..., Path]
page_of: Any = runpy.run_path(str(Path(__file__).with_name("test_leaderboard.py")))["page_of"]
TIERS = ("T", "TT", "V", "TV")


def overview(page: Any) -> dict[str, dict[str, str]]:
    """Row header -> column label -> text; the first line holds the suites' names."""
    _, head, *rows = page.tables["overview"]
    labels = [text.split(" | ")[0] for text in head]
    found = {row[0].split(" | ")[0]: dict(zip(labels, row, strict=True)) for row in rows}
    assert found.pop("chance")
    return found


# ---------------------------------------------------------------- one row per model


def test_a_page_with_vqa_runs_states_whose_rule_read_the_replies(make_suite_run: MakeRun, tmp_path: Path) -> None:
    text, vqa = make_suite_run("text", "wings", {"arc_easy": 0.7}), make_suite_run("vqa", "wings", {"MMBench_DEV_EN": 0.5})
    rule = "by VLMEvalKit's own rule, under which “**Yes**” is no answer"
    assert rule in page_of([text, vqa], tmp_path / "both").text
    assert rule not in page_of([text], tmp_path / "text").text


def test_the_three_suites_of_a_model_stand_in_one_row_with_n_and_interval(
    make_run: MakeRun, make_suite_run: MakeRun, tmp_path: Path
) -> None:
    text = make_suite_run("text", "wings", {"arc_easy": 0.7, "piqa": 0.6})
    vqa = make_suite_run("vqa", "wings", {"MMBench_DEV_EN": 0.5})
    runs = [make_run("wings", tiers=TIERS), make_run("llava", tiers=TIERS), text, vqa]
    page = page_of(runs, tmp_path / "out")
    rows = overview(page)
    assert list(rows["wings"]) == ["model", "text-only", "IIT", "T score", "V score", "arc_easy", "piqa", "MMBench_DEV_EN"]
    for path in (text, vqa):
        for result in load_run(path).results.tasks:
            figure = result.scores["acc"]
            value, interval, *_ = rows["wings"][result.task].split(" | ")
            assert value == f"{100 * figure.value:.1f}" and interval == f"{100 * figure.low:.1f}–{100 * figure.high:.1f}"
    assert rows["llava"]["arc_easy"] == "not available | not run"
    assert [text for text in page.tables["overview"][0] if text] == ["IIT", "Text-only (lm-eval)", "VQA (VLMEvalKit)"]
    assert "n\N{NO-BREAK SPACE}40" in page.tables["overview"][1][5]


def test_a_text_llm_leads_with_its_text_only_score_and_has_one_line_for_what_it_cannot_run(
    make_run: MakeRun, make_suite_run: MakeRun, tmp_path: Path
) -> None:
    """Its first number was a blank, and every cell repeated that it takes no images; right: its score first, and the reason once."""
    runs = [make_run("llm", 0.9, tiers=TIERS, text_only=True), make_run("vlm", 0.7, tiers=TIERS)]
    runs += [make_run("some", 1.0, tiers=TIERS[:1], bench=TIERS), make_suite_run("vqa", "vlm", {"MME": 0.5})]
    page = page_of(runs, tmp_path / "out")
    _, head, *rows = page.tables["overview"]
    assert head[1].startswith("text-only | tiers made only of T")
    assert [row[0].split(" | ")[0] for row in rows] == [
        *("models that take images", "vlm", "text LLMs", "llm", "runs of some tiers", "some", "chance"),
    ]
    llm, some = rows[3], rows[5]
    assert llm[0] == "llm | takes no images: no IIT, V score, VQA"
    assert llm[1][0].isdigit() and [llm[2], *llm[4:]] == ["–"] * 3 and llm[3][0].isdigit()  # no tier VT here: T score exists
    assert some[0].startswith(f"some | subset score over {TIERS[0]}: 100.0, ") and some[2] == "–"


def test_another_checkpoint_precision_or_name_is_another_row(make_suite_run: MakeRun, tmp_path: Path) -> None:
    one = make_suite_run("text", "wings", {"piqa": 0.6})
    same = make_suite_run("vqa", "wings", {"AI2D_TEST": 0.6})
    checkpoint = make_suite_run("vqa", "wings", {"AI2D_TEST": 0.6}, folder="b", model={"checkpoint_sha256": "e" * 64})
    precision = make_suite_run("vqa", "wings", {"AI2D_TEST": 0.6}, folder="c", model={"dtype": "bfloat16"})
    assert len(overview(page_of([one, same], tmp_path / "two"))) == 1
    assert len(overview(page_of([one, same, checkpoint, precision], tmp_path / "four"))) == 3


def test_a_second_run_of_the_same_tasks_gets_a_row_of_its_own(make_suite_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_suite_run("text", "wings", {"piqa": 0.6}, folder=folder) for folder in ("first", "second")]
    assert set(overview(page_of(runs, tmp_path / "out"))) == {"wings (first)", "wings (second)"}


def test_the_order_of_the_runs_does_not_matter(make_run: MakeRun, make_suite_run: MakeRun, tmp_path: Path) -> None:
    runs = [
        make_run("wings", tiers=TIERS),
        make_suite_run("text", "wings", {"piqa": 0.6}),
        make_suite_run("text", "wings", {"piqa": 0.6}, limit=10, folder="b"),
        make_suite_run("vqa", "llava", {"AI2D_TEST": 0.6}),
    ]
    assert report(runs, tmp_path / "one").read_bytes() == report(runs[::-1], tmp_path / "other").read_bytes()


def test_groups_stand_for_their_tasks_which_are_in_the_list_of_all_figures(make_suite_run: MakeRun, tmp_path: Path) -> None:
    run = make_suite_run("text", "wings", {"mmlu_anatomy": 0.5, "mmlu_law": 0.9}, groups={"mmlu": ("mmlu_anatomy", "mmlu_law")})
    page = page_of([run], tmp_path / "out")
    assert list(overview(page)["wings"]) == ["model", "mmlu"]
    assert [row[1].split(" | ")[0] for row in page.tables["scores-text"][1:]] == ["mmlu", "mmlu_anatomy", "mmlu_law"]


def test_a_task_of_a_preset_that_was_not_run_says_why(make_suite_run: MakeRun, tmp_path: Path) -> None:
    run = make_suite_run("text", "wings", {"piqa": 0.5})
    reason = "not run: it runs code that the model writes; add --confirm-run-unsafe-code to run it"
    found = load_run(run)
    left_out = TaskResult(task="iit_mbpp", state="not run", metric="", scores={"": Figure(None, note=reason)}, outcomes={})
    results = dataclasses.replace(found.results, tasks=(*found.results.tasks, left_out))
    save_run_outcome(run, found.items, results, [])
    page = page_of([run], tmp_path / "out")
    assert overview(page)["wings"]["iit_mbpp"] == "not available | not run"
    assert page.tables["scores-text"][2][-1] == reason


def test_a_page_without_iit_runs_has_no_iit_sections(make_suite_run: MakeRun, tmp_path: Path) -> None:
    page = page_of([make_suite_run("text", "wings", {"piqa": 0.6})], tmp_path / "out")
    assert "leaderboard-acc" not in page.tables and "Interleaving effect" not in page.text
    assert {"overview", "scores-text", "suite-runs"} <= set(page.tables)


# ---------------------------------------------------------------- what was not asked the same


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limit": 10}, "limit (none and 10)"),
        ({"asked": {"n_shot": 5}}, "few-shot examples (0 and 5)"),
        ({"apply_chat_template": True}, "chat template (no and yes)"),
        ({"system_prompt": "Be brief."}, "system prompt (none and Be brief.)"),
        ({"asked": {"version": "2.0"}}, "version (1.0 and 2.0)"),
        ({"asked": {"documents_sha256": "e" * 64}}, "documents (dddddddddddd and eeeeeeeeeeee)"),
        ({"asked": {"documents_sha256": ""}, "n": 30}, "number of items (40 and 30)"),
        ({"asked": {"output_type": "generate_until"}, "gen_kwargs": "temperature=0.7"}, "generation (none and temperature=0.7)"),
    ],
)
def test_numbers_that_were_not_asked_the_same_stand_in_columns_of_their_own(
    make_suite_run: MakeRun, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    runs = [make_suite_run("text", "a", {"piqa": 0.6}), make_suite_run("text", "b", {"piqa": 0.6}, **changes)]
    page = page_of(runs, tmp_path / "out")
    head = page.tables["overview"][1]
    assert [text.split(" | ")[0] for text in head] == ["model", "piqa", "piqa"]
    assert head[1] != head[2]
    assert f"piqa is in 2 columns, which were not asked the same: {said}" in page.text
    rows = {row[0]: row[1:] for row in page.tables["overview"][2:]}
    assert sorted("not run" in cell for cell in rows["a"]) == [False, True] and rows["a"] != rows["b"]


def test_generation_settings_do_not_part_multiple_choice_tasks(make_suite_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_suite_run("text", "a", {"piqa": 0.6}), make_suite_run("text", "b", {"piqa": 0.6}, gen_kwargs="temperature=0.7")]
    assert list(overview(page_of(runs, tmp_path / "out"))["a"]) == ["model", "piqa"]


def test_vqa_numbers_of_another_judge_or_table_stand_apart(make_suite_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_suite_run("vqa", "a", {"MME": 0.6})]
    runs += [
        make_suite_run("vqa", "b", {"MME": 0.6}, judge="gpt-4"),
        make_suite_run("vqa", "c", {"MME": 0.6}, asked={"documents_sha256": "e" * 64}),
    ]
    page = page_of(runs, tmp_path / "out")
    assert "MME is in 3 columns, which were not asked the same: judge (exact_matching and gpt-4); documents" in page.text


# ---------------------------------------------------------------- forgetting on text tasks


@pytest.fixture
def tuned_and_base(make_suite_run: MakeRun) -> tuple[Path, Path]:
    return (
        make_suite_run("text", "tuned", {"piqa": 0.5, "arc_easy": 0.9}, n=200),
        make_suite_run("text", "base", {"piqa": 0.9, "arc_easy": 0.9}, n=200),
    )


def test_forgetting_on_text_tasks_is_the_paired_difference_to_the_base(tuned_and_base: tuple[Path, Path], tmp_path: Path) -> None:
    tuned, base = tuned_and_base
    page = page_of([tuned, base], tmp_path / "out", base=base)
    row = page.rows("text-forgetting")["tuned"]
    for task in ("piqa", "arc_easy"):
        a, b = ([item.score for item in load_run(run).items if item.task == task] for run in (base, tuned))
        expected = paired(a, b, range(200), over=task, against="tuned").difference
        value, interval, p = row[task].split(" | ")[:3]
        assert value.replace("−", "-").replace("+", "") == f"{100 * expected.value:.1f}"
        assert interval.replace("−", "-").replace("+", "") == f"{100 * expected.low:.1f} to {100 * expected.high:.1f}"
        assert (p == "p < 0.001") is (task == "piqa")
    assert "base" not in page.rows("text-forgetting")


def test_a_task_asked_in_two_ways_is_compared_in_two_columns(make_suite_run: MakeRun, tmp_path: Path) -> None:
    def ran(name: str, shots: int, skill: float) -> Path:
        return make_suite_run("text", name, {"piqa": skill}, n=200, folder=f"{name}-{shots}", asked={"n_shot": shots})

    (tmp_path / "base").mkdir()
    bases = [ran("base", shots, 0.9).rename(tmp_path / "base" / str(shots)) for shots in (0, 5)]
    runs = [ran("tuned", 0, 0.5), ran("tuned", 5, 0.7), ran("other", 5, 0.7), *bases]
    page = page_of(runs, tmp_path / "out", base=tmp_path / "base")
    head, *rows = page.tables["text-forgetting"]
    assert ["0-shot" in head[1], "5-shot" in head[2], len(head)] == [True, True, 3]
    cells = {row[0].split(" | ")[0]: row[1:] for row in rows}
    assert cells["other"][0] == "not available | not compared" and cells["other"][1][0] in "−+0"
    assert all(cell[0] in "−+" for cell in cells["tuned"]) and cells["tuned"][0] != cells["tuned"][1]
    assert [shots for row in page.tables["text-forgetting-detail"][1:3] for shots in row[1].split(" | ") if "shot" in shots] == [
        "0-shot",
        "5-shot",
    ]
    assert "asked differently: few-shot" not in page.text


def test_a_base_called_like_the_model_is_not_mixed_up_with_it(make_run: MakeRun, make_suite_run: MakeRun, tmp_path: Path) -> None:
    """base/all/iit and tuned/all/iit are both called all/iit: no run is its own base, and no other's number is shown for the base's."""
    skills = {"base": 0.9, "tuned": 0.4}
    made = [make_run(name, skill, tiers=TIERS, base="base" if name == "tuned" else "") for name, skill in skills.items()]
    texts = [make_suite_run("text", name, {"piqa": skill}, n=200) for name, skill in skills.items()]
    runs = []
    for name, iit, text in zip(skills, made, texts, strict=True):
        for run, suite in ((iit, "iit"), (text, "text")):
            (tmp_path / f"{name}.d" / "all").mkdir(parents=True, exist_ok=True)
            runs.append(run.rename(tmp_path / f"{name}.d" / "all" / suite))
    results = json.loads((runs[2] / "results.json").read_text())
    results["forgetting"]["base_run"] = "all/iit"
    reseal(runs[2] / "results.json", results)
    page = page_of(runs, tmp_path / "out", base=tmp_path / "base.d" / "all" / "text")
    its = {tier.tier: tier.acc.value for tier in load_run(runs[0]).results.tiers}
    _, *rows = page.tables["forgetting-detail"]
    assert len(rows) > 1
    for _, tier, base_acc, *_ in rows:
        assert base_acc.split(" | ")[0] == f"{100 * its[tier]:.1f}"
    assert list(page.rows("text-forgetting")) == ["tuned"]


def test_the_base_of_the_iit_runs_is_the_base_of_their_text_runs(
    make_run: MakeRun, make_suite_run: MakeRun, tuned_and_base: tuple[Path, Path], tmp_path: Path
) -> None:
    iit = [make_run("base", tiers=TIERS), make_run("tuned", 0.5, tiers=TIERS, base="base")]
    page = page_of([*iit, *tuned_and_base], tmp_path / "out")
    assert list(page.rows("text-forgetting")) == ["model", "tuned"][1:]


def test_tasks_asked_differently_are_not_subtracted_and_said_so(make_suite_run: MakeRun, tmp_path: Path) -> None:
    tuned = make_suite_run("text", "tuned", {"piqa": 0.5, "arc_easy": 0.9}, limit=10)
    base = make_suite_run("text", "base", {"piqa": 0.9})
    page = page_of([tuned, base], tmp_path / "out", base=base)
    assert "text-forgetting" not in page.tables
    assert "piqa: asked differently: limit (none and 10)" in page.text and "arc_easy: 'base' did not run it" in page.text


def test_a_base_of_a_suite_that_the_page_lacks_is_refused(make_run: MakeRun, make_suite_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--base .* is of suite iit, and no run of the page can be compared with it; give"):
        report([make_suite_run("text", "a", {"piqa": 0.5})], tmp_path / "out", base=make_run("base", tiers=TIERS))


# ---------------------------------------------------------------- what failed, hostile text, what is imported


def test_items_that_failed_are_counted_and_reported(make_suite_run: MakeRun, tmp_path: Path) -> None:
    page = page_of([make_suite_run("vqa", "wings", {"MME": 0.5}, failed=3)], tmp_path / "out")
    assert "3 failed" in overview(page)["wings"]["MME"] and "incomplete" in overview(page)["wings"]["MME"]
    assert page.tables["errors"][1][1:4] == ["server gone", "machine", "3"]
    assert "Incomplete:" in page.text


def test_what_a_run_says_is_hostile_text(make_suite_run: MakeRun, tmp_path: Path) -> None:
    attack = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    run = make_suite_run("text", attack, {attack: 0.5}, folder="a", asked={"version": attack}, system_prompt=attack)
    other = make_suite_run("text", "b", {attack: 0.5}, folder="b")
    page = page_of([run, other], tmp_path / "out", base=other)
    assert [tag for tag, _ in page.elements if tag in ("script", "img")] == ["script"]
    assert attack in page.text


def test_suites_are_read_without_models_and_torch(make_suite_run: MakeRun, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from reports.leaderboard import report\n"
        "report([Path(sys.argv[1])], Path(sys.argv[2]))\n"
        "bad = {'torch', 'transformers', 'datasets', 'lm_eval', 'vlmeval', 'matplotlib', 'iit_bench.models', 'iit_bench.engine'}\n"
        "assert not bad & set(sys.modules), bad & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(make_suite_run("text", "a", {"piqa": 0.5})), str(tmp_path / "out")], check=True)


def test_the_folder_of_all_suites_means_its_runs(make_run: MakeRun, make_suite_run: MakeRun, tmp_path: Path) -> None:
    make_run("wings", tiers=TIERS, folder="all/iit")
    make_suite_run("text", "wings", {"piqa": 0.5}, folder="all/text")
    row = overview(page_of([tmp_path / "all"], tmp_path / "out"))["wings"]
    assert list(row) == ["model", "text-only", "IIT", "T score", "V score", "piqa"]
    with pytest.raises(UserError, match="more than once"):
        report([tmp_path / "all", tmp_path / "all" / "text"], tmp_path / "out")


def test_a_base_given_by_another_path_is_not_compared_with_itself(tuned_and_base: tuple[Path, Path], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = page_of(tuned_and_base, tmp_path / "out", base=Path(tuned_and_base[1].name))
    assert list(page.rows("text-forgetting")) == ["tuned"]


def test_a_suite_run_where_an_iit_run_is_needed_is_refused(make_suite_run: MakeRun) -> None:
    with pytest.raises(UserError, match=r"is of suite text, and one of suite iit is needed here"):
        load_run(make_suite_run("text", "a", {"piqa": 0.5}), "iit")


def test_a_damaged_suite_run_is_one_sentence(make_suite_run: MakeRun, tmp_path: Path) -> None:
    run = make_suite_run("text", "a", {"piqa": 0.5})
    (run / "items.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"'items.parquet' in run .* is missing or was changed"):
        report([run], tmp_path / "out")
    header = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(header | {"version": 99}))
    with pytest.raises(UserError, match="has format version 99"):
        report([run], tmp_path / "out")
