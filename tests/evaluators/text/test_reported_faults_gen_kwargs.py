"""Reported faults of --gen-kwargs: one test per fault."""

from __future__ import annotations

import json

import pytest

from evaluators.text.evaluate import effective_gen_kwargs, evaluate_text, gen_kwargs_of
from iit_bench.errors import UserError
from iit_bench.storage.runs import load_run


@pytest.mark.slow
def test_a_temperature_samples_as_its_help_promises(options, run_with, model, tmp_path):
    """`--gen-kwargs temperature=0.7` stayed greedy and was recorded as sampled; it samples, and equals the run that says do_sample=true."""
    given = {"greedy": "", "short": "temperature=0.7", "long": "temperature=0.7,do_sample=true", "zero": "temperature=0"}
    for name, text in given.items():
        run_with(model, options("gsm8k", limit=2, gen_kwargs=text, out=tmp_path / name))
    replies = {name: [item.reply for item in load_run(tmp_path / name).items] for name in given}
    keys = {name: {json.loads(line).get("key") for line in (tmp_path / name / "responses.jsonl").open()} for name in given}
    assert replies["short"] == replies["long"] != replies["greedy"] == replies["zero"]
    assert keys["short"] == keys["long"] != keys["greedy"] == keys["zero"]
    assert load_run(tmp_path / "short").run["gen_kwargs"] == "temperature=0.7,do_sample=true"
    assert load_run(tmp_path / "short").run["arguments"]["gen_kwargs"] == "temperature=0.7"


@pytest.mark.parametrize(
    ("text", "effective"),
    [
        ("", ""),
        ("temperature=0.7", "temperature=0.7,do_sample=true"),
        ("top_p=0.9,max_gen_toks=4", "top_p=0.9,max_gen_toks=4,do_sample=true"),
        ("temperature=0.0", "temperature=0.0"),
        ("do_sample=True,temperature=0.7", "do_sample=True,temperature=0.7"),
        ("max_gen_toks=4", "max_gen_toks=4"),
    ],
)
def test_settings_of_sampling_imply_sampling(options, text, effective):
    """What is done is what is recorded: only settings that greedy replies do not use add do_sample."""
    assert effective_gen_kwargs(options("gsm8k", gen_kwargs=text)) == effective
    assert bool((gen_kwargs_of(options("gsm8k", gen_kwargs=text)) or {}).get("do_sample")) == ("do_sample" in effective)


@pytest.mark.parametrize(("name", "value"), [("temperature", "hot"), ("max_gen_toks", "many"), ("max_new_tokens", "1.5x")])
def test_a_value_that_is_no_number_is_refused_by_the_options_name(options, name, value):
    """The sentence was lm-eval's alone ("could not convert string to float: 'hot'"); it names --gen-kwargs and the setting."""
    with pytest.raises(UserError, match=rf"--gen-kwargs {name}={value} cannot be used: .*'{value}'; give {name} another value"):
        evaluate_text(options("gsm8k", gen_kwargs=f"{name}={value}"), progress=False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("temperature=0.7,do_sample=false", "asks for temperature and for greedy replies"),
        ("top_k=3,do_sample=0", "asks for top_k and for greedy replies"),
        ("temperature=0.7,temperature=0.8", "gives a name twice"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options, text, sentence):
    """A setting that has no effect, or one of two equal names, was taken in silence."""
    with pytest.raises(UserError, match=sentence):
        gen_kwargs_of(options("gsm8k", gen_kwargs=text))
