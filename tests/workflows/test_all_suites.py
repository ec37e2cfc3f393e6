"""`--suite all`: the model is loaded once, each suite has its run folder, one that fails takes nothing with it, and one page shows all."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluators.runs.options import RunOptions
from iit_bench.cli import main
from iit_bench.progress import Job, bar, whole_job
from iit_bench.storage.runs import load_run
from iit_bench.workflows import all_suites
from iit_bench.workflows.all_suites import plan_suites, sort_tasks

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vlmeval") is None, reason="VLMEvalKit is installed by hand (README)"),
    pytest.mark.slow,
]
TASKS = "iit_facts_capital,easyvqa"


@pytest.fixture(scope="module")
def loads() -> list[str]:
    """Names of the models that were loaded, in order."""
    return []


@pytest.fixture(scope="module", autouse=True)
def counted(loads: list[str]):
    with pytest.MonkeyPatch.context() as patch:
        load = all_suites.load_model

        def counting(name: str, *arguments, **options):
            loads.append(name)
            return load(name, *arguments, **options)

        patch.setattr(all_suites, "load_model", counting)
        yield


Call = Callable[..., int]


@pytest.fixture(scope="module")
def call(bench) -> Call:
    def run(out: Path, *more: str, model: str = "wings", tasks: str = TASKS) -> int:
        words = ["eval", "--suite", "all", "--model", model, "--bench", str(bench.path), "--out", str(out), "--device", "cpu", "--quiet"]
        defaults = {"--tasks": tasks, "--limit": "2", "--max-new-tokens": "3", "--tiers": "T,V"}
        given = [word for flag, value in defaults.items() if value and flag not in more for word in (flag, value)]
        return main([*words, *given, *more])

    return run


@pytest.fixture(scope="module")
def base(call: Call, tmp_path_factory) -> Path:
    """The base LLM through all suites; it takes no images."""
    out = tmp_path_factory.mktemp("base") / "base"
    assert call(out, model="base-llm") == 0
    return out


@pytest.fixture(scope="module")
def wings(call: Call, base: Path, loads: list[str], tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wings") / "tuned"
    loads.clear()
    assert call(out, "--base", str(base)) == 0
    assert loads == ["wings"]
    return out


def test_every_suite_has_a_run_folder_that_is_what_the_suite_alone_gives(wings: Path, bench, tmp_path) -> None:
    assert sorted(path.name for path in wings.iterdir()) == ["iit", "report", "text", "vqa"]
    iit, text, vqa = load_run(wings / "iit"), load_run(wings / "text"), load_run(wings / "vqa")
    assert {run.run["name"] for run in (iit, text, vqa)} == {"tuned"}
    assert (text.run["tasks"], vqa.run["tasks"]) == (["iit_facts_capital"], ["easyvqa"])
    alone = {
        "iit": f"--bench {bench.path} --tiers T,V",
        "text": "--tasks iit_facts_capital",
        "vqa": "--tasks easyvqa",
    }
    for suite, words in alone.items():
        out = tmp_path / suite
        more = f"--suite {suite} --model wings --device cpu --limit 2 --max-new-tokens 3 --quiet --out {out} {words}"
        assert main(["eval", *more.split()]) == 0
        if suite == "iit":
            assert load_run(out).predictions == iit.predictions
        else:
            mine = load_run(wings / suite)
            assert load_run(out).items == mine.items and load_run(out).results == mine.results


def test_one_page_shows_the_model_and_its_base_with_what_was_forgotten(wings: Path, base: Path) -> None:
    page = (wings / "report" / "index.html").read_text()
    assert 'id="overview"' in page and 'id="text-forgetting"' in page and 'id="forgetting"' in page
    assert load_run(wings / "iit").results.forgetting.base_run == "base/iit"
    assert "easyvqa" in page and "iit_facts_capital" in page


def test_a_text_only_model_has_no_vqa_suite_and_that_is_no_failure(base: Path, call: Call, capsys) -> None:
    assert sorted(path.name for path in base.iterdir()) == ["iit", "report", "text"]
    assert call(base, model="base-llm") == 0
    assert "base (vqa): not run, model 'base-llm' takes no images" in capsys.readouterr().out


def test_a_model_that_only_scores_is_reported_first_and_fails_at_nothing(call: Call, tmp_path, capsys) -> None:
    assert call(tmp_path / "out", model="majority") == 0
    printed = capsys.readouterr().out
    assert "out (text): not run, model 'majority' takes no raw text" in printed
    assert "out (vqa): not run, model 'majority' cannot generate" in printed


@pytest.mark.usefixtures("warm_workers")
def test_the_same_call_resumes_where_it_was_killed_and_asks_nothing_twice(wings: Path, base: Path, call: Call, capsys) -> None:
    logs = {suite: wings / suite / "responses.jsonl" for suite in ("iit", "text", "vqa")}
    lines = {suite: log.read_text().splitlines() for suite, log in logs.items()}
    tables = {name: (wings / name).read_bytes() for name in ("iit/predictions.parquet", "text/items.parquet", "vqa/items.parquet")}
    for gone in ("vqa/results.json", "text/results.json"):
        (wings / gone).unlink()
    logs["text"].write_text("\n".join(lines["text"][:2]) + "\n" + lines["text"][2][:20])  # killed in the middle of a line
    logs["vqa"].unlink()
    assert call(wings, "--base", str(base), "--json") == 0
    assert lines == {suite: log.read_text().splitlines() for suite, log in logs.items()}
    assert tables == {name: (wings / name).read_bytes() for name in tables}
    told = json.loads(capsys.readouterr().out)
    assert set(told["suites"]) == {"iit", "text", "vqa"} and told["failed"] == {} and told["report"].endswith("index.html")


@pytest.mark.usefixtures("warm_workers")
def test_a_suite_that_fails_leaves_the_others_and_the_report_whole(call: Call, tmp_path, capsys) -> None:
    (tmp_path / "out" / "text").mkdir(parents=True)
    (tmp_path / "out" / "text" / "notes.txt").write_text("mine")  # a foreign folder: the suite refuses it
    assert call(tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith("iit-bench: suite text failed (")
    assert "out (iit)" in printed.out and "out (vqa)" in printed.out and "Leaderboard: " in printed.out
    assert load_run(tmp_path / "out" / "iit").results.complete and load_run(tmp_path / "out" / "vqa").results.complete
    assert 'id="overview"' in (tmp_path / "out" / "report" / "index.html").read_text()


# ---------------------------------------------------------------- what is refused before a model is loaded


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "Mme"], "there is no task 'Mme'; did you mean 'MME'?"),
        (["--tasks", ""], "--tasks names no task"),
        (["--tasks", "iit_facts_capital", "--blind"], "--blind removes images, and text tasks have none; leave out iit_facts_capital"),
        (["--base", "nowhere"], "'nowhere' is not there"),
        (["--gen-kwargs", "hot"], "--gen-kwargs 'hot' is not of the form NAME=VALUE,NAME=VALUE"),
        (["--limit", "0"], "--limit 0 is too low"),
        (["--tiers", "TXV"], "has no tier TXV"),
    ],
)
def test_bad_input_is_one_sentence_before_a_model_is_loaded(call: Call, loads: list[str], tmp_path, capsys, words, said) -> None:
    loads.clear()
    assert call(tmp_path / "out", *words) == 2
    assert said in capsys.readouterr().err
    assert not loads and not (tmp_path / "out").exists()


def test_a_run_folder_of_one_suite_is_not_filled_with_others(wings: Path, call: Call, capsys) -> None:
    assert call(wings / "iit") == 2
    assert "holds run.json of a run, and no runs of several suites go among its files; choose another --out" in capsys.readouterr().err


def test_without_a_benchmark_it_is_refused(tmp_path, capsys) -> None:
    assert main(["eval", "--suite", "all", "--model", "wings", "--out", str(tmp_path / "out")]) == 2
    assert "--bench is missing" in capsys.readouterr().err


def test_tasks_are_sorted_out_by_suite() -> None:
    assert sort_tasks(("wings-text", "wings-vqa", "arc_easy", "MMBench_DEV_EN", "easyvqa", "iit_facts")) == {
        "text": ("wings-text", "arc_easy", "iit_facts"),
        "vqa": ("wings-vqa", "MMBench_DEV_EN", "easyvqa"),
    }


def test_options_go_to_the_suites_that_have_them(bench, tmp_path) -> None:
    given = {"suite": "all", "model": "wings", "bench": bench.path, "out": tmp_path / "m", "tasks": ("arc_easy", "MME")}
    given |= {"limit": 3, "system_prompt": "Hi."}
    given |= {"fewshot_as_multiturn": False}
    given |= {"num_fewshot": 2, "apply_chat_template": True, "gen_kwargs": "temperature=1", "judge": "gpt-4", "style": "letters"}
    plan = plan_suites(RunOptions(**given))
    assert all((options.limit, options.system_prompt, options.name) == (3, "Hi.", "m") for options in plan.values())
    assert (plan["text"].num_fewshot, plan["text"].apply_chat_template, plan["text"].gen_kwargs) == (2, True, "temperature=1")
    assert (plan["vqa"].num_fewshot, plan["vqa"].apply_chat_template, plan["vqa"].judge) == (None, False, "gpt-4")
    assert (plan["text"].fewshot_as_multiturn, plan["vqa"].fewshot_as_multiturn) == (False, True)
    assert (plan["text"].judge, plan["iit"].style) == ("exact_matching", "letters")
    assert [plan[suite].max_new_tokens for suite in ("iit", "text", "vqa")] == [32, None, None]
    assert [options.out.name for options in plan.values()] == ["iit", "text", "vqa"]
    blind = plan_suites(RunOptions(suite="all", model="wings", bench=bench.path, out=tmp_path, blind=True))
    assert list(blind) == ["iit", "vqa"] and all(options.blind for options in blind.values())


# ---------------------------------------------------------------- progress over the whole job


def test_the_whole_job_counts_the_items_of_all_suites() -> None:
    with whole_job({"iit": 4, "text": 10}, show=False) as job:
        assert (job.done, job.total) == (0, 14)
        with job.part("iit"), bar("scoring", 4) as advance:
            advance(3)
            assert (job.done, job.total) == (3, 14)
            advance(1)
        with job.part("text"):
            with bar("loglikelihood", 8) as advance:
                advance(8)
            with bar("generation", 5) as advance:  # more than was planned
                assert (job.done, job.total) == (12, 17)
                advance(5)
        assert (job.done, job.total) == (17, 17)


def test_a_part_that_had_less_to_do_counts_as_done() -> None:
    with whole_job({"iit": 4, "vqa": 1000}, show=False) as job:
        with job.part("iit"), bar("scoring", 4) as advance:
            advance(4)
        with job.part("vqa"), bar("answering", 3) as advance:
            advance(3)
        assert (job.done, job.total) == (7, 7)


def test_without_a_display_a_line_now_and_then_reports_the_time_left() -> None:
    lines: list[str] = []
    now = iter([0.0, *[10.0] * 3, *[40.0] * 2, 50.0, 100.0, 100.0])
    job = Job({"text": 100}, print_line=lines.append, clock=lambda: next(now))
    with job.part("text"), job.bar("scoring", 100) as advance:
        for _ in range(5):
            advance(10)
    assert lines == ["all suites: 30 of 100 items, about 2 min left"]
