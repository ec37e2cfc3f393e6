"""A worker in a process of its own: what is asked and replied, what it prints, and how its end is reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from iit_bench.errors import UserError
from iit_bench.tools.worker_process import ROOT, WorkerProcess

WORKER = """
    import os, sys
    from pathlib import Path
    from iit_bench.tools.worker_process import replies, requests

    reply = replies()
    reply({"arguments": sys.argv[1:], "folder": os.getcwd(), "set": os.environ.get("SET", "")})
    print("printed\\nby the tool")
    for request in requests():
        if request == "die":
            os._exit(7)
        if request == "fail":
            raise RuntimeError("out of luck")
        os.system("echo printed by a child")
        reply({"got": request})
    Path("closed").touch()
"""


@pytest.fixture
def start(tmp_path: Path) -> Any:
    (tmp_path / "talker.py").write_text(textwrap.dedent(WORKER), encoding="utf-8")
    (tmp_path / "folder").mkdir()
    started = []

    def call(*arguments: str, **more: str) -> WorkerProcess:
        environment = os.environ | {"PYTHONPATH": str(tmp_path)} | more
        folder, log = tmp_path / "folder", tmp_path / "log"
        worker = WorkerProcess("talker", *arguments, tool="Talker", folder=folder, log=log, fix="see the log", environment=environment)
        started.append(worker)
        return worker

    yield call
    for worker in started:
        worker.close(kill=True)


def test_requests_are_replied_to_whatever_the_tool_prints(start: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    worker = start("one", "two", SET="yes")
    assert worker.read() == {"arguments": ["one", "two"], "folder": str(tmp_path / "folder"), "set": "yes"}
    for request in ("text\nof two lines", {"Zürich": [1, None]}, []):
        assert worker.ask(request) == {"got": request}
    worker.close()
    assert (tmp_path / "folder" / "closed").exists()  # it came to its end
    log = (tmp_path / "log").read_text()
    assert "printed\nby the tool\n" in log and "printed by a child\n" in log
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("request_", "how"), [("die", "exit code 7|printed by a child|by the tool"), ("fail", "RuntimeError: out of luck")]
)
def test_a_worker_that_ends_is_one_sentence(start: Any, request_: str, how: str) -> None:
    worker = start()
    worker.read()
    for _ in range(2):  # also when it is asked again
        with pytest.raises(UserError, match=rf"^Talker's process ended \(({how})\); see the log$"):
            worker.ask(request_)


def test_a_worker_without_words_is_reported_by_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "mute.py").write_text("import os; os._exit(3)", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    worker = WorkerProcess("mute", tool="Mute", folder=tmp_path, log=tmp_path / "log", fix="ask again", environment=environment)
    with pytest.raises(UserError, match=r"^Mute's process ended \(exit code 3\); ask again$"):
        worker.read()
    worker.close()


def test_a_killed_worker_does_not_come_to_its_end(start: Any, tmp_path: Path) -> None:
    worker = start()
    worker.read()
    worker.close(kill=True)
    assert not (tmp_path / "folder" / "closed").exists()


BUSY = """
    import os, signal, sys
    from pathlib import Path
    from iit_bench.tools.worker_process import WorkerProcess

    worker = WorkerProcess("talker", tool="Talker", folder=Path("folder"), log=Path("log"), fix="see the log", environment=dict(os.environ))
    worker.read()
    worker._process.stdin.write(b'"write"\\n')
    worker._process.stdin.flush()
    while not Path("folder/written").exists():
        pass
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_ends_with_a_killed_process_whatever_it_is_doing(tmp_path: Path) -> None:
    busy = WORKER.replace(
        'if request == "die":', 'while request == "write":\n            Path("written").touch()\n        if request == "die":'
    )
    for name, text in (("talker.py", busy), ("parent.py", BUSY)):
        (tmp_path / name).write_text(textwrap.dedent(text), encoding="utf-8")
    (tmp_path / "folder").mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))}
    killed = subprocess.run([sys.executable, "parent.py"], cwd=tmp_path, env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    until = time.monotonic() + 300
    while True:  # what it writes stays removed
        (tmp_path / "folder" / "written").unlink(missing_ok=True)
        time.sleep(0.3)
        if not (tmp_path / "folder" / "written").exists():
            break
        assert time.monotonic() < until


def test_a_worker_ends_in_the_midst_of_its_work_where_its_input_ends(tmp_path: Path) -> None:
    """The way of every system: the pipe's end, without the last line that `close` sends; the parent of this process is alive."""
    busy = WORKER.replace('if request == "die":', 'import time; time.sleep(600)\n        if request == "die":')
    (tmp_path / "talker.py").write_text(textwrap.dedent(busy), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "talker.py"], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=-1, stderr=-1
    ) as worker:
        worker.stdin.write(b'"work"\n')
        worker.stdin.close()
        assert worker.wait(timeout=300) == 1


POOL = """
    import os, signal, sys, time
    from concurrent.futures import ProcessPoolExecutor
    import multiprocessing
    from iit_bench.tools.worker_process import end_with_parent

    if __name__ == "__main__":
        pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)
        print(*{pool.submit(os.getpid).result() for _ in range(2)}, flush=True)
        pool.submit(time.sleep, 600)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_of_a_pool_end_with_a_killed_process(tmp_path: Path) -> None:
    (tmp_path / "pool.py").write_text(textwrap.dedent(POOL), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (tmp_path / "children").open("wb") as out:  # no pipe, which orphans would hold open
        killed = subprocess.run([sys.executable, "pool.py"], cwd=tmp_path, env=environment, check=False, stdout=out)
    assert killed.returncode == -signal.SIGKILL
    child = int((tmp_path / "children").read_text().split()[0])
    until = time.monotonic() + 300
    while is_running(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    """Whether a process is there, and no zombie that nobody has asked for."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.is_file() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
