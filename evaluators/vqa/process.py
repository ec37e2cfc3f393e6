"""VLMEvalKit's process, as the evaluation sees it: started in a scratch folder, asked for one stage after the other, ended."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evaluators.vqa.protocol import Exchange, Spec, Stage
from evaluators.vqa.scores import FACTS
from iit_bench.errors import UserError
from iit_bench.storage.format import pretty_json
from iit_bench.storage.litter import remove_whole
from iit_bench.storage.whole_folders import exchange
from iit_bench.tools.vlmevalkit import DATA_FOLDER, USERS_DATA
from iit_bench.tools.worker_process import WorkerProcess

LOG, RESULT_FILES = "vlmeval.log", "vlmeval"  # in the run folder
# Settings of VLMEvalKit that a user's shell may have and that would change its results or file formats.
_UNSET = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "SKIP_ERR", "VERBOSE", "PRINT_VANILLA", "FORCE_LOCAL")


class VlmevalProcess:
    """VLMEvalKit's process, running `evaluators.vqa.worker` over the files of an exchange. An error inside `with` kills it."""

    def __init__(self, files: Exchange, spec: Spec, log: Path) -> None:
        files.save_spec(spec)
        files.lmu.mkdir()
        environment = {name: value for name, value in os.environ.items() if name not in _UNSET} | {
            DATA_FOLDER: str(files.lmu),
            USERS_DATA: os.environ.get(DATA_FOLDER, ""),
            "SPLIT_THINK": "1",
            "PRED_FORMAT": "tsv",
            "EVAL_FORMAT": "json",
        }
        fix = f"see {str(log)!r}"
        self._worker = WorkerProcess(
            "evaluators.vqa.worker", tool="VLMEvalKit", folder=files.folder, log=log, fix=fix, environment=environment
        )

    def __enter__(self) -> VlmevalProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self._worker.close(kill=any(error))

    def run(self, stage: Stage) -> None:
        """Have the process do a stage, and wait for it.

        Raises:
            UserError: the sentence that the process gives, or how it ended.
        """
        reply = self._worker.ask(stage)
        if "error" in reply:
            raise UserError(reply["error"])


@contextmanager
def scratch(out: Path) -> Iterator[Exchange]:
    """A folder on the disk of the run folder, removed afterwards; one that a killed process left is removed by `runs.session.enter`."""
    folder = Path(
        tempfile.mkdtemp(prefix=".vlmeval.", suffix=".partial", dir=out.resolve())
    )  # processes of two machines may share a number
    try:
        yield Exchange(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep_result_files(files: Exchange, facts: Mapping[str, Mapping[str, Any]], out: Path) -> None:
    """Move VLMEvalKit's result files into the run folder, but for its pickles, which this project never reads.

    Args:
        files: of the process.
        facts: per data set, what goes into its `FACTS`.
        out: the run folder.
    """
    for path in files.work.rglob("*.pkl"):
        path.unlink()
    for task, own in facts.items():
        folder = files.work / task
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FACTS).write_text(pretty_json(own), encoding="utf-8")
    target = out / RESULT_FILES
    if not (target.is_dir() and exchange(files.work, target)):
        remove_whole(target)
        os.replace(files.work, target)
