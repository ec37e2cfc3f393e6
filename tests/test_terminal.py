"""What strangers wrote reaches the terminal visibly, as no markup, and through one function."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from iit_bench.cli import main
from iit_bench.storage.benchmark import Benchmark
from iit_bench.terminal import label, write
from tests.resealed import reseal

ROOT = Path(__file__).parents[1]
HOSTILE = "[/red] [bold]\x1b[2J\x9b1m\u202eevil\u2066\x7f[/]"
SPELLED = "[/red] [bold]⟨U+001B⟩[2J⟨U+009B⟩1m⟨U+202E⟩evil⟨U+2066⟩⟨U+007F⟩[/]"


def test_nothing_prints_but_the_one_function() -> None:
    """`print` of the rooms, where it is no pipe to another process; the commands' door prints its own words only, to start at once."""
    pipes = {"iit_bench/tools/worker_process.py", "iit_bench/models/template_trial.py", "iit_bench/models/pattern_trial.py"}
    allowed = {"iit_bench/terminal.py", "iit_bench/cli/commands.py", *pipes}
    found = []
    for package in ("iit_bench", "builders", "evaluators", "reports"):
        for path in (ROOT / package).rglob("*.py"):
            if (name := str(path.relative_to(ROOT))) in allowed or "assets" in path.parts:
                continue
            calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
            found += [name for call in calls if isinstance(call, ast.Name) and call.id == "print"]
            streams = [call.value for call in calls if isinstance(call, ast.Attribute) and call.attr in ("write", "writelines")]
            found += [name for one in streams if isinstance(one, ast.Attribute) and one.attr in ("stdout", "stderr")]
    assert not found


def test_words_are_spelled_out_and_json_keeps_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    write(HOSTILE)
    assert capsys.readouterr().out == SPELLED + "\n"
    value = {"name": HOSTILE + "\ud83d\U000e0001é\n"}
    write(json.dumps(value, ensure_ascii=False), json=True)
    out = capsys.readouterr().out
    assert out[:-1].isprintable() and json.loads(out) == value and "é" in out


def test_a_terminal_that_lacks_a_character_is_shown_its_number() -> None:
    terminal = io.TextIOWrapper(raw := io.BytesIO(), encoding="latin-1", write_through=True)
    write("ä …", file=terminal)
    assert raw.getvalue() == b"\xe4 \\u2026\n"


def test_a_bar_takes_any_title(capsys: pytest.CaptureFixture[str]) -> None:
    from iit_bench.progress import bar, download_bar

    for kind in (bar, download_bar):
        with kind(HOSTILE + "\nnext", 1) as advance:
            advance(1)
    shown = "".join(capsys.readouterr().err.split())
    assert "".join(label(HOSTILE)[:20].split()) in shown and "\x1b" not in shown and "\u202e" not in shown


@pytest.mark.slow
def test_a_strangers_run_folder_and_sources_send_no_controls_to_the_terminal(
    bench: Benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, folder = tmp_path / "mine", tmp_path / "theirs"
    assert main(["eval", "--model", "majority", "--bench", str(bench.path), "--out", str(mine), "--limit", "2", "--quiet"]) == 0
    shutil.copytree(mine, folder)
    header = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    header["name"] = header["model"]["name"] = HOSTILE
    reseal(folder / "run.json", header)
    for command in (["compare", str(folder), str(mine)], ["show", str(folder)], ["diff", str(mine), str(folder), "--json"]):
        capsys.readouterr()
        assert main(command) == 0
        out = "".join(capsys.readouterr())
        assert "evil" in out and out.replace("\n", "").isprintable()


def test_an_error_that_quotes_a_name_is_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--model", HOSTILE, "--bench", "x", "--out", "y"]) == 2
    error = capsys.readouterr().err
    assert error[:-1].isprintable()


def test_a_build_names_a_source_with_brackets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It once ended in rich, which read them as the end of a style."""
    assert main(["build", "--text", "lmeval:[/red]", "--visual", "easyvqa", "--out", str(tmp_path / "bench")]) == 2
    assert "[/red]" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["eval", "--help"], ["--help"], ["--version"]])
def test_help_whose_reader_ends_first_is_no_error(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As `iit-bench eval --help | head -1` does."""
    read, written = os.pipe()
    os.close(read)
    with os.fdopen(written, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(words) == 1
    assert capfd.readouterr().err == ""


def test_help_without_all_its_characters_or_without_place_is_no_traceback() -> None:
    words = [sys.executable, "-c", "import sys; from iit_bench.cli import main; sys.exit(main(['--help']))"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "") and "\\u2026" in done.stdout
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2
        assert done.stderr == "iit-bench: cannot print this (No space left on device); print it to another place\n"


def test_what_libraries_log_and_warn_about_is_spelled_out(tmp_path: Path) -> None:
    """transformers quotes values of a configuration as they are."""
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "iit_bench" / "assets" / "models" / "base-llm", folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["rope_parameters"] = {**config.get("rope_parameters", {}), "rope_type": "default\x1b[31m\u202e"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    words = [
        "eval",
        "--model",
        f"hf:{folder}",
        "--suite",
        "text",
        "--tasks",
        "iit_facts_capital",
        "--out",
        str(tmp_path / "run"),
        "--quiet",
    ]
    code = f"import sys, warnings; from iit_bench.cli import main; code = main({words!r}); warnings.warn({HOSTILE!r}); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "default⟨U+001B⟩[31m⟨U+202E⟩" in done.stderr and SPELLED in done.stderr
    assert "\x1b" not in done.stdout + done.stderr and "\u202e" not in done.stdout + done.stderr
