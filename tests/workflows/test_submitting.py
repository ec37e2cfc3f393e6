"""`iit-bench submit`: an array through submitit, here by its local executor; a preempted task is queued again and goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from evaluators.iit.evaluate import evaluate
from evaluators.runs.options import RunOptions
from iit_bench.cli import main
from iit_bench.storage.runs import load_run
from iit_bench.workflows.submitting import Session, submit
from tests.full_disk import files_of_at_most
from tests.held_folder import held_elsewhere

pytest.importorskip("submitit", reason="pip install 'iit-bench[slurm]'")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_tasks_of_an_array_write_the_bytes_of_one_process(bench, tmp_path):
    evaluate(RunOptions(model="random", bench=bench.path, out=tmp_path / "one"), progress=False)
    words = ["eval", "--model", "random", "--bench", str(bench.path), "--out", str(tmp_path / "run"), "--quiet"]
    jobs = submit(words, 2, tmp_path / "logs", cluster="local", parameters={"timeout_min": 5})
    assert 0 in [job.result() for job in jobs]
    assert (tmp_path / "run" / "predictions.parquet").read_bytes() == (tmp_path / "one" / "predictions.parquet").read_bytes()


WAITING = """
import time
from pathlib import Path

from iit_bench.models.baselines import RandomModel

HERE = Path(__file__).parent

class Waiting(RandomModel):
    batches = 0

    def score(self, batch):
        self.batches += 1
        if self.batches == 2:
            (HERE / "begun").touch()
            while not (HERE / "go").exists():
                time.sleep(0.01)
        return super().score(batch)

def load(name, options):
    return Waiting(name, options)
"""


@pytest.fixture
def waiting(tmp_path, monkeypatch) -> Path:
    """A folder with model `waiting`, installed for the tasks: in its second batch it writes the file `begun`, waits for `go`."""
    info = tmp_path / "package" / "waiting-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: waiting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[iit_bench.models]\nwaiting = waiting_model:load\n")
    (info.parent / "waiting_model.py").write_text(WAITING)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, info.parent))))
    return info.parent


def test_a_preempted_task_is_queued_again_and_goes_on(bench, waiting, tmp_path):
    """Preempted in its second batch, so that the first is not asked again."""
    out = tmp_path / "runs" / "run"
    words = ["eval", "--model", "waiting", "--bench", str(bench.path), "--out", str(out), "--batch-size", "4", "--quiet"]
    [job] = submit(words, 1, tmp_path / "logs", cluster="local", parameters={"timeout_min": 5})
    until = time.monotonic() + 300
    while not (waiting / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert job._process is not None
    [task] = Path(f"/proc/{job._process.pid}/task/{job._process.pid}/children").read_text().split()
    os.kill(int(task), signal.SIGUSR2)  # as Slurm does before it preempts a task (the local job's own method ends its controller)
    while "Requeued job" not in job.paths.stdout.read_text() + job.paths.stderr.read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    (waiting / "go").touch()
    assert job.result() == 0
    assert (out / "results.json").is_file()
    assert load_run(out).run["resumed"] == 1


def test_what_is_queued_again_is_the_same_process_of_the_run():
    session = Session(words=("eval",), number=2, of=4, launch="x")
    again = session.checkpoint()
    assert again.function == session


def test_a_failed_command_fails_its_task(tmp_path):
    submitit = pytest.importorskip("submitit")
    words = ["eval", "--model", "no-such", "--bench", str(tmp_path), "--out", str(tmp_path / "run")]
    [job] = submit(words, 1, tmp_path / "logs", cluster="local", parameters={"timeout_min": 5})
    with pytest.raises(submitit.core.utils.FailedJobError, match="ended with exit code 2"):
        job.result()


@pytest.mark.parametrize("words", [[], ["--model", "x"], ["eval", "--processes", "2"]])
def test_a_command_that_is_no_evaluation_is_refused(words, capsys):
    assert main(["submit", *words]) == 2
    assert "write the evaluation behind the options" in capsys.readouterr().err


def test_without_slurm_the_reason_is_one_sentence(tmp_path, capsys):
    words = ["submit", "--logs", str(tmp_path / "logs"), "eval", "--model", "random", "--bench", "b", "--out", "o"]
    assert main(words) == 2
    assert "submitit cannot submit this" in capsys.readouterr().err


def test_what_a_killed_submission_left_is_removed_and_files_of_others_are_kept(tmp_path, capsys):
    """submitit's files without a number lay there for ever. Those of an hour may still be about to be used, by whomever."""
    logs = tmp_path / "logs"
    logs.mkdir()
    name = "0123456789abcdef" * 2
    old = [f"{name}.pkl", f".submission_file_{name}.sh", "12_0_result.pkl.save_tmp"]
    kept = ["12_submission.sh", "12_submitted.pkl", f"{name}x.pkl", "notes.txt"]
    for file in (*old, *kept):
        (logs / file).write_text("")
        os.utime(logs / file, (0, 0))
    (logs / f".submission_file_{'a' * 32}.sh").symlink_to("12_submission.sh")
    (logs / f"{'b' * 32}.pkl").write_text("of one at work")
    words = ["submit", "--cluster", "local", "--logs", str(logs), "eval", "--model", "random", "--bench", "b", "--out", str(tmp_path / "o")]
    with files_of_at_most(40):
        assert main(words) == 2
    assert "free some space" in capsys.readouterr().err
    left = {path.name for path in logs.iterdir()}
    assert left == {*kept, f".submission_file_{'a' * 32}.sh", f"{'b' * 32}.pkl"}


def test_a_refused_submission_leaves_no_files(tmp_path, monkeypatch, capsys):
    """sbatch refuses a partition, say: the tasks' files stayed in the folder."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, text in (("srun", "exit 0"), ("sbatch", "echo invalid partition >&2; exit 1")):
        (binaries / name).write_text(f"#!/bin/sh\n{text}\n")
        (binaries / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    for count in ("1", "2"):  # a job of its own, an array
        words = ["submit", "--processes", count, "--logs", str(tmp_path / "logs"), "eval", "--model", "random", "--bench", "b", "--out"]
        assert main([*words, str(tmp_path / "o")]) == 2
        assert "submitit cannot submit this" in capsys.readouterr().err
        assert not (tmp_path / "logs").exists() or not list((tmp_path / "logs").iterdir())


def test_a_second_submission_into_one_folder_at_once_is_refused(tmp_path, capsys):
    with held_elsewhere(tmp_path):
        words = ["submit", "--cluster", "local", "--logs", str(tmp_path), "eval", "--model", "random", "--bench", "b", "--out"]
        assert main([*words, str(tmp_path / "o")]) == 2
    assert "another process is writing" in (said := capsys.readouterr().err) and "choose another --logs" in said
