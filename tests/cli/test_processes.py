"""`iit-bench eval --processes`: several processes, one run; they end with the one that started them."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from evaluators.iit.evaluate import evaluate
from evaluators.runs.options import RunOptions
from iit_bench.cli import main, processes
from iit_bench.storage.runs import load_run
from iit_bench.training.train import run as run_recipe
from tests import warm_processes
from tests.training.conftest import TINY

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def start(*words: object) -> subprocess.Popen[str]:
    """`iit-bench eval WORDS` in a process group of its own."""
    # A shell that starts tests in the background lets them ignore Ctrl-C, which a terminal does not.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from iit_bench.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, "eval", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def members(group: int) -> set[int]:
    """The processes of a group that are no zombies."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = path.read_text().rpartition(") ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, of, *_ = rest.split()
        if int(of) == group and state != "Z":
            found.add(int(path.parent.name))
    return found


def wait_until(holds, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def forked(monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    """forked(WORDS) → exit code and output of `iit-bench eval WORDS` in this process, whose `--processes` import no packages again."""
    popen = functools.partial(warm_processes.start, preload=warm_processes.MODELS)
    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(Popen=popen, PIPE=subprocess.PIPE))

    def run(*words: object) -> tuple[int, str, str]:
        code = main(["eval", *map(str, words)])
        return (code, *capfd.readouterr())

    return run


def test_two_processes_write_the_bytes_of_one_and_print_one_summary(bench, tmp_path, forked):
    evaluate(RunOptions(model="base-llm", bench=bench.path, out=tmp_path / "one", device="cpu", threads=1, name="x"), progress=False)
    words = ("--model", "base-llm", "--bench", bench.path, "--out", tmp_path / "two", "--processes", 2, "--quiet", "--name", "x")
    code, out, err = forked(*words)
    assert (code, err) == (0, "")
    assert out.count("x: 18 dialogues") == 1
    for name in ("predictions.parquet", "results.json", "errors.jsonl"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert load_run(tmp_path / "two").run["threads"] == 1


LAUNCHERS = {
    "torchrun": "torch.distributed.run --nproc-per-node 2 --master-port 0 --no-python",
    "accelerate": "accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --main_process_port 0 --mixed_precision no "
    "--dynamo_backend no --no_python",
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_the_processes_of_a_launcher_share_the_work(bench, tmp_path, launcher):
    evaluate(RunOptions(model="random", bench=bench.path, out=tmp_path / "one", name="x"), progress=False)
    program = tmp_path / "program.py"
    program.write_text("import sys; from iit_bench.cli import main; sys.exit(main())")
    words = ["eval", "--model", "random", "--bench", bench.path, "--out", tmp_path / "two", "--name", "x", "--quiet"]
    command = [sys.executable, "-m", *LAUNCHERS[launcher].split(), sys.executable, program, *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = warm_processes.run(command, env=environment, preload=warm_processes.MODELS)  # the launcher; what it starts is not forked
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("x: 84 dialogues") in (1, 2)  # 2 where the second process came after the first had left
    for name in ("predictions.parquet", "results.json", "errors.jsonl"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


STEPS = ("optim.steps=2", "optim.batch=4", "every.log=1", "every.checkpoint=9", "data.turns=[1]", "limit=1", "test=false")
TRAINED = (*TINY["lab-base"], *STEPS)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").open()]


@pytest.fixture(scope="module")
def trained_by_one(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return losses(run_recipe("lab-base", TRAINED, tmp_path_factory.mktemp("trained") / "one", progress=False))


TRAINERS = {
    "torchrun": "torch.distributed.run --standalone --nproc-per-node 2",  # of port 0 it tells the processes nothing else
    "accelerate": LAUNCHERS["accelerate"].removesuffix(" --no_python"),
}
# Of torchrun, for the launchers that use it, too: the processes are forked from the launcher, which has imported torch and transformers.
FORKED = {"PET_RUN_PATH": "1", "PET_START_METHOD": "fork"}


@pytest.mark.parametrize("launcher", TRAINERS)
def test_two_processes_of_a_launcher_train_what_one_does_without_a_warning(trained_by_one, tmp_path, launcher):
    program = tmp_path / "program.py"
    program.write_text("import sys; from iit_bench.cli import main; sys.exit(main())")
    words = ["train", "lab-base", *(word for item in TRAINED for word in ("--set", item)), "--out", tmp_path / "two", "--quiet"]
    command = [sys.executable, "-m", *TRAINERS[launcher].split(), program, *words]
    environment = {**os.environ, **FORKED, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = warm_processes.run(command, env=environment, preload=warm_processes.MODELS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "two")]
    assert "find_unused_parameters" not in done.stderr  # DDP's warning of each process
    assert losses(tmp_path / "two") == pytest.approx(trained_by_one, rel=1e-5) and len(trained_by_one) == 2
    assert json.loads((tmp_path / "two" / "training.json").read_text())["processes"] == 2


def test_a_reason_that_all_processes_have_is_shown_once(bench, tmp_path, forked):
    code, _, err = forked("--model", "no-such", "--bench", bench.path, "--out", tmp_path / "run", "--processes", 2)
    assert code == 2
    assert err.count("no-such") == 1


def test_fresh_starts_over_once(bench, tmp_path):
    evaluate(RunOptions(model="random", bench=bench.path, out=tmp_path / "run"), progress=False)
    words = ("--model", "random", "--bench", bench.path, "--out", tmp_path / "run", "--processes", 2, "--quiet")
    started = start(*words, "--fresh", "--seed", 5)
    _, err = started.communicate(timeout=300)
    assert started.returncode == 0, err
    assert load_run(tmp_path / "run").run["seed"] == 5
    assert load_run(tmp_path / "run").run["resumed"] in (0, 1)  # 1 where the second process came after the first had left


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="counts processes in /proc")
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_processes_end_with_their_parent(bench, tmp_path, sign, code):
    started = start("--model", "base-llm", "--bench", bench.path, "--out", tmp_path / "run", "--processes", 2, "--quiet")
    wait_until(lambda: len(members(started.pid)) == 3)
    os.kill(started.pid, sign)
    _, err = started.communicate(timeout=300)
    assert started.returncode == code
    assert ("resume with: iit-bench eval" in err) == (code == 130)
    wait_until(lambda: not members(started.pid))


def test_two_processes_evaluate_several_models_and_write_one_report(bench, tmp_path, forked):
    code, output, errors = forked("--model", "majority,random", "--bench", bench.path, "--out", tmp_path, "--quiet", "--processes", 2)
    assert (code, errors) == (0, "")
    assert "Leaderboard" in output
    assert (tmp_path / "report" / "index.html").is_file()
    assert all(load_run(tmp_path / name).results.complete for name in ("majority", "random"))
