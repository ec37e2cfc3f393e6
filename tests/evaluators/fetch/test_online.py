"""Without --data-root: lm-eval and VLMEvalKit fetch by themselves, from the server that `iit-bench fetch` is tested with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from iit_bench.errors import UserError
from iit_bench.tools.vlmevalkit import download, shells

LOAD = """
import json, sys
from pathlib import Path
from evaluators.text.tasks import TaskOptions, load_tasks
from iit_bench.errors import UserError
try:
    tasks = load_tasks(sys.argv[2:], TaskOptions(), Path(sys.argv[1]))
except UserError as error:
    sys.exit(str(error))
print(json.dumps([tasks.revisions, {name: len(task.eval_docs) for name, task in tasks.loaded["tasks"].items()}]))
"""


def load(server, tmp_path: Path, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`datasets` reads the Hub's address when it is imported: a process of its own."""
    path = os.pathsep.join(filter(None, sys.path))
    online = {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": path} | environment
    words = [sys.executable, "-c", LOAD, str(tmp_path / "scratch"), *names]
    return subprocess.run(words, capture_output=True, text=True, env=os.environ | online, check=False)


@pytest.mark.slow
def test_the_text_suite_records_which_commit_it_read_from_the_hub(server, tmp_path):
    done = load(server, tmp_path, "piqa", "mmlu_anatomy")
    commits = {name: server.commit(dataset) for name, dataset in (("piqa", "baber/piqa"), ("mmlu_anatomy", "cais/mmlu"))}
    assert json.loads(done.stdout) == [commits, {"piqa": 6, "mmlu_anatomy": 6}]


@pytest.mark.slow
def test_without_network_the_data_set_and_the_way_out_are_named(server, tmp_path):
    done = load(server, tmp_path, "piqa", HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "'piqa' cannot read 'baber/piqa' from the Hub" in done.stderr
    assert "; go online, or fetch it with `iit-bench fetch piqa --data-root DIR`" in done.stderr.splitlines()[-1]
    assert server.requests == []


@pytest.mark.skipif(find_spec("vlmeval") is None, reason="VLMEvalKit is installed by hand (README)")
def test_a_table_that_cannot_be_downloaded_is_reported_with_the_way_out(server, tmp_path, monkeypatch):
    monkeypatch.setenv("LMUData", str(tmp_path))
    with (
        shells(),
        pytest.raises(UserError, match=r"VLMEvalKit cannot download 'MME' from .*; go online, or fetch it with `iit-bench fetch MME "),
    ):
        download("MME", "http://127.0.0.1:9/MME.tsv", "")
