"""What a model read before it replied, kept in prompts.parquet."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from iit_bench.models.contract import GenerateRequest, ModelOptions, ScoreRequest
from iit_bench.models.load import load_model
from iit_bench.storage.benchmark import Benchmark
from iit_bench.storage.runs import PROMPTS
from iit_bench.types import Image, Message

T_ONLY = ("T", "TT", "TTT")


def rows_of(found) -> list[dict]:
    columns = found.prompt_columns()
    assert columns is not None
    lists = {name: column.to_pylist() for name, column in columns.items()}
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


@pytest.mark.oracle
def test_prompts_are_what_transformers_renders_of_each_dialogue(run, bench, llama):
    found = run(llama, tiers=T_ONLY)
    rows = rows_of(found)
    assert [(row["dialogue"], row["position"]) for row in rows] == [(p.dialogue, p.position) for p in found.predictions]
    for dialogue, row in zip([one for one in bench.dialogues if one.tier in T_ONLY], rows, strict=True):
        questions = [bench.questions[turn] for turn in dialogue.turns]
        chat = [
            turn for q in questions for turn in ({"role": "user", "content": q.question}, {"role": "assistant", "content": q.answer_text})
        ][:-1]
        assert row["prompt"] == llama.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert row["sha256"] == hashlib.sha256(row["prompt"].encode()).hexdigest()
        assert row["image_places"] == []


def test_under_own_history_prompts_hold_what_the_model_said(run, bench, llama):
    found = run(llama, tiers=("TT",), history="own")
    said = {(p.dialogue, p.position): p.reply for p in found.predictions}
    rows = [row for row in rows_of(found) if row["position"] == 1]
    assert rows and all(f"<|assistant|>\n{said[row['dialogue'], 0]}<|end|>" in row["prompt"] for row in rows)


def test_each_chat_is_rendered_once_for_all_that_is_needed_of_it(run, bench, llama_folder, monkeypatch):
    model = load_model(f"hf:{llama_folder}", ModelOptions(device="cpu"))
    calls = []
    render = model.tokenizer.apply_chat_template
    monkeypatch.setattr(model.tokenizer, "apply_chat_template", lambda *a, **k: (calls.append(a), render(*a, **k))[1])
    found = run(model, tiers=T_ONLY)
    assert len(calls) == len(found.predictions) == len(rows_of(found))


@pytest.mark.parametrize("scoring", ["loglikelihood", "generate"])
def test_predictions_are_the_same_bytes_with_and_without_prompts(run, llama_folder, scoring):
    with_prompts, without = (load_model(f"hf:{llama_folder}", ModelOptions(device="cpu")) for _ in range(2))
    without.rendered = lambda request: None
    options = {"tiers": T_ONLY, "scoring": scoring, "max_new_tokens": 4}
    a, b = run(with_prompts, out="a", **options), run(without, out="b", **options)
    assert (a.path / "predictions.parquet").read_bytes() == (b.path / "predictions.parquet").read_bytes()
    assert (a.path / PROMPTS).is_file() and b.prompt_columns() is None


def test_a_resumed_run_has_the_same_prompts(run, llama):
    found = run(llama, tiers=T_ONLY)
    before = (found.path / PROMPTS).read_bytes()
    for name in (PROMPTS, "predictions.parquet", "results.json"):
        (found.path / name).unlink()
    run(llama, tiers=T_ONLY)
    assert (found.path / PROMPTS).read_bytes() == before


def test_a_model_that_renders_no_chats_here_has_no_prompts(run):
    found = run(load_model("random", ModelOptions()))
    assert found.prompt_columns() is None and not (found.path / PROMPTS).exists()


@pytest.mark.parametrize("name", ["hf", "wings"])
@pytest.mark.parametrize("kind", [ScoreRequest, GenerateRequest])
def test_places_of_images_are_the_templates_marks_and_no_words_of_a_question(name, kind, family_model, make_image):
    model = family_model("llava") if name == "hf" else load_model("wings", ModelOptions(device="cpu"))
    image: Image = make_image(0)
    question = Message("user", ("A literal <image> here ", image, " and one more: <image>", image, "?"))
    request = kind((question,), ("yes", "no")) if kind is ScoreRequest else kind((question,))
    seen = model.rendered(request)
    mark = model.placeholder
    assert len(seen.images) == 2
    assert all(seen.text.startswith(mark, place) for place in seen.images)
    words = seen.text
    for place in reversed(seen.images):
        words = words[:place] + words[place + len(mark) :]
    assert "A literal <image> here " in words and " and one more: <image>" in words and words.count("<image>") == 2


def test_a_blind_models_prompts_have_no_images(bench: Benchmark, make_image):
    model = load_model("wings", ModelOptions(device="cpu"), blind=True)
    seen = model.rendered(ScoreRequest((Message("user", (make_image(0), "\nWhat is it?")),), ("a", "b")))
    assert seen.images == () and model.model.placeholder not in seen.text and "What is it?" in seen.text


@pytest.mark.oracle
def test_the_delimiter_before_scored_replies_is_part_of_the_prompt(save_tiny, tiny):
    template = "{% for m in messages %}{% if m.role == 'user' %}U: {{ m.content }}\n{% else %}A: {{ m.content }}\n{% endif %}{% endfor %}"
    template += "{% if add_generation_prompt %}A:{% endif %}"
    model = load_model(f"hf:{save_tiny('llama', chat_template=template)}", ModelOptions(device="cpu"))
    asked = (Message("user", ("Which?",)),)
    scored = model.rendered(ScoreRequest(asked, ("a", "b")))
    whole = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "a"}], tokenize=False
    )
    assert whole.startswith(scored.text + "a")
    assert replace(scored, text=scored.text.rstrip()) == model.rendered(GenerateRequest(asked))
