"""Reported faults of options and run.json: one test per fault, each with what was wrong and what is right."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evaluators.runs.header import bookkeeping, check_same_run, load_options
from evaluators.runs.named_values import parse_named_values
from evaluators.runs.options import RunOptions
from evaluators.runs.session import as_begun
from iit_bench.cli import main
from iit_bench.errors import UserError
from iit_bench.storage.runs import save_run_header


def options(**more) -> RunOptions:
    return RunOptions(**({"model": "m", "out": Path("o"), "bench": Path("b")} | more))


# ---------------------------------------------------------------- numbers out of range


@pytest.mark.parametrize(
    ("name", "value", "least"), [("max_new_tokens", 0, 1), ("max_new_tokens", -3, 1), ("reasoning_tokens", -1, 0), ("batch_size", 0, 1)]
)
def test_a_number_out_of_range_is_refused(name, value, least, capsys):
    """`--max-new-tokens 0` ran, and every reply was empty; it is refused in a sentence, from Python and from the command line."""
    flag = "--" + name.replace("_", "-")
    with pytest.raises(UserError, match=f"{flag} {value} is too low; give {least} or more"):
        options(**{name: value})
    assert main(["eval", "--model", "m", "--bench", "b", "--out", "o", f"{flag}={value}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and flag in error and str(least) in error


# ---------------------------------------------------------------- NAME=VALUE


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("enable_thinking=false", {"enable_thinking": False}),
        ("enable_thinking=False, n = 3 ,x=1.5,text=a b,none=None,empty=", {
            "enable_thinking": False, "n": 3, "x": 1.5, "text": "a b", "none": None, "empty": "",
        }),
        ('{"enable_thinking": false, "list": [1, "a,b=c"]}', {"enable_thinking": False, "list": [1, "a,b=c"]}),
        ("date_string=26 Jul 2024", {"date_string": "26 Jul 2024"}),
    ],
)  # fmt: skip
def test_named_values_are_read_from_pairs_or_json(text, values):
    """Template arguments and processor settings could not be given at all; both spellings of equal values are equal."""
    assert parse_named_values(text, "--x") == values
    assert options(chat_template_kwargs=text).model_options.chat_template_kwargs == values
    assert options(processor_kwargs=text).model_options.processor_kwargs == values
    assert options(processor_kwargs=values).model_options.processor_kwargs == values  # from Python


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("enable_thinking", "not of the form NAME=VALUE"),
        ("=3", "not of the form NAME=VALUE"),
        ("a=1,a=2", "a given twice"),
        ('{"a": 1, "a": 2}', "a given twice"),
        ("{a: 1}", "is no JSON object"),
        ('{"a": NaN}', "NaN is no number"),
    ],
)
def test_named_values_of_another_form_are_refused(text, sentence):
    """A value that cannot be read is one sentence that names the option, before a model is loaded."""
    with pytest.raises(UserError, match=f"--chat-template-kwargs .*{re.escape(sentence)}"):
        options(chat_template_kwargs=text)


# ---------------------------------------------------------------- the date


@pytest.mark.parametrize("day", ["2026-02-30", "29.11.2026", "tomorrow", ""])
def test_a_date_that_is_none_is_refused(day):
    """Only a day of the calendar can be told to a template."""
    with pytest.raises(UserError, match=r"--date .* is no day .*YYYY-MM-DD"):
        options(date=day)


def test_a_resumed_run_keeps_the_date_of_its_first_session(tmp_path):
    """A template that asks the clock gave other prompts in a run that was resumed the next day; it is told the run's first day."""
    today = datetime.now(UTC).date().isoformat()
    assert as_begun(options(out=tmp_path / "new")).date in (today, datetime.now(UTC).date().isoformat())
    run = {"suite": "iit", "date": "2020-02-29", **bookkeeping(options(out=tmp_path))}
    save_run_header(tmp_path, run)
    assert as_begun(options(out=tmp_path)).date == "2020-02-29"
    assert as_begun(options(out=tmp_path, date="2021-01-01")).date == "2021-01-01"
    assert as_begun(options(out=tmp_path, fresh=True)).date >= today
    assert load_options(tmp_path, out=tmp_path / "again").date == "2020-02-29"
    assert as_begun(options(out=tmp_path.parent), ("none", tmp_path.name)).date == "2020-02-29"  # a folder of --suite all


def test_a_run_of_before_is_repeated_with_the_day_it_started(tmp_path):
    """run.json of earlier versions does not record the date: its templates read the clock on the day it started."""
    run = {"suite": "iit", **bookkeeping(options())} | {"started": "2024-05-06T07:08:09+00:00"}
    save_run_header(tmp_path, run)
    assert load_options(tmp_path, out=tmp_path).date == as_begun(options(out=tmp_path)).date == "2024-05-06"


def test_runs_with_another_date_arguments_or_budget_are_not_resumed(tmp_path):
    """The date, template arguments, reasoning budget and image processing were not compared on resuming; each difference is named."""
    run = {"suite": "text", "model": {"settings": {"date": "2026-11-29"}}, "reasoning_tokens": 0, "processor_kwargs": {}}
    before = {"suite": "text", "model": {"settings": {"date": "2026-11-29"}}}  # of an earlier version, which had no budget
    check_same_run(tmp_path, before, run)
    others = [
        run | {"model": {"settings": {"date": "2026-11-30"}}},
        run | {"model": {"settings": {"date": "2026-11-29", "chat_template_kwargs": {"enable_thinking": False}}}},
        run | {"reasoning_tokens": 4096},
        run | {"processor_kwargs": {"max_pixels": 9}},
        run | {"model": {"settings": {"date": "2026-11-29", "image_processing": {"backend": "pil"}}}},
    ]
    for other, named in zip(others, ("2026-11-30", "enable_thinking", "reasoning_tokens", "max_pixels", "image_processing"), strict=True):
        with pytest.raises(UserError, match=f"holds another run .*{named}"):
            check_same_run(tmp_path, run, other)
