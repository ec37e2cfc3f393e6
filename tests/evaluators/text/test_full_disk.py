"""What lm-eval writes itself, on a disk that fills in the midst of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from evaluators.runs.options import RunOptions
from evaluators.text.evaluate import _save_lm_eval
from iit_bench.errors import UserError
from tests.full_disk import files_of_at_most

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("size", [200, 2000])
def test_files_of_lm_eval_that_a_full_disk_cut_off_are_no_results(tmp_path: Path, size: int) -> None:
    """lm-eval only warns, and the half of its file was kept and recorded as what the run has. Results have 1 kB here, samples 20."""
    sample = dict.fromkeys(("doc_hash", "prompt_hash", "target_hash", "target"), "0") | {"arguments": [("x" * 1000,)]}
    sample |= {"resps": [["a"]], "filtered_resps": ["a"]}
    evaluated = {"results": {"a": {"acc,none": 1.0}}, "samples": {"a": [sample] * 20}}
    lm = SimpleNamespace(tokenizer_name="tiny", chat_template=lambda asked: "")
    options = RunOptions(model="hf:tiny", suite="text", tasks=("a",), out=tmp_path)
    folder = tmp_path / "lm_eval"
    with files_of_at_most(size), pytest.raises(UserError, match=r"could not write its files whole into .*; free some space"):
        _save_lm_eval(folder, evaluated, lm, options)
    _save_lm_eval(folder, evaluated, lm, options)
    (results,), (samples,) = folder.rglob("results_*.json"), folder.rglob("samples_a_*.jsonl")
    assert json.loads(results.read_text())["results"] and len(samples.read_text().splitlines()) == 20
