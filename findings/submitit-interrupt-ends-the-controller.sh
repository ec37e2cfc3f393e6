#!/usr/bin/env bash
# submitit 1.5.4: LocalJob._interrupt() does not preempt a local job; its task is neither checkpointed nor requeued.
#
# Expected: as its docstring says, the job gets the preemption signal: the task's checkpoint method is called and it is started again, as
#           on a cluster. (The method is there for tests.)
# Happens:  the signal goes to the process that watches over the tasks. That has a handler for SIGTERM alone, so the signal ends it: the job
#           is INTERRUPTED, while its task runs on to its end, unwatched. A test of checkpoints with it tests nothing. The same
#           signal sent to the task's own process does what was expected.
# Seen:     see below.
set -euo pipefail
source "$(dirname "$0")/packages.bash"
use_packages submitit==1.5.4

cat >task.py <<'PY'
import os
import time
from pathlib import Path

from submitit.helpers import DelayedSubmission


class Task:
    """Writes what happens to it into a file; a task that was checkpointed ends at once."""

    def __init__(self, log, resumed=False):
        self.log, self.resumed = Path(log), resumed

    def __call__(self):
        self.note(f"started {os.getpid()}")
        for _ in range(0 if self.resumed else 30):
            time.sleep(0.1)
        self.note("ended")

    def checkpoint(self):
        self.note("checkpoint")
        return DelayedSubmission(Task(self.log, resumed=True))

    def note(self, line):
        with self.log.open("a") as file:
            file.write(line + "\n")
PY
cat >submit.py <<'PY'
import os
import signal
import time
from pathlib import Path

import submitit
from task import Task


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def wait_for(log, word):
    for _ in range(600):
        if any(line.startswith(word) for line in lines(log)):
            return
        time.sleep(0.1)
    raise SystemExit(f"no {word}")


for way in ("_interrupt()", "signal to the task"):
    log = Path(f"log-{way[:3]}").absolute()
    executor = submitit.LocalExecutor(folder="jobs")
    executor.update_parameters(timeout_min=60)
    job = executor.submit(Task(log))
    wait_for(log, "started")
    if way == "_interrupt()":
        job._interrupt()
    else:
        os.kill(int(lines(log)[0].split()[1]), signal.SIGUSR2)
    job._process.wait()
    wait_for(log, "ended")
    print(f"{way}: {', '.join(line.split()[0] for line in lines(log))}; job {job.state}")
PY
PYTHONPATH=. "$python" submit.py 2>/dev/null | expect "_interrupt(): started, ended; job INTERRUPTED
signal to the task: started, checkpoint, started, ended; job FINISHED"
