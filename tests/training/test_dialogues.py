"""What is drawn for training, and which tokens are trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from iit_bench.data import easyvqa
from iit_bench.training import batches, chat, described, dialogues, tokenizer
from iit_bench.training.records import Dialogues
from iit_bench.types import Question


@pytest.fixture(scope="module")
def nano():
    return tokenizer.make(600, 1024)


def test_answer_rule_agrees_with_every_published_answer() -> None:
    """Some shape and colour explains all answers about an image: the published answers as the oracle."""
    by_image: dict[int, list[easyvqa.Row]] = {}
    for row in easyvqa.rows("train")[:5000]:
        by_image.setdefault(row.image_id, []).append(row)
    for rows in by_image.values():
        assert any(
            all(described.answer_for(row.question, shape, colour) == row.answer for row in rows)
            for shape in easyvqa.SHAPES
            for colour in easyvqa.COLOURS
        )


@pytest.mark.slow
def test_dev_images_are_never_trained_on() -> None:
    dev, train = easyvqa.rows("dev"), easyvqa.rows("train")
    assert len({row.image_id for row in dev}) == 500
    assert not {row.image_id for row in dev} & {row.image_id for row in train}
    assert len(dev) + len(train) == 38_575 and len(easyvqa.rows("test")) == 9_673
    shown = {question.images[0].sha256 for question in easyvqa.questions("train")}
    held_out = [question for question in easyvqa.questions("dev") if question.images[0].sha256 in shown]
    assert not held_out


@pytest.mark.slow
def test_a_batch_depends_only_on_seed_and_step() -> None:
    draw = dialogues.facts_and_scenes(0.5)

    def batch(seed: int, step: int) -> list[list[Question]]:
        return dialogues.batch(draw, Dialogues(), 12, dialogues.generator(seed, step))

    first = batch(0, 5)
    batch(0, 6)
    assert batch(0, 5) == first != batch(1, 5)


def test_dialogues_of_a_batch_have_equal_length_and_about_the_turns_asked_for() -> None:
    for step in range(20):
        drawn = dialogues.batch(dialogues.facts_and_scenes(0.3), Dialogues(), 12, dialogues.generator(0, step))
        assert len({len(dialogue) for dialogue in drawn}) == 1
        assert sum(map(len, drawn)) == 12


def test_scenes_ask_for_yes_and_no_equally() -> None:
    rng = dialogues.generator(0, 0)
    answers = [described.scene(rng, "yes/no").answer_text for _ in range(600)]
    assert 240 < answers.count("yes") < 360


def test_labels_are_the_replies_and_their_end_of_turn(nano) -> None:
    drawn = dialogues.batch(dialogues.facts_and_scenes(0.3), Dialogues(turns=(3,)), 30, dialogues.generator(0, 1))
    for dialogue in drawn:
        row = chat.encode(nano, chat.messages(dialogue))
        trained = nano.decode([label for label in row.labels if label != chat.IGNORED])
        assert trained == "".join(question.answer_text + "<|end|>" for question in dialogue)
        assert all(label in (chat.IGNORED, token) for label, token in zip(row.labels, row.ids, strict=True))


@pytest.mark.slow
def test_images_stand_where_they_are_asked_about(nano) -> None:
    question = easyvqa.questions("train")[0]
    row = chat.encode(nano, chat.messages([question, question]), image_tokens=4)
    mark = nano.convert_tokens_to_ids("<image>")
    assert row.ids.count(mark) == 8 and len(row.images) == 2
    assert nano.decode(row.ids).startswith("<|user|>" + "<image>" * 4 + "\n" + question.question + "<|end|><|assistant|>")
    assert mark not in row.labels


def test_chat_template_is_prefix_stable(nano) -> None:
    dialogue = dialogues.batch(dialogues.facts_and_scenes(0.3), Dialogues(turns=(3,)), 3, dialogues.generator(0, 2))[0]
    turns = chat.messages(dialogue)
    whole = chat.render(nano, turns)
    for i in range(1, len(turns)):
        assert whole.startswith(chat.render(nano, turns[:i], generation_prompt=turns[i].role == "assistant"))
    assert chat.render(nano, turns) == nano.apply_chat_template([{"role": t.role, "content": t.text} for t in turns], tokenize=False)


def test_tokenizer_survives_saving_and_any_text(nano, tmp_path: Path) -> None:
    nano.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "Ünïcödé 首都? <b> \n\t 12"
    assert again.decode(again(text)["input_ids"]) == text
    assert again(text)["input_ids"] == nano(text)["input_ids"]
    assert again.chat_template == tokenizer.CHAT_TEMPLATE


def test_padding_is_neither_seen_nor_trained_on(nano) -> None:
    rows = [chat.Row([1, 2, 3], [chat.IGNORED, 2, 3], ()), chat.Row([4], [4], ())]
    batch = batches.collate(rows, 0)
    assert batch.ids.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.labels.tolist() == [[chat.IGNORED, 2, 3], [4, chat.IGNORED, chat.IGNORED]]
