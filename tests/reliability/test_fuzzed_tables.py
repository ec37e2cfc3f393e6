"""Parquet tables, logs of inspect, lines of batches and chat templates, changed at random: read, or refused in one sentence.

As `test_fuzzed.py`: some 20 changes a border; `make torture` makes TORTURE times as many. Chat templates are put together of pieces none of
which takes long or writes much.
"""

from __future__ import annotations

import io
import json
import math
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from evaluators.iit.columns import Turns
from evaluators.iit.results import summarise
from evaluators.runs.foreign import inspect_logs, lighteval_files
from evaluators.runs.reading import load_run, read_runs
from iit_bench.errors import ItemError, UserError
from iit_bench.models import template_trial
from iit_bench.models.contract import GenerateResult
from iit_bench.models.openai import encoding
from iit_bench.models.openai.batches import BatchJob
from iit_bench.models.openai.client import Client
from iit_bench.models.openai.ledger import Ledger
from iit_bench.server_options import ServerOptions
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.storage.format import BENCHMARK_FORMAT, sha256_file
from iit_bench.storage.runs import save_results
from iit_bench.storage.tables import read_columns, read_table, table_bytes
from iit_bench.types import OUTCOMES, Prediction, Question
from tests.reliability.borders import CHAT, LIGHTEVAL, MANIFEST, has_possible_figures, lines, sealed
from tests.reliability.tally import Tally
from tests.reliability.test_fuzzed import every, is_logged, new_text, new_value
from tests.storage.test_run_files import HEADER
from tests.storage.test_table_values import TURN, another, written

Record = Callable[[str, object], None]
Rows = Sequence[Mapping[str, Any]]
pytestmark = pytest.mark.slow


def new_parquet(data: st.DataObject, rows: Rows, valid: bytes) -> bytes:
    """A table with parts of its rows, or a whole column, replaced; or with some of its bytes."""
    table = pq.read_table(io.BytesIO(valid))
    way = data.draw(st.sampled_from(("rows", "rows", "column", "bytes")))
    try:
        if way == "rows":
            table = pa.Table.from_pylist(new_value(data, list(rows)))
        elif way == "column":
            place = data.draw(st.integers(0, table.num_columns - 1))
            values = [new_value(data, [row[table.column_names[place]]])[:1] or [None] for row in rows]
            table = table.set_column(place, table.column_names[place], pa.array([one for (one,) in values]))
        sink = io.BytesIO()
        pq.write_table(table, sink)
        if way != "bytes":
            return sink.getvalue()
    except (pa.ArrowException, ValueError, TypeError, OverflowError, KeyError, AttributeError):  # what parquet cannot hold
        pass
    place = data.draw(st.integers(0, len(valid) - 1))
    return valid[:place] + bytes([valid[place] ^ data.draw(st.integers(1, 255))]) + valid[place + 1 :]


# ---------------------------------------------------------------- tables of ours


def is_possible(rows: Sequence[Prediction]) -> bool:
    """Whether predictions can be true: indices are of choices, log-probabilities are none above 0, words are known."""
    return all(
        0 <= one.answer < len(one.choices)
        and all(-1 <= chosen < len(one.choices) for chosen in (one.chosen, one.chosen_norm, one.chosen_bytes))
        and len(one.logprobs) in (0, len(one.choices))
        and all(math.isfinite(value) and value < 0.1 for value in one.logprobs)
        and one.outcome in OUTCOMES
        and (one.outcome == "correct") == (one.chosen == one.answer)
        and set(one.tier) <= set("TV")
        and 0 <= one.position < len(one.tier)
        for one in rows
    )


def test_changed_predictions_are_read_or_refused(tmp_path: Path, record_property: Record) -> None:
    tally, records = Tally("fuzzed: predictions", record_property), [TURN, another(TURN)]
    valid = table_bytes(Prediction, records)
    rows, path = pq.read_table(io.BytesIO(valid)).to_pylist(), tmp_path / "run" / "predictions.parquet"
    written(path.parent, records)

    def write(table: bytes) -> None:
        """A table, and the results that a run with it would have; where there can be none, those of the unchanged one."""
        path.write_bytes(table)
        try:
            results = summarise(read_table(Prediction, [path]), {}, True, HEADER["benchmark"]["tiers"])
        except (UserError, ValueError):
            results = summarise(records, {}, True, HEADER["benchmark"]["tiers"])
        save_results(path.parent, sha256_file(path), results, [])

    def read() -> list[Prediction]:
        found = read_table(Prediction, [path])
        read_columns(Prediction, path, list(vars(TURN)))
        Turns.of_run(load_run(path.parent, "iit"))
        return found

    def tried(data: st.DataObject) -> None:
        write(new_parquet(data, rows, valid))
        tally.tried(read, is_possible)

    write(valid)
    assert read() == records
    every(40, tried)


def is_answerable(question: Question) -> bool:
    """Whether the answer of a question is one of its choices."""
    return question.choices[question.answer] == question.answer_text


def test_changed_questions_are_read_or_refused(bench: Benchmark, tmp_path: Path, record_property: Record) -> None:
    tally, folder = Tally("fuzzed: tables of questions", record_property), tmp_path / "bench"
    shutil.copytree(bench.path, folder)
    name = "questions/test-00000-of-00001.parquet"
    some = [one for one in bench.questions.values() if one.modality == "T"][:3]
    valid = table_bytes(Question, some)
    rows = pq.read_table(io.BytesIO(valid)).to_pylist()
    empty = folder / "dialogues" / "test-00000-of-00001.parquet"
    pq.write_table(pq.read_table(empty).slice(0, 0), empty)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))

    def tried(data: st.DataObject) -> None:
        (folder / name).write_bytes(new_parquet(data, rows, valid))
        files = {one: sha256_file(folder / one) for one in manifest["files"]}
        (folder / "manifest.json").write_text(sealed(MANIFEST, json.dumps({**manifest, "files": files})), encoding="utf-8")
        tally.tried(lambda: load_benchmark(folder), lambda found: all(map(is_answerable, found.questions.values())))

    assert manifest["format"] == BENCHMARK_FORMAT
    (folder / name).write_bytes(valid)
    manifest["files"] = {one: sha256_file(folder / one) for one in manifest["files"]}
    (folder / "manifest.json").write_text(sealed(MANIFEST, json.dumps(manifest)), encoding="utf-8")
    assert len(load_benchmark(folder).questions) == len(some)
    every(20, tried)


# ---------------------------------------------------------------- files of other tools

TASK, DATE = "arc:easy|0", "2026-01-02T03-04-05.678901"
DETAILS = [
    {
        "doc": {
            "query": f"Which {n}?",
            "choices": ["x", "y"],
            "gold_index": 1,
            "id": str(n),
            "generation_size": 5,
            "stop_sequences": ["\n"],
        },
        "metric": {"acc": float(n)},
        "model_response": {"input": f"Which {n}?", "text": [], "logprobs": [-1.0, -2.0 + 2 * n]},
    }
    for n in (0, 1)
]


def test_changed_details_of_lighteval_are_read_or_refused(tmp_path: Path, record_property: Record) -> None:
    tally = Tally("fuzzed: details of lighteval", record_property)
    results = tmp_path / "results" / "m" / f"results_{DATE}.json"
    details = tmp_path / "details" / "m" / DATE / f"details_{TASK}_{DATE}.parquet"
    for path in (results, details):
        path.parent.mkdir(parents=True)
    results.write_text(json.dumps(LIGHTEVAL))
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(DETAILS), sink)

    def read() -> Any:
        runs = read_runs(results)
        lighteval_files.recorded(results, TASK)
        return runs

    def tried(data: st.DataObject) -> None:
        details.write_bytes(new_parquet(data, DETAILS, sink.getvalue()))
        tally.tried(read, has_possible_figures)

    details.write_bytes(sink.getvalue())
    assert len(read()[0].items) == 2
    every(40, tried)


def test_a_changed_log_of_inspect_is_read_or_refused(tmp_path: Path, record_property: Record) -> None:
    pytest.importorskip("inspect_ai")
    from tests.evaluators.runs.foreign.test_inspect_logs import run_inspect

    tally, path = Tally("fuzzed: logs of inspect", record_property), tmp_path / "a.eval"
    log = run_inspect(tmp_path / "log")
    with zipfile.ZipFile(log) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    own = sorted(name for name in entries if name.endswith(".json"))

    def read() -> Any:
        runs = read_runs(path)
        inspect_logs.recorded(path)
        return runs

    def tried(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(own))
        text = entries[name].decode()
        is_text = data.draw(st.integers(0, 3)) == 0
        new = new_text(data, text) if is_text else json.dumps(new_value(data, json.loads(text))).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for entry, content in (entries | {name: new}).items():
                archive.writestr(entry, content)
        tally.tried(read, has_possible_figures)

    shutil.copy(log, path)
    assert read()[0].items
    every(20, tried)


# ---------------------------------------------------------------- batches

BATCH_LINES = [
    {"id": "1", "custom_id": "a", "response": {"status_code": 200, "body": CHAT}, "error": None},
    {"id": "2", "custom_id": "b", "response": {"status_code": 400, "body": {"error": {"code": "x", "message": "too long"}}}},
]


def test_changed_lines_of_batches_are_answers_or_the_items_errors(tmp_path: Path, record_property: Record) -> None:
    """Whatever a provider's file of results holds, a request is answered, refused or asked again, and the ledger stays readable."""
    tally, number = Tally("fuzzed: files of batches", record_property), iter(range(10**9))

    def collected(content: bytes) -> tuple[dict[str, GenerateResult], dict[str, ItemError]]:
        client, answers = Client(ServerOptions(base_url="http://127.0.0.1:9/v1")), {}
        client.download = lambda path: content  # type: ignore[method-assign]
        path = tmp_path / f"{next(number)}.jsonl"
        with Ledger(path) as ledger:
            ledger.uploaded(client.url, "f", "/chat/completions", ["a", "b"])
            ledger.created("f", "batch")
            bodies = dict.fromkeys("ab", lambda: ("", {}))
            job: Any = BatchJob(client, ledger, bodies, lambda key, body: encoding.read_chat(body), answers.update)
            job._collect("f", {"status": "completed", "output_file_id": "o", "errors": []})
        with Ledger(path) as ledger:
            assert {key: str(one) for key, one in ledger.errors.items()} == {key: str(one) for key, one in job.failed.items()}
        path.unlink()
        return answers, job.failed

    def is_sound(found: tuple[dict[str, GenerateResult], dict[str, ItemError]]) -> bool:
        answers, failed = found
        return {*answers, *failed} <= {"a", "b"} and not set(answers) & set(failed) and all(map(is_logged, answers.values()))

    def tried(data: st.DataObject) -> None:
        text = lines(*BATCH_LINES)
        new = new_text(data, text) if data.draw(st.integers(0, 2)) == 0 else lines(*new_value(data, BATCH_LINES)).encode()
        tally.tried(lambda: collected(new), is_sound)

    answers, failed = collected(lines(*BATCH_LINES).encode())
    assert set(answers) == {"a"} and set(failed) == {"b"}
    every(20, tried)


# ---------------------------------------------------------------- chat templates

PIECES = ("{% for m in messages %}", "{% endfor %}", "{% if add_generation_prompt %}", "{% else %}", "{% endif %}", "{{ m.content }}")
PIECES += ("{{ messages[0]['content'] | trim }}", "{{ m['role'] + ': ' }}", "{{ bos_token }}", "{{ messages[9].content }}", "{{ x.y.z }}")
PIECES += ("{%- set s = m.content -%}", "{{ s }}", "{{ 1 // 0 }}", "{{ raise_exception('no') }}", "{% generation %}", "{% endgeneration %}")
PIECES += ("{{ m | tojson }}", "{% break %}", "{{", "}}", "{%", "%}", "{# ", " #}", "{{ strftime_now('%Y') }}", "<|user|>", "\n", "²")
PIECES += ("{% macro a(b) %}{{ b }}{% endmacro %}", "{{ a(1) }}", "{{ loop.index }}", "{% include 'x' %}", "{% extends 'x' %}", "\x00")


def test_a_chat_template_of_any_pieces_is_judged(record_property: Record) -> None:
    """It is refused with a reason that is one line; what is let through renders a chat, in transformers too, or says why it does not."""
    from transformers.utils.chat_template_utils import render_jinja_template

    tally, chat = Tally("fuzzed: chat templates", record_property), [{"role": "user", "content": "Which?"}]
    system = [{"role": "system", "content": "Be brief."}, *chat, {"role": "assistant", "content": "x"}, *chat]

    def judged(template: str) -> str:
        asked = {"template": template, "arguments": {"bos_token": "<s>"}, "chats": [chat, system], "question": "Which?"}
        found = template_trial.judge(asked | {"characters": 10_000})
        if found["wrong"]:
            raise UserError(found["wrong"])
        texts = []
        for one in (chat, system):
            try:
                (text,), _ = render_jinja_template([one], chat_template=template, add_generation_prompt=True, bos_token="<s>")
            except Exception as error:  # noqa: BLE001 - of a chat that the template refuses, or that its expressions do not fit
                text = str(error)
            texts.append(text)
        return "".join(texts)

    def tried(data: st.DataObject) -> None:
        template = "".join(data.draw(st.lists(st.sampled_from(PIECES), max_size=8)))
        tally.tried(lambda: judged(template), lambda text: bool(text.strip()))

    assert "Which?" in judged("{% for m in messages %}{{ m.content }}{% endfor %}")
    every(60, tried)


# ---------------------------------------------------------------- what was found


def test_an_error_of_parquet_is_quoted_on_one_line(tmp_path: Path) -> None:
    path, valid = tmp_path / "t.parquet", table_bytes(Prediction, [TURN])
    for place in range(4, 100):
        path.write_bytes(valid[:place] + bytes([valid[place] ^ 255]) + valid[place + 1 :])
        try:
            read_table(Prediction, [path])
        except UserError as error:
            assert "\n" not in str(error)


def test_a_template_that_becomes_no_python_is_no_valid_template() -> None:
    found = template_trial.judge({"template": "{% break %}", "arguments": {}, "chats": [[]], "characters": 100})
    assert found == {"wrong": "is no valid template ('break' outside loop)", "written": False}


def test_stops_of_lighteval_that_are_no_list_of_texts_are_refused(tmp_path: Path) -> None:
    results = tmp_path / "results" / "m" / f"results_{DATE}.json"
    details = tmp_path / "details" / "m" / DATE / f"details_{TASK}_{DATE}.parquet"
    for path in (results, details):
        path.parent.mkdir(parents=True)
    results.write_text(json.dumps(LIGHTEVAL))
    pq.write_table(pa.Table.from_pylist([row | {"doc": row["doc"] | {"stop_sequences": True}} for row in DETAILS]), details)
    with pytest.raises(UserError, match="stop_sequences 'True' is no list of texts; run lighteval again"):
        lighteval_files.recorded(results, TASK)
