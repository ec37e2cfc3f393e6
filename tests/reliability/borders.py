"""What crosses a border from outside, and who reads it: a valid sample of each, changed at random by `test_fuzzed.py`."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders.sources import table, vlmeval
from builders.sources.base import SourceOptions, SourceQuestions
from evaluators.runs.reading import read_runs
from iit_bench.data.fetched import load_sets
from iit_bench.lab.grid import load_grid, planned
from iit_bench.storage.format import BENCHMARK_FORMAT, SNAPSHOTS_FORMAT, TRAINING_FORMAT, sealed_json
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import read_card
from iit_bench.types import SuiteResults

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Border:
    """Files as another tool, an older build or a user's editor writes them, and who reads their folder."""

    files: Mapping[str, str]  # path -> text; each is changed in turn
    read: Callable[[Path], Any]  # of the folder
    is_sound: Callable[[Any], bool] = lambda found: True
    seal: str = ""  # the format of ours that a changed file is sealed as, so that a reader looks further than at its seal


def lines(*records: Any) -> str:
    """Records as JSON lines."""
    return "".join(json.dumps(record) + "\n" for record in records)


def separated(delimiter: str, *rows: list[str]) -> str:
    """Rows as CSV or TSV."""
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows(rows)
    return file.getvalue()


# ---------------------------------------------------------------- results of other tools

MEAN = {"acc,none": 0.5, "acc_stderr,none": 0.5}
SIZES = {"a": {"original": 9, "effective": 2}}
LM_EVAL = {
    "results": {"a": {"alias": "a", **MEAN}},
    "group_subtasks": {},
    "configs": {
        "a": {
            "task": "a",
            "output_type": "multiple_choice",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
            "num_fewshot": 0,
            "metadata": {"version": 1.0},
        }
    },
    "versions": {"a": 1.0},
    "n-shot": {"a": 0},
    "higher_is_better": {"a": {"acc": True}},
    "n-samples": SIZES,
    "config": {"model": "hf", "model_dtype": "torch.float32", "limit": 2.0, "gen_kwargs": {"do_sample": False}},
    "total_evaluation_time_seconds": "2.5",
    "lm_eval_version": "0.4.13",
}
DATE = "2026-01-02T03-04-05.678901"


def lm_eval_sample(place: int) -> dict[str, Any]:
    """A scored choice of two."""
    two = {"gen_args_0": {"arg_0": "Which?", "arg_1": " x"}, "gen_args_1": {"arg_0": "Which?", "arg_1": " y"}}
    scored = [[["-1.5", "False"]], [["-0.5", "True"]]]
    known = {"doc_id": place, "doc": {"question": "Which?", "choices": ["x", "y"], "answer": place}, "target": str(place)}
    hashes = {"doc_hash": f"h{place}", "prompt_hash": "p", "target_hash": "t"}
    return (
        known
        | hashes
        | {"arguments": two, "resps": scored, "filtered_resps": [["-1.5", "False"], ["-0.5", "True"]]}
        | {
            "filter": "none",
            "metrics": ["acc"],
            "acc": float(place),
        }
    )


LMMS = {
    "results": {"a": {**MEAN, "samples": 2, "alias": "a"}},
    "configs": {"a": {"output_type": "generate_until"}},
    "versions": {"a": "Yaml"},
    "n-shot": {"a": 0},
    "n-samples": SIZES,
    "higher_is_better": {"a": {"acc": True}},
    "config": {"model": "llava_hf", "limit": 2.0, "gen_kwargs": "temperature=0"},
    "lmms_eval_version": "0.7.3",
    "model_name": "org/model",
    "total_evaluation_time_seconds": "12.5",
}
LMMS_SAMPLES = [
    {"doc_id": n, "target": "A", "filtered_resps": "A", "doc_hash": f"h{n}", "resps": ["it is A"], "acc": float(n)} for n in (0, 1)
]
LIGHTEVAL = {
    "config_general": {
        "lighteval_sha": "abc",
        "max_samples": 10,
        "total_evaluation_time_secondes": "3.5",
        "model_name": "org/model",
        "model_config": {"model_name": "org/model", "dtype": "bfloat16", "generation_parameters": {"temperature": 0, "top_p": None}},
    },
    "results": {"arc:easy|0": {"acc": 0.5, "acc_stderr": 0.15}, "all": {"acc": 0.5}},
    "versions": {"arc:easy|0": 2},
    "config_tasks": {"arc:easy|0": {"original_num_docs": 40, "effective_num_docs": 10}},
}
KIT = "model/model_DATA"
KIT_ROWS = [["index", "question", "prediction", "answer", "hit", "category", "log"]] + [
    [str(n), "Which?", "A", "A", str(n), "c", "Failed in Prefetch" if n else ""] for n in (0, 1)
]
KIT_OPEN = [["index", "question", "prediction", "answer", "eval_match"]] + [[str(n), "Which?", "A", "A", f"[{n}.0, 0.5]"] for n in (0, 1)]


def has_possible_figures(runs: list[Any]) -> bool:
    """Whether intervals hold their values and are of finite numbers, as JSON wants, and counts are not negative."""
    for run in runs:
        assert isinstance(run.results, SuiteResults)
        for result in run.results.tasks:
            for figure in result.scores.values():
                if figure.value is not None and not abs(figure.value) < math.inf:
                    return False
                if figure.low is not None and not figure.low - 1e-9 <= figure.value <= figure.high + 1e-9:
                    return False
                if figure.low is not None and not -math.inf < figure.low <= figure.high < math.inf:
                    return False
                if figure.n is not None and figure.n < 0:
                    return False
    return True


# ---------------------------------------------------------------- data


def of_table(name: str, read: Callable[[str, SourceOptions], SourceQuestions]) -> Callable[[Path], SourceQuestions]:
    """Read a table of a folder."""
    return lambda folder: read(f"vlmeval:{folder / name}" if read is vlmeval.load else str(folder / name), SourceOptions())


def has_answers(found: SourceQuestions) -> bool:
    """Whether each question has different ids, and an answer among its choices."""
    return all(0 <= one.answer < len(one.choices) and one.choices[one.answer] == one.answer_text for one in found.questions)


ROWS = [
    {"id": f"q{n}", "question": f"Which {n}?", "choices": ["rust", "coal", "tin"], "answer": "coal", "subject": "s", "cluster": str(n)}
    for n in range(3)
]
TABLE = [["question", "choices", "answer", "id"]] + [[f"Which {n}?", '["rust", "coal"]', "coal", f"q{n}"] for n in range(3)]
KIT_TABLE = [["index", "question", "A", "B", "answer", "category", "split"]] + [
    [str(n), f"Which {n}?", "rust", "coal", "B", "c", "test"] for n in range(3)
]

# ---------------------------------------------------------------- files of ours


SETS = {
    "sets": {
        "owner": {
            "source": "s",
            "revision": "r",
            "ref": "main",
            "licence": "MIT",
            "splits": {"main": {"test": ["owner/a.parquet"]}},
            "files": {"owner/a.parquet": {"size": 4, "sha256": "0" * 64, "checked": "md5"}},
        }
    }
}


def of_a_grid(folder: Path) -> Any:
    """Read a grid and lay out its cells."""
    return planned(load_grid(str(folder / "grid.yaml")))


def text_of(*parts: str) -> str:
    """A file of the package."""
    return ROOT.joinpath("iit_bench", *parts).read_text(encoding="utf-8")


BORDERS: dict[str, Border] = {
    "files of lm-eval": Border(
        files={f"results_{DATE}.json": json.dumps(LM_EVAL), f"samples_a_{DATE}.jsonl": lines(*map(lm_eval_sample, (0, 1)))},
        read=read_runs,
        is_sound=has_possible_figures,
    ),
    "files of lmms-eval": Border(
        files={"1_results.json": json.dumps(LMMS), "1_samples_a.jsonl": lines(*LMMS_SAMPLES)}, read=read_runs, is_sound=has_possible_figures
    ),
    "files of lighteval": Border(files={f"results_{DATE}.json": json.dumps(LIGHTEVAL)}, read=read_runs, is_sound=has_possible_figures),
    "files of VLMEvalKit": Border(
        files={
            f"{KIT}_acc.csv": separated(",", ["split", "Overall", "c"], ["none", "0.5", "0.5"]),
            f"{KIT}_exact_matching_result.tsv": separated("\t", *KIT_ROWS),
        },
        read=read_runs,
        is_sound=has_possible_figures,
    ),
    "open answers of VLMEvalKit": Border(
        files={f"{KIT}_acc.csv": separated(",", ["Overall"], ["50.0"]), f"{KIT}_results.tsv": separated("\t", *KIT_OPEN)},
        read=read_runs,
        is_sound=has_possible_figures,
    ),
    "tables (JSON lines)": Border(files={"t.jsonl": lines(*ROWS)}, read=of_table("t.jsonl", table.load), is_sound=has_answers),
    "tables (CSV)": Border(files={"t.csv": separated(",", *TABLE)}, read=of_table("t.csv", table.load), is_sound=has_answers),
    "tables (TSV)": Border(files={"t.tsv": separated("\t", *TABLE)}, read=of_table("t.tsv", table.load), is_sound=has_answers),
    "tables of VLMEvalKit": Border(
        files={"t.tsv": separated("\t", *KIT_TABLE)}, read=of_table("t.tsv", vlmeval.load), is_sound=has_answers
    ),
    "fetched.json": Border(files={"fetched.json": json.dumps(SETS)}, read=load_sets, seal=SNAPSHOTS_FORMAT),
    "recipes": Border(
        files={"recipe.yaml": text_of("recipes", "lab2-wings-stage2.yaml")}, read=lambda folder: load_recipe(str(folder / "recipe.yaml"))
    ),
    "grids": Border(files={"grid.yaml": text_of("lab", "presets", "quick.yaml")}, read=of_a_grid),
    "training cards": Border(
        files={"training.json": text_of("assets", "models", "tower", "training.json")}, read=read_card, seal=TRAINING_FORMAT
    ),
}


def sealed(seal: str, text: str) -> str:
    """A file of ours whose changed content has a right seal, where it can have one."""
    try:
        return sealed_json(seal, json.loads(text))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return text


MANIFEST = BENCHMARK_FORMAT  # its folder is built by the test

# ---------------------------------------------------------------- replies of servers

USAGE = {"usage": {"prompt_tokens": 3, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}}}
CHAT = {
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris", "reasoning_content": "well"}}]
} | USAGE
PARTS = {"choices": [{"message": {"content": [{"type": "text", "text": "Paris"}, {"type": "thinking", "thinking": "well"}]}}]}
TEXT = {"choices": [{"text": " Paris", "finish_reason": "length"}]} | USAGE
PAIRS = [([1, 2], [3, 4]), ([1, 2], [5])]


def _echoed(index: int, *values: float) -> dict[str, Any]:
    tops = [{"a": -1.0} for _ in values]
    return {"index": index, "logprobs": {"token_logprobs": [None, *values], "top_logprobs": [None, *tops]}}


ECHO = {"choices": [_echoed(0, -1.0, -2.0, -0.5), _echoed(1, -1.0, -2.0)]}
GENERATE = [
    {
        "meta_info": {
            "input_token_logprobs": [[-1.0, token, None] for token in tokens],
            "input_top_logprobs": [[[-0.5, 9, None]] for _ in tokens],
        }
    }
    for _, tokens in PAIRS
]
CHAT_SCORES = {
    "prompt_token_ids": [1, 2, 3, 4],
    "prompt_logprobs": [
        None,
        {"2": {"logprob": -1.0, "rank": 1}},
        {"3": {"logprob": -1.0, "rank": 1}},
        {"4": {"logprob": -2.0, "rank": 7}},
    ],
}
