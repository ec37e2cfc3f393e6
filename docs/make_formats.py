"""Writes docs/reference/formats.md: a real sample of every file that iit-bench writes, and the documentation of every field.

    python docs/make_formats.py

The samples are made by the commands, in a temporary folder, offline. What differs between two machines (times, versions, paths, hashes of
files) is replaced. Fields are documented where they are declared (`field_docs.py`); a field without documentation is an error.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import file_fields  # noqa: E402
from field_docs import fields_of, table  # noqa: E402 - run as a script, the package may not be installed
from file_fields import EXPORT_FIELDS, HEADERS, MANIFEST_FIELDS, RUN_EXPORT_FIELDS, TRAINING_FIELDS  # noqa: E402

from evaluators.attention.table import ATTENTION_FIELDS, ObservedDialogue  # noqa: E402
from iit_bench import types  # noqa: E402
from iit_bench.data.fetched import FetchedFile, FetchedSet, save_sets  # noqa: E402
from iit_bench.engine.log import LOG_FORMAT, LOG_VERSION  # noqa: E402
from iit_bench.models.contract import GenerateResult, ModelInfo, ScoreResult  # noqa: E402
from iit_bench.storage.format import ATTENTION_FORMAT, BENCHMARK_FORMAT, RESULTS_FORMAT, RUN_FORMAT, written_version  # noqa: E402
from iit_bench.storage.runs import ERROR_FIELDS, RUN_FIELDS, SUITE_FIELDS  # noqa: E402
from reports.formats.figures import Row  # noqa: E402

PAGE = HERE / "reference" / "formats.md"
# Records inside results.json.
OF_RESULTS: tuple[type, ...] = (types.Figure, types.TierResult, types.Breakdown, types.PositionResult, types.PairedResult)
OF_RESULTS += (types.Forgetting, types.Ledger, types.LedgerPart, types.LostItem)
# Made in this order, in a folder of their own.
COMMANDS = (
    "build --size 12 --tiers T,TT,VT,V --out bench",
    "eval --model base-llm --bench bench --limit 4 --device cpu --quiet --out runs/base",
    f"eval --model base-llm --bench bench --limit 1 --tiers T --device cpu --quiet --out runs/errors --system-prompt '{'word ' * 1100}'",
    "eval --model random --bench bench --limit 4 --quiet --out runs/random",
    "eval --suite text --model base-llm --tasks iit_facts --apply-chat-template --limit 1 --device cpu --quiet --out runs/text",
    "attention --model wings --bench bench --limit 2 --tiers V --device cpu --engine plain --quiet --out runs/observed",
    "export bench --to lm-eval --quiet --out bench-lm-eval",
    "export runs/base --to csv --quiet --out runs-csv",
)

# ---------------------------------------------------------------- samples


def samples(folder: Path) -> None:
    """Run the commands in `folder`, in this process, and write a data root's fetched.json by the function that `fetch` uses.

    Raises:
        RuntimeError: a command failed.
    """
    import shlex

    from iit_bench.cli import main

    for name, value in (("HF_HUB_OFFLINE", "1"), ("HF_DATASETS_OFFLINE", "1"), ("TOKENIZERS_PARALLELISM", "false")):
        os.environ.setdefault(name, value)  # read when the libraries are imported
    with contextlib.chdir(folder):
        for command in COMMANDS:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as log:
                code = main(shlex.split(command))
            # 1: items failed, as is wanted for errors.jsonl
            if code not in (0, 1) or not Path(shlex.split(command)[shlex.split(command).index("--out") + 1]).is_dir():
                raise RuntimeError(f"`iit-bench {command}` ended with {code}: {log.getvalue()}")
        Path("data").mkdir()
        file = FetchedFile(size=2134, sha256="5" * 64, checked="sha256")
        path = "allenai/openbookqa/main/test-00000-of-00001.parquet"
        address = "https://huggingface.co/datasets/allenai/openbookqa"
        splits = {"main": {"test": (path,)}}
        fetched = FetchedSet(source=address, revision="3" * 40, ref="main", licence="unknown", splits=splits, files={path: file})
        save_sets(Path("data"), {"allenai/openbookqa": fetched})


_REPLACED = {
    "started": "2026-01-01T12:00:00+00:00",
    "ended": "2026-01-01T12:00:09+00:00",
    "date": "2026-01-01",
    "threads": 1,
    "seconds": 8.5,
    "check": "<16 hex digits>",
    "git_commit": "<40 hex digits>",
    "iit-bench": "<version>",
    "checkpoint": "<path>/base-llm",
    "versions": {"python": "<version>", "iit-bench": "<version>", "…": "…"},
}


def normal(value: Any, name: str = "") -> Any:
    """The value with everything replaced that differs between machines."""
    if name in _REPLACED and value not in (None, ""):
        return _REPLACED[name]
    if isinstance(value, Mapping):
        return {key: normal(one, key) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [normal(one, name) for one in value]
    if isinstance(value, float):
        return round(value, 2 if "logprob" in name else 4)
    if isinstance(value, bytes):
        return f"<{value[1:4].decode()} file, {len(value)} bytes>"
    if isinstance(value, str):
        value = re.sub(r"word (word )+(?:word)?", "word word … ", value)
        return re.sub(r"\b[0-9a-f]{64}\b", "<64 hex digits>", value)
    return value


# Entries of a dict that a sample shows, by the dict's name; the others are counted.
_SHOWN = {"baselines": 2, "answer_counts": 6, "targets_by_subject": 3, "iit": 1, "t_score": 1, "v_score": 1, "dev": 3, "test": 3}


def short(value: Any, name: str = "") -> Any:
    """Lists of records cut to the first one, and long dicts to their first entries; "… N more" marks what is cut."""
    if isinstance(value, Mapping):
        if name == "benchmark" and "sources" in value:
            return {key: "… as in manifest.json" if key in ("sources", "baselines") else one for key, one in value.items()}
        shown = list(value)[: _SHOWN.get(name, len(value))]
        cut = {f"… {len(value) - len(shown)} more": "…"} if len(shown) < len(value) else {}
        return {key: short(value[key], key) for key in shown} | cut
    if isinstance(value, list) and len(value) > 1 and isinstance(value[0], dict):
        return [short(value[0]), f"… {len(value) - 1} more"]
    return value


def _code(text: str, language: str = "json") -> str:
    return f"```{language}\n{text}\n```\n"


def _json_sample(path: Path) -> str:
    return _code(_pretty(short(normal(json.loads(path.read_text(encoding="utf-8"))))))


def _pretty(value: Any) -> str:
    """JSON with short lists and records on one line, at most 140 characters wide."""

    def lines(one: Any, indent: int, before: str) -> str:
        flat = json.dumps(one, ensure_ascii=False)
        if not isinstance(one, (dict, list)) or len(flat) + indent + len(before) <= 140:
            return before + flat
        pad = "  " * (indent // 2 + 1)
        inside = (
            [lines(sub, indent + 2, f"{json.dumps(key, ensure_ascii=False)}: ") for key, sub in one.items()]
            if isinstance(one, dict)
            else [lines(sub, indent + 2, "") for sub in one]
        )
        opening, closing = "{}" if isinstance(one, dict) else "[]"
        body = ",\n".join(pad + line for line in inside)
        return f"{before}{opening}\n{body}\n{pad[2:]}{closing}"

    return lines(value, 0, "")


def _lines_sample(path: Path, count: int) -> str:
    lines = [json.dumps(normal(json.loads(line)), ensure_ascii=False) for line in path.read_text(encoding="utf-8").splitlines()[:count]]
    return _code("\n".join(lines))


def _rows_sample(path: Path, count: int = 1, where: str = "") -> str:
    import pyarrow.parquet as pq

    rows = [row for row in pq.read_table(path).to_pylist() if not where or row["modality"] == where]
    return _code("\n".join(_pretty(normal(row)) for row in rows[:count]))


_GENERATED = (
    (r"_\d{4}-\d\d-\d\dT[\d-]+\.\d+", "_DATE"),
    (r"samples_iit_facts_\w+_DATE", "samples_TASK_DATE"),
    (r"[0-9a-f]{64}", "SHA256"),
)


def _tree(folder: Path, notes: Mapping[str, str]) -> str:
    """The folder's files with what they are; names that differ only by a date, a task or a hash are one line."""
    names = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        for pattern, word in _GENERATED:
            name = re.sub(pattern, word, name)
        if path.is_file() and name not in names:
            names.append(name)
    width = max(len(name) for name in names)
    return _code("\n".join(f"{name:{width}}  {notes.get(name.rpartition('/')[2], notes.get(name, ''))}".rstrip() for name in names), "")


# ---------------------------------------------------------------- the page


def tables() -> Iterator[tuple[str, Any]]:
    """Every record or dict of fields that the page documents, by the name of its table."""
    yield "manifest.json", MANIFEST_FIELDS
    yield "questions", types.Question
    yield "dialogues", types.Dialogue
    yield "run.json", RUN_FIELDS
    yield "run.json: model", ModelInfo
    yield "responses: score", ScoreResult
    yield "responses: generate", GenerateResult
    yield "predictions.parquet", types.Prediction
    yield "prompts.parquet", types.SeenPrompt
    yield "results.json", types.Results
    for record in OF_RESULTS:
        yield record.__name__, record
    yield "attention.parquet", ObservedDialogue
    yield "attention.parquet: metadata", ATTENTION_FIELDS
    yield "errors.jsonl", ERROR_FIELDS
    yield "suite run.json", {name: text for name, text in SUITE_FIELDS.items() if name not in RUN_FIELDS}
    yield "suite results.json", types.SuiteResults
    yield "TaskResult", types.TaskResult
    yield "items.parquet", types.TaskItem
    yield "export manifest.json", EXPORT_FIELDS
    yield "run export manifest.json", RUN_EXPORT_FIELDS
    yield "figures.csv", Row
    yield "FetchedSet", FetchedSet
    yield "FetchedFile", FetchedFile
    yield "training.json", TRAINING_FIELDS


def undocumented() -> list[str]:
    """Fields that are written to disk and have no documentation."""
    return [f"{where}.{name}" for where, record in tables() for name, _, text in fields_of(record) if not text.strip()]


def check_fields(folder: Path) -> None:
    """Raise ValueError where a file has a field that no table documents, or the other way round."""
    training = HERE.parent / "iit_bench/assets/models/wings/training.json"
    for path, fields in (
        (folder / "bench/manifest.json", MANIFEST_FIELDS),
        (folder / "bench-lm-eval/manifest.json", EXPORT_FIELDS),
        (folder / "runs-csv/manifest.json", RUN_EXPORT_FIELDS),
        (folder / "runs/base/run.json", HEADERS | dict(RUN_FIELDS)),
        (training, TRAINING_FIELDS),
    ):
        there = set(json.loads(path.read_text(encoding="utf-8")))
        if different := sorted((there ^ set(fields)) - file_fields.NEWER_THAN_THE_SHIPPED_MODELS):
            raise ValueError(f"{path.name}: fields that are written and fields that are documented differ: {', '.join(different)}")


def page() -> str:
    """The content of docs/reference/formats.md. Takes some seconds: a benchmark is built and a model is run."""
    with tempfile.TemporaryDirectory(prefix="iit-bench-docs-") as scratch:
        folder = Path(scratch)
        samples(folder)
        check_fields(folder)
        return "\n".join(_parts(folder, {name: table(record) for name, record in tables()})).rstrip() + "\n"


def _parts(folder: Path, fields: Mapping[str, str]) -> Iterator[str]:
    of_runs, of_results, of_benchmarks = (written_version(one) for one in (RUN_FORMAT, RESULTS_FORMAT, BENCHMARK_FORMAT))
    yield f"""# File formats

Made by `docs/make_formats.py` from files that the commands wrote; do not edit. Times, versions, paths and hashes are replaced, numbers are
rounded, and long lists are cut where a "…" is.

Folders have a format and a version ({of_runs} for runs, {of_results} for their results, {of_benchmarks} for benchmarks, 1 or 2 for others).
Each JSON file is sealed: `seal` is the sha256 of its other fields as canonical JSON (keys sorted, no spaces, UTF-8), so that a changed
value is seen when the file is read. Run folders of earlier versions are read, marked as unsealed, and their figures are recomputed from
their predictions or items. Benchmarks of earlier versions are read. A folder of another version, or one that was changed after it was
written, is refused with one sentence. Tables are parquet, everything else is JSON, JSON lines or Markdown in UTF-8; nothing is pickled.
The columns of a table are the fields of its record, in order. Changing a field is changing the format
([Architecture](../../ARCHITECTURE.md)).
"""
    yield from _benchmark(folder, fields)
    yield from _run(folder, fields)
    yield from _suite(folder, fields)
    yield from _others(folder, fields)


def _benchmark(folder: Path, fields: Mapping[str, str]) -> Iterator[str]:
    notes = {
        "manifest.json": "what was built, from what; hashes",
        "README.md": "data set card",
        "questions/test-00000-of-00001.parquet": "one row per question",
        "dialogues/test-00000-of-00001.parquet": "one row per dialogue",
    }
    yield "## Benchmark folder\n"
    yield 'Written by `iit-bench build`; `datasets.load_dataset(DIR, "questions")` and `(DIR, "dialogues")` read it.\n'
    yield _tree(folder / "bench", notes)
    yield "### manifest.json\n"
    yield _json_sample(folder / "bench/manifest.json")
    yield fields["manifest.json"]
    yield "### questions\n\nA text question and a visual one:\n"
    yield _rows_sample(folder / "bench/questions/test-00000-of-00001.parquet", where="T")
    yield _rows_sample(folder / "bench/questions/test-00000-of-00001.parquet", where="V")
    yield fields["questions"]
    yield "### dialogues\n"
    yield _rows_sample(folder / "bench/dialogues/test-00000-of-00001.parquet", count=2)
    yield fields["dialogues"]


def _run(folder: Path, fields: Mapping[str, str]) -> Iterator[str]:
    notes = {
        "run.json": "what was run, and how; enough to repeat it",
        "responses.jsonl": "every answer, appended as it arrives",
        "predictions.parquet": "one row per scored turn",
        "prompts.parquet": "what the model read before each; not there where a server renders chats",
        "results.json": "figures",
        "errors.jsonl": "items without an answer",
    }
    yield "## Run folder\n\nWritten by `iit-bench eval`. results.json is written last, with the hash of predictions.parquet:"
    yield "a folder without it is not finished.\n"
    yield _tree(folder / "runs/base", notes)
    yield "### run.json\n"
    yield _json_sample(folder / "runs/base/run.json")
    yield fields["run.json"]
    yield "`model`:\n"
    yield fields["run.json: model"]
    yield f"### responses.jsonl\n\nLine 1 names the format (`{LOG_FORMAT}`, version {LOG_VERSION}). Every other line is one answer;"
    yield "`key` is the sha256 of all that determines it, `kind` is score or generate. `check` is the first 16 hexadecimal digits of"
    yield 'the sha256 of all bytes of the line before `,"check":`; lines of version 1 have none, and an answer that is moved from such a'
    yield 'line to another log has `"unchecked": true` there. While several processes work on the'
    yield "run, each has a log of its own, `responses.rank-N.jsonl`, whose first line has the identity of the run (`run`), and"
    yield "`responses.lock` holds their locks; it stays, empty.\n"
    yield _lines_sample(folder / "runs/base/responses.jsonl", 3)
    yield "With --batch-api a file `batches.jsonl` beside it holds what was sent to the provider, one event per line: uploaded, created,"
    yield "collected.\n"
    yield "Fields of kind score:\n"
    yield fields["responses: score"]
    yield "Fields of kind generate:\n"
    yield fields["responses: generate"]
    yield "### predictions.parquet\n"
    yield _rows_sample(folder / "runs/base/predictions.parquet")
    yield fields["predictions.parquet"]
    yield "### prompts.parquet\n\nNot there where chats are not rendered in the process that evaluates, nor in folders of earlier versions."
    yield ""
    yield _rows_sample(folder / "runs/base/prompts.parquet")
    yield fields["prompts.parquet"]
    yield "### results.json\n\nOf the model `random`, which runs every tier:\n"
    yield _json_sample(folder / "runs/random/results.json")
    yield fields["results.json"]
    for record in OF_RESULTS:
        yield f"#### {record.__name__}\n\n{fields[record.__name__]}"
    yield "### attention.parquet\n\nWritten by `iit-bench attention`, into the run's folder or elsewhere:\n"
    yield _rows_sample(folder / "runs/observed/attention.parquet")
    yield fields["attention.parquet"]
    yield f"What was observed is JSON in the file's metadata, under `{ATTENTION_FORMAT}`:\n"
    yield fields["attention.parquet: metadata"]
    yield "### errors.jsonl\n\nLine 1 names the format, and has the sha256 of the lines after it. Of a run whose system prompt is longer"
    yield "than the model's context:\n"
    yield _lines_sample(folder / "runs/errors/errors.jsonl", 2)
    yield fields["errors.jsonl"]


def _suite(folder: Path, fields: Mapping[str, str]) -> Iterator[str]:
    notes = {
        "run.json": "as above",
        "responses.jsonl": "as above",
        "items.parquet": "one row per item and metric",
        "results.json": "figures per task",
        "errors.jsonl": "items without an answer",
    }
    yield "## Run folder of the suites text and vqa\n"
    yield "lm-eval's own files are in `lm_eval/`, VLMEvalKit's in `vlmeval/` and its messages in `vlmeval.log`, unchanged.\n"
    yield _tree(folder / "runs/text", notes)
    yield "run.json has the fields of a run folder without those of a benchmark, and these:\n"
    yield fields["suite run.json"]
    yield "### results.json of a suite\n"
    yield _json_sample(folder / "runs/text/results.json")
    yield fields["suite results.json"]
    yield f"#### TaskResult\n\n{fields['TaskResult']}"
    yield "### items.parquet\n"
    yield _rows_sample(folder / "runs/text/items.parquet")
    yield fields["items.parquet"]
    yield "## Folder of --suite all\n\nRun folders `iit/`, `text/` and `vqa/`, and `report/index.html`; nothing of its own.\n"


def _others(folder: Path, fields: Mapping[str, str]) -> Iterator[str]:
    yield "## Export folder\n\nWritten by `iit-bench export`: the other tool's files, a README.md on how to run them, and a manifest.\n"
    yield _tree(folder / "bench-lm-eval", {"manifest.json": "what was exported", "SHA256": "the images, each once"})
    yield "### manifest.json of an export\n"
    yield _json_sample(folder / "bench-lm-eval/manifest.json")
    yield fields["export manifest.json"]
    yield "### manifest.json of exported runs\n"
    yield _json_sample(folder / "runs-csv/manifest.json")
    yield fields["run export manifest.json"]
    yield "### figures.csv\n\nOf `--to csv`: a line per figure, these columns.\n"
    yield fields["figures.csv"]
    yield "## Data root\n\nWritten by `iit-bench fetch`: `<Hub id>/…` as on the Hub, `LMUData/NAME.tsv`, and\n\n### fetched.json\n"
    yield _json_sample(folder / "data/fetched.json")
    yield "`sets` by Hub id or name of a table:\n"
    yield fields["FetchedSet"]
    yield "`files` by path in the data root:\n"
    yield fields["FetchedFile"]
    yield "## Model folder\n\nWritten by `iit-bench train`: what `save_pretrained` writes, and\n\n### training.json\n"
    yield _json_sample(HERE.parent / "iit_bench/assets/models/wings/training.json")
    yield fields["training.json"]


if __name__ == "__main__":
    if missing := undocumented():
        print("without documentation:", ", ".join(missing), file=sys.stderr)
    PAGE.write_text(page(), encoding="utf-8")
