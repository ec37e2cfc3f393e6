"""What comes from outside, changed at random: read, or refused in one sentence, and what is read can be true (docs/reliability.md).

Here some 20 changes a border; `make torture` makes TORTURE times as many.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluators.iit.extraction import read_reply
from iit_bench import http
from iit_bench.asking import LETTERS
from iit_bench.engine.lines import entry_line
from iit_bench.errors import UserError
from iit_bench.models.contract import GenerateResult, ScoreResult
from iit_bench.models.openai import encoding, scoring
from iit_bench.models.openai.client import Client, UnavailableError
from iit_bench.server_options import ServerOptions
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from tests.reliability.borders import (
    BORDERS,
    CHAT,
    CHAT_SCORES,
    DATE,
    ECHO,
    GENERATE,
    LM_EVAL,
    LMMS,
    MANIFEST,
    PAIRS,
    PARTS,
    TEXT,
    Border,
    lines,
    lm_eval_sample,
    sealed,
)
from tests.reliability.damages import changed, places
from tests.reliability.tally import Tally

Record = Callable[[str, object], None]
pytestmark = pytest.mark.slow
TIMES = int(os.environ.get("TORTURE", "1"))
OTHER: tuple[Any, ...] = (None, True, -1, 0, 10**30, 10**400, 0.5, 1e300, float("nan"), float("inf"), "", "x", "²", "\ud800", "A\x00")
OTHER += ([], {}, [None], {"x": []}, [[[[{}]]]], {"": 1}, "-inf", "[0, 1]", "../x")
PIECES = ("²", "\x00", '"', "'", "\t", "\n", "\r", ",", ":", "[", "]", "{", "}", "- ", "#", "&a ", "*a", "!!set ", "NaN", "1e999", "-1")
PIECES += ("2001-99-99", "2001-01-01", "9" * 400, "\ufeff", "﷽", "true", "null", "[" * 2000, "()", "__import__('x')")


def every(times: int, tried: Callable[[st.DataObject], None]) -> None:
    """Call with random data; the same data in each run of continuous integration."""
    quiet = settings(
        max_examples=times * TIMES, deadline=None, derandomize=TIMES == 1, database=None, suppress_health_check=list(HealthCheck)
    )
    quiet(given(st.data())(tried))()


def new_text(data: st.DataObject, text: str) -> bytes:
    """A file's text with one to three places cut out or written over; sometimes with bytes that are no text."""
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + data.draw(st.sampled_from(("", *PIECES))) + text[end:]
    return text.encode() + data.draw(st.sampled_from((b"", b"", b"", b"\xff", b"\xc3")))


def new_value(data: st.DataObject, value: Any) -> Any:
    """A JSON value with one or two of its parts replaced or left out."""
    for _ in range(data.draw(st.integers(1, 2))):
        if where := list(places(value)):
            value = changed(value, data.draw(st.sampled_from(where)), data.draw(st.sampled_from(OTHER)), data.draw(st.integers(0, 4)) == 0)
    return value


def new_file(data: st.DataObject, name: str, text: str) -> bytes:
    """A changed file: as text, or a part of the JSON or YAML in it."""
    if name.endswith((".csv", ".tsv")) or data.draw(st.booleans()):
        return new_text(data, text)
    if name.endswith(".yaml"):
        return yaml.safe_dump(new_value(data, yaml.safe_load(text)), allow_unicode=False).encode("utf-8", "replace")
    if name.endswith(".json"):
        return json.dumps(new_value(data, json.loads(text))).encode()
    return "".join(json.dumps(one) + "\n" for one in new_value(data, [json.loads(line) for line in text.splitlines()])).encode()


def write(folder: Path, border: Border) -> None:
    """The files of a border as they are."""
    for name, text in border.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(sealed(border.seal, text) if border.seal else text, encoding="utf-8")


@pytest.mark.parametrize("name", BORDERS)
def test_a_sample_is_read(name: str, tmp_path: Path) -> None:
    write(tmp_path, BORDERS[name])
    found = BORDERS[name].read(tmp_path)
    assert found and BORDERS[name].is_sound(found)


@pytest.mark.parametrize("name", BORDERS)
def test_a_changed_file_is_read_or_refused(name: str, tmp_path: Path, record_property: Record) -> None:
    tally, border = Tally(f"fuzzed: {name}", record_property), BORDERS[name]
    write(tmp_path, border)

    def tried(data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(sorted(border.files)))
        new = new_file(data, file, border.files[file])
        if border.seal:
            new = sealed(border.seal, new.decode("utf-8", "replace")).encode("utf-8", "replace")
        (tmp_path / file).write_bytes(new)
        try:
            tally.tried(lambda: border.read(tmp_path), border.is_sound)
        finally:
            write(tmp_path, border)

    every(20, tried)


def test_a_changed_manifest_with_a_right_seal_is_read_or_refused(bench: Benchmark, tmp_path: Path, record_property: Record) -> None:
    tally, folder = Tally("fuzzed: manifests", record_property), tmp_path / "bench"
    shutil.copytree(bench.path, folder)
    text = (folder / "manifest.json").read_text(encoding="utf-8")

    def tried(data: st.DataObject) -> None:
        new = sealed(MANIFEST, json.dumps(new_value(data, json.loads(text)))).encode("utf-8", "replace")
        (folder / "manifest.json").write_bytes(new)
        tally.tried(lambda: load_benchmark(folder), lambda found: found.questions == bench.questions)

    every(8, tried)


FOUND: dict[str, tuple[str, dict[str, str]]] = {  # what was an internal error: border, and files that take the place of its own
    "a number beyond floating point": (
        "files of lm-eval",
        {f"results_{DATE}.json": json.dumps({**LM_EVAL, "total_evaluation_time_seconds": 10**400})},
    ),
    "a log-likelihood beyond floating point": (
        "files of lm-eval",
        {f"samples_a_{DATE}.jsonl": lines({**lm_eval_sample(0), "resps": [[[10**400, "False"]], [["-0.5", "True"]]]})},
    ),
    "a number of steps beyond floating point": ("recipes", {"recipe.yaml": f"kind: vlm\noptim: {{steps: {10**400}}}"}),
    "a share beyond floating point": ("recipes", {"recipe.yaml": f"kind: vlm\noptim: {{warmup: {10**400}}}"}),
    "a list of what was fetched, nested deeply": ("fetched.json", {"fetched.json": "[" * 100_000}),
    "a card nested deeply": ("training cards", {"training.json": "[" * 100_000}),
    "JSON nested deeply": ("files of lighteval", {f"results_{DATE}.json": "[" * 100_000}),
    "a grid that is no UTF-8": ("grids", {"grid.yaml": "title: \udcc3"}),
    "a grid with a date that there is not": ("grids", {"grid.yaml": "title: 2001-99-99"}),
    "a recipe with a date that there is not": ("recipes", {"recipe.yaml": "kind: vlm\nseed: 2001-99-99"}),
    "a recipe with a date": ("recipes", {"recipe.yaml": "kind: vlm\nseed: 2001-01-01"}),
    "a recipe with keys of two kinds": ("recipes", {"recipe.yaml": "kind: vlm\n1: 2"}),
    "a recipe that holds itself": ("recipes", {"recipe.yaml": "&a\nkind: vlm\nseed: *a"}),
    "a recipe with half a character": ("recipes", {"recipe.yaml": 'kind: vlm\nseed: "\\ud800"'}),
}


@pytest.mark.parametrize("fault", FOUND)
def test_what_was_an_internal_error_is_refused(fault: str, tmp_path: Path) -> None:
    name, files = FOUND[fault]
    write(tmp_path, BORDERS[name])
    for file, text in files.items():
        (tmp_path / file).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as refused:
        BORDERS[name].read(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_score_beyond_floating_point_is_no_score(tmp_path: Path) -> None:
    border = BORDERS["files of lmms-eval"]
    write(tmp_path, border)
    (tmp_path / "1_results.json").write_text(json.dumps({**LMMS, "results": {"a": {"acc,none": 10**400}}}))
    (run,) = border.read(tmp_path)
    (figure,) = run.results.tasks[0].scores.values()
    assert figure.value is None and "gave no number" in figure.note


def test_any_reply_is_a_choice_or_none(record_property: Record) -> None:
    tally = Tally("fuzzed: replies to choices", record_property)
    words = (
        "A",
        "b)",
        "(C)",
        "Paris",
        "new york",
        "3.5",
        "the answer is",
        "not",
        "\n",
        "答案：",
        "\\boxed{",
        "}",
        "**",
        "Option",
        "¬",
        "İ",
        "ß",
        "²",
    )
    pieces = st.one_of(st.sampled_from((*words, *PIECES)), st.text(max_size=5))

    def tried(data: st.DataObject) -> None:
        choices = data.draw(st.lists(st.one_of(st.sampled_from(words), st.text(max_size=8)), min_size=2, max_size=6, unique=True))
        reply = data.draw(st.sampled_from(("", " "))).join(data.draw(st.lists(pieces, max_size=12)))
        style = data.draw(st.sampled_from(("letters", "text")))
        tally.tried(lambda: read_reply(reply, choices, style), lambda found: -1 <= found.choice < min(len(choices), len(LETTERS)))

    every(60, tried)


REPLIES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "chat": (CHAT, encoding.read_chat),
    "parts": (PARTS, encoding.read_chat),
    "text": (TEXT, encoding.read_text),
    "completions": (ECHO, scoring.completions_request("m", PAIRS)[2]),
    "generate": (GENERATE, scoring.generate_request("m", PAIRS)[2]),
    "chat scores": (CHAT_SCORES, lambda reply: scoring._read_chat_scores(reply, [3, 4])),
    "chat scores at the start": (CHAT_SCORES, lambda reply: scoring._read_chat_scores(reply, None)),
    "chat scores of an older server": (
        {"prompt_logprobs": CHAT_SCORES["prompt_logprobs"]},
        lambda reply: scoring._read_chat_scores(reply, [3, 4]),
    ),
}


def is_logged(found: Any) -> bool:
    """Whether the log takes each result: sums of log-probabilities that are not finite become the item's error before."""
    for result in found if isinstance(found, list) else [found]:
        assert isinstance(result, GenerateResult | ScoreResult)
        finite = isinstance(result, GenerateResult) or all(map(math.isfinite, result.logprobs))
        if finite and json.loads(entry_line("k", result))["key"] != "k":
            return False
    return True


def test_a_changed_reply_of_a_server_is_read_or_refused(record_property: Record) -> None:
    tally = Tally("fuzzed: replies of servers", record_property)
    client = Client(ServerOptions(base_url="http://127.0.0.1:9/v1"))

    def tried(data: st.DataObject) -> None:
        valid, read = REPLIES[data.draw(st.sampled_from(sorted(REPLIES)))]
        body = new_text(data, json.dumps(valid)) if data.draw(st.integers(0, 3)) == 0 else json.dumps(new_value(data, valid)).encode()
        tally.tried(lambda: client._read_reply(http.Reply(200, "OK", {}, body), read), is_logged, UnavailableError)

    for valid, read in REPLIES.values():
        assert is_logged(client._read_reply(http.Reply(200, "OK", {}, json.dumps(valid).encode()), read))
    every(100, tried)
