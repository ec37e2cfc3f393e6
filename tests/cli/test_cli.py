"""The command line: instant help, one sentence for every error, and interruption that loses nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluators.runs.options import PARTS, flag
from iit_bench.cli import main
from iit_bench.cli.app import app, group
from iit_bench.cli.commands import COMMANDS, OPTIONS
from iit_bench.engine.log import ResponseLog
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run
from iit_bench.version import __version__

HEAVY = ("torch", "transformers", "datasets", "pandas", "numpy", "pyarrow", "rich", "scipy", "lm_eval", "vlmeval", "matplotlib")


def words_of(text: str, **places: Path | str) -> list[str]:
    return [word.format(**places) for word in shlex.split(text)]


@pytest.fixture(scope="module")
def majority_run(bench, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "majority"
    assert main(["eval", "--model", "majority", "--bench", str(bench.path), "--out", str(out), "--limit", "4", "--quiet"]) == 0
    return out


# ---------------------------------------------------------------- help and lists


def modules_after(*words: str) -> tuple[str, set[str]]:
    """What a command prints in a new process, and the modules that are imported when it is done."""
    code = "import sys, json; from iit_bench.cli import main; code = main(sys.argv[1:])\n"
    code += "print('MODULES', json.dumps([*sys.modules])); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    shown, _, modules = done.stdout.partition("MODULES ")
    return shown, set(json.loads(modules))


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_list_of_commands_is_printed_before_any_command_is_imported(flag):
    shown, modules = modules_after(flag)
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    ours = {module for module in modules if module.split(".")[0] in ("iit_bench", "builders", "evaluators", "reports")}
    assert ours == {"iit_bench", "iit_bench.version", "iit_bench.cli", "iit_bench.cli.commands"}
    assert not {"typer", "click", "pydantic", "dataclasses", "inspect", "shutil", "textwrap", "importlib.metadata"} & modules


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_imports_nothing_heavy_and_no_other_command(name):
    shown, modules = modules_after(name, "--help")
    assert shown.startswith(f"Usage: iit-bench {name} ")
    assert not {*HEAVY, "pydantic", "click"} & modules
    file = COMMANDS[name][0]
    others = {f"iit_bench.cli.{other}" for other, *_ in COMMANDS.values()} - {f"iit_bench.cli.{file}"}
    assert f"iit_bench.cli.{file}" in modules and not others & modules


def test_the_version_is_printed_without_anything_heavy():
    shown, modules = modules_after("--version")
    assert shown == f"iit-bench {__version__}\n" and not {*HEAVY, "typer"} & modules


def test_every_listed_command_is_there_and_every_command_is_listed():
    commands = group().commands
    assert list(commands) == list(COMMANDS) and {command.name for command in app.registered_commands} >= {"eval", "list"}
    assert len(app.registered_commands) == len(COMMANDS)
    assert all(command.short_help == COMMANDS[name][1] for name, command in commands.items())


def test_options_of_the_application_are_those_of_its_page(capsys):
    assert main(["--debug", "--help"]) == 0  # by typer, which parses --debug
    by_typer = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == by_typer
    flags = {option for parameter in group().params for option in parameter.opts}
    assert flags == {flag for line in OPTIONS for flag in line.split(", ")} - {"-h", "--help"}


@pytest.mark.parametrize("columns", [52, 80, 120, 400])
def test_the_page_is_as_wide_as_the_terminal_up_to_120_columns(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["-h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= min(columns, 120) - 2
    if columns >= 120:
        assert max(map(len, lines)) > 90
    assert " ".join(" ".join(lines).split()).count("after an interruption, the same command resumes.") == 2


def test_without_a_command_the_page_is_printed_and_the_code_is_2(capsys):
    assert main([]) == 2
    printed = capsys.readouterr()
    assert printed.out.startswith("Usage: iit-bench ") and printed.err == ""
    assert main(["--debug"]) == 2


def test_help_shows_every_option_of_a_run_once_under_its_heading(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["eval", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) > 90  # a wide terminal is used
    heading, shown = "", {}
    for line in lines:
        if line.endswith(":") and not line.startswith(" "):
            heading = line.rstrip(":")
        elif line.strip().startswith("--"):
            shown.setdefault(heading, []).append(line.split()[0])
    for part, title in PARTS.items():
        flags = [flag(field.name) for field in dataclasses.fields(part)]
        assert [one for one in shown[title] if one not in ("--from", "--processes")] == flags, title


@pytest.mark.parametrize(
    ("what", "name"),
    [("models", "wings"), ("sources", "easyvqa"), ("tasks", "iit"), ("tiers", "TTV"), ("presets", "paper"), ("recipes", "lab-base")],
)
def test_lists_print_names_and_json(capsys, what, name):
    assert main(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[0] == name and len(line.split()) > 1 for line in lines)
    assert main(["list", what, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == [line.split()[0] for line in lines]


# ---------------------------------------------------------------- one sentence for every error

BAD = {
    "unknown model": ("eval --model wing --bench {bench} --out {out}", "no model called 'wing'; did you mean 'wings'?"),
    "no model": ("eval --bench {bench} --out {out}", "--model is missing"),
    "no bench": ("eval --model random --out {out}", "--bench is missing"),
    "no out": ("eval --model random --bench {bench}", "--out"),
    "bench is not there": ("eval --model random --bench {tmp}/nowhere --out {out}", "nowhere' is not there; build one with"),
    "bench is foreign": ("eval --model random --bench {tmp} --out {out}", "is not a benchmark folder"),
    "bench is a run": ("eval --model random --bench {run} --out {out}", "is not a benchmark folder"),
    "batch size": ("eval --model random --bench {bench} --out {out} --batch-size x", "--batch-size 'x' is neither"),
    "batch size 0": ("eval --model random --bench {bench} --out {out} --batch-size 0", "--batch-size '0' is neither"),
    "limit": ("eval --model random --bench {bench} --out {out} --limit 0", "--limit 0 is too low"),
    "limit in words": ("eval --model random --bench {bench} --out {out} --limit many", "--limit"),
    "style": ("eval --model random --bench {bench} --out {out} --style verse", "--style"),
    "tier in eval": ("eval --model random --bench {bench} --out {out} --tiers TXV", "has no tier TXV"),
    "generating baseline": ("eval --model random --bench {bench} --out {out} --scoring generate", "cannot generate"),
    "checkpoint of a baseline": ("eval --model random --checkpoint x --bench {bench} --out {out}", "has no checkpoint"),
    "base is not there": ("eval --model random --bench {bench} --out {out} --base {tmp}/base", "base' is not there"),
    "base of another limit": ("eval --model random --bench {bench} --out {out} --base {run}", "limit"),
    "from is no run": ("eval --from {bench} --out {out}", "is not a run folder"),
    "from and more": ("eval --from {run}/run.json --out {out} --limit 3", "leave out --limit"),
    "hub id": ("eval --model hf:not/there/at/all --bench {bench} --out {out}", "neither a folder nor available"),
    "unknown option": ("eval --model random --becnh {bench} --out {out}", "--becnh"),
    "unknown command": ("evla --model random", "evla"),
    "unknown source": ("build --text facst --out {out}", "no source called 'facst'; did you mean 'facts'?"),
    "unknown preset": ("build --preset large --out {out}", "large"),
    "unknown tier": ("build --tiers TXV --out {out}", "TXV"),
    "unknown connector": ("build --connector glue --out {out}", "glue"),
    "size above the source": ("build --text facts --tiers T --size 100000 --out {out}", "reduce it to at most"),
    "size 0": ("build --size 0 --out {out}", "--size 0"),
    "out is a file": ("build --text facts --tiers T --size 2 --out {file}", "is a file, not a folder"),
    "out below a file": ("eval --model random --bench {bench} --out {file}/run", "cannot write"),
    "report of a folder that is not there": ("report {tmp}/nowhere --out {out}", "nowhere"),
    "report of an empty folder": ("report {empty} --out {out}", "is not a run folder"),
    "report of a foreign folder": ("report {bench} --out {out}", "is not a run folder"),
    "report of nothing": ("report --out {out}", "'runs'"),
    "compare with a foreign folder": ("compare {run} {empty}", "is not a run folder"),
    "unknown recipe": ("train lab-brain --out {out}", "lab-brain"),
    "unknown list": ("list nations", "nations"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_a_code(capsys, monkeypatch, bench, majority_run, tmp_path, case):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text, message = BAD[case]
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    places = {"file": tmp_path / "file", "empty": tmp_path / "empty", "tmp": tmp_path, "out": tmp_path / "out"}
    assert main(words_of(text, bench=bench.path, run=majority_run, **places)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line.strip()]
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("iit-bench: ")
    assert message in lines[0]
    assert "Traceback" not in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_debug_shows_the_traceback(tmp_path):
    words = ["eval", "--model", "random", "--bench", str(tmp_path), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="not a benchmark folder"):
        main([*words, "--debug"])
    code = f"import sys; from iit_bench.cli import main; sys.exit(main({['--debug', *words]!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback (most recent call last)" in done.stderr


def test_bug_is_reported_in_one_sentence_too(capsys, monkeypatch):
    import iit_bench.cli.listing

    monkeypatch.setattr(iit_bench.cli.listing, "listing", lambda what: 1 // 0)
    assert main(["list", "models"]) == 70
    assert "internal error, ZeroDivisionError" in capsys.readouterr().err


# ---------------------------------------------------------------- the commands


@pytest.mark.slow
def test_build_eval_report_compare_end_to_end(capsys, tmp_path):
    bench, runs, page = tmp_path / "my bench", tmp_path / "runs", tmp_path / "report"
    assert main(words_of("build --size 4 --tiers T,TV,V --seed 2 --connector template --out '{bench}'", bench=bench)) == 0
    assert "12 dialogues in 3 tiers" not in capsys.readouterr().err
    base = words_of("eval --model random --bench '{bench}' --out {runs}/base --seed 7 --quiet", bench=bench, runs=runs)
    assert main(base) == 0
    assert "tier TV" in capsys.readouterr().out
    again = "eval --model majority --bench '{bench}' --base {runs}/base --out {runs}/majority --quiet --json"
    assert main(words_of(again, bench=bench, runs=runs)) == 0
    assert json.loads(capsys.readouterr().out)["forgetting"]["base"] == "base"
    assert main(["compare", str(runs / "majority"), str(runs / "base"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main(["report", str(runs / "majority"), str(runs / "base"), "--out", str(page), "--title", "Mine"]) == 0
    assert "Mine" in (page / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_results_go_to_stdout_and_progress_to_stderr(capsys, bench, tmp_path):
    words = words_of("eval --model random --bench {bench} --out {out} --limit 2", bench=bench.path, out=tmp_path / "run")
    assert main([*words, "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["n_dialogues"] == 14
    assert "14/14" in printed.err
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_full_disk_in_an_evaluation_is_one_sentence_and_it_resumes_later(capsys, bench, tmp_path):
    out = tmp_path / "run"
    words = words_of("eval --model random --bench {bench} --out {out} --batch-size 4 --quiet", bench=bench.path, out=out)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # run.json fits, the log does not
    try:
        code = main(words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert len(printed.err.splitlines()) == 1
    assert "free some space and repeat the command" in printed.err
    assert {path.name for path in out.iterdir()} == {"run.json", "responses.jsonl"}
    done = (out / "responses.jsonl").read_bytes()
    assert done.endswith(b"\n")
    assert done.count(b"\n") > 8
    assert main(words) == 0
    assert (out / "responses.jsonl").read_bytes().startswith(done)


def test_folder_in_which_another_process_is_at_work_is_unchanged(capsys, majority_run, bench, tmp_path):
    run = shutil.copytree(majority_run, tmp_path / "run")
    files = {path.name: path.read_bytes() for path in run.iterdir()}
    words = words_of("eval --model majority --bench {bench} --out {out} --limit 4 --quiet", bench=bench.path, out=run)
    with ResponseLog(run / "responses.jsonl"):  # the lock belongs to the opened file: a second opening meets it, as another process would
        for more in ([], ["--fresh"]):
            assert main([*words, *more]) == 2
            assert "another process is writing" in capsys.readouterr().err
            assert {path.name: path.read_bytes() for path in run.iterdir()} == files
    assert main(words) == 0


def test_command_in_run_json_repeats_the_run(bench, tmp_path):
    words = words_of(
        "eval --model random --bench {bench} --out '{out}' --seed 5 --tiers T,VT --style letters --limit 5 --batch-size 3 --name 'my run'"
        " --system-prompt 'Don''t guess: \"look\".' --history own --quiet",
        bench=bench.path,
        out=tmp_path / "a b",
    )
    assert main(words) == 0
    first = load_run(tmp_path / "a b")
    command = shlex.split(first.run["command"])
    assert command[:2] == ["iit-bench", "eval"]
    (tmp_path / "a b").rename(tmp_path / "first")
    assert main([*command[1:], "--quiet"]) == 0
    second = load_run(tmp_path / "a b")
    assert second.run["arguments"] == first.run["arguments"]
    assert second.predictions == first.predictions
    assert main(["eval", "--from", str(tmp_path / "first" / "run.json"), "--out", str(tmp_path / "third"), "--quiet"]) == 0
    assert load_run(tmp_path / "third").predictions == first.predictions


# ---------------------------------------------------------------- third parties, machine errors, Ctrl-C

SLOW = '''
import os, time
from iit_bench.errors import MachineError
from iit_bench.models.baselines import RandomModel

class Slow(RandomModel):
    """Waits over a chosen batch, or loses its server."""
    def score(self, batch):
        self.batches = getattr(self, "batches", 0) + 1
        if self.batches == int(os.environ.get("SLOW_BATCH", "0")):
            time.sleep(600)
        if os.environ.get("SLOW_LOSES_SERVER"):
            raise MachineError("server gone", "connection refused")
        return super().score(batch)

def load(name, options):
    return Slow(name, options)
'''


@pytest.fixture
def slow_model(tmp_path, monkeypatch) -> str:
    """A third party's package with the model `slow`, on the path of this process and of its children."""
    site = tmp_path / "site"
    info = site / "slow_model-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-model\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[iit_bench.models]\nslow = slow_model:load\n")
    (site / "slow_model.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", str(site))
    return "slow"


def test_model_of_a_third_party_is_listed_and_scored(capsys, bench, slow_model, tmp_path):
    assert main(["list", "models"]) == 0
    assert "slow_model:load" in capsys.readouterr().out
    words = words_of("eval --model slow --bench {bench} --out {out} --limit 2 --quiet", bench=bench.path, out=tmp_path / "run")
    assert main(words) == 0
    assert load_run(tmp_path / "run").run["model"]["name"] == "slow"


def test_lost_server_is_exit_code_one_until_the_run_is_whole(capsys, monkeypatch, bench, slow_model, tmp_path):
    words = words_of("eval --model slow --bench {bench} --out {out} --limit 2 --quiet", bench=bench.path, out=tmp_path / "run")
    monkeypatch.setenv("SLOW_LOSES_SERVER", "1")
    assert main(words) == 1
    assert "not complete" in capsys.readouterr().out
    assert {error["reason"] for error in load_run(tmp_path / "run").errors} == {"server gone"}
    monkeypatch.delenv("SLOW_LOSES_SERVER")
    assert main(words) == 0
    assert load_run(tmp_path / "run").results.complete


@pytest.mark.slow
def test_ctrl_c_keeps_finished_work_and_prints_how_to_resume(capsys, bench, slow_model, tmp_path):
    out = tmp_path / "a run"
    words = words_of("eval --model slow --bench {bench} --out '{out}' --batch-size 2 --fresh --quiet", bench=bench.path, out=out)
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell in the background ignores Ctrl-C
    code = f"{heard}; import sys; from iit_bench.cli import main; sys.exit(main({words!r}))"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env={**os.environ, "SLOW_BATCH": "5", "PYTHONUNBUFFERED": "1"}
    )
    log, deadline = out / "responses.jsonl", time.monotonic() + 300
    while not (log.exists() and log.read_bytes().count(b"\n") > 6):
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    error = child.communicate(timeout=300)[1]
    assert child.returncode == 130
    assert "Traceback" not in error
    message = [line for line in error.splitlines() if line.strip()]
    assert len(message) == 1
    assert "finished work is kept" in message[0]
    assert not (out / "results.json").exists()
    done = log.read_bytes()
    assert 84 > done.count(b"\n") - 1 >= 6

    again = shlex.split(message[0].split("resume with: ")[1])
    assert again[0] == "iit-bench"
    assert "--fresh" not in again
    assert main(again[1:]) == 0
    assert log.read_bytes().startswith(done)
    whole = words_of("eval --model slow --bench {bench} --out {out} --batch-size 2 --quiet", bench=bench.path, out=tmp_path / "whole")
    assert main(whole) == 0
    assert (out / "predictions.parquet").read_bytes() == (tmp_path / "whole" / "predictions.parquet").read_bytes()


def test_several_models_refuse_json(bench, tmp_path, capsys):
    words = words_of("eval --model random,majority --bench {bench} --out {out} --quiet --json", bench=bench.path, out=tmp_path / "runs")
    assert main(words) == 2
    assert "--json prints the results of one run" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
