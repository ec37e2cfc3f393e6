"""Tests of rendering a question as chat turns."""

from __future__ import annotations

import dataclasses

import pytest

from iit_bench.asking import assistant_message, gold_reply, question_parts, replies, user_message
from iit_bench.types import Message, Question

TEXT = Question("t", "T", "s", "x", "c", "en", "What is it?", (), ("red", "blue"), 1, "blue")


@pytest.fixture
def pictures(make_image):
    return make_image(1), make_image(2)


def visual(text: str, *images) -> Question:
    return dataclasses.replace(TEXT, modality="V", question=text, images=images)


def test_cloze_shows_only_the_question():
    assert user_message(TEXT, "cloze") == Message("user", ("What is it?",))
    assert replies(TEXT, "cloze") == ("red", "blue")


def test_options_shows_the_choices_and_wants_their_text():
    assert user_message(TEXT, "options").text == "What is it?\nChoices: red; blue\nAnswer with one of the choices."
    assert (replies(TEXT, "options"), gold_reply(TEXT, "options")) == (("red", "blue"), "blue")


def test_letters_shows_them_with_letters_and_wants_the_letter():
    assert user_message(TEXT, "letters").text == "What is it?\nA. red\nB. blue\nAnswer with the letter of the right choice."
    assert (replies(TEXT, "letters"), gold_reply(TEXT, "letters")) == (("A", "B"), "B")


def test_images_without_marks_precede_the_text(pictures):
    assert question_parts(visual("Which?", *pictures)) == (*pictures, "\nWhich?")


def test_marks_place_the_images(pictures):
    a, b = pictures
    assert question_parts(visual("Is <image> like <image>?", a, b)) == ("Is ", a, " like ", b, "?")
    assert question_parts(visual("<image><image>", a, b)) == (a, b)


@pytest.mark.parametrize("text", ["<image>", "<image> <image> <image>"])
def test_marks_that_do_not_fit_the_images_are_refused(pictures, text):
    with pytest.raises(ValueError, match="marks for 2 images"):
        question_parts(visual(text, *pictures))


def test_mark_in_a_question_without_images_is_text():
    assert question_parts(dataclasses.replace(TEXT, question="What does <image> mean?")) == ("What does <image> mean?",)


def test_marks_in_choices_and_connectors_are_text(pictures):
    question = dataclasses.replace(visual("Which?", *pictures), choices=("<image>", "none"))
    message = user_message(question, "options", connector="See <image>.")
    assert message.images == pictures
    assert message.parts[0] == "See <image>.\n"


def test_connector_comes_before_and_changes_no_word(pictures):
    plain, connected = (user_message(visual("Which?", *pictures), "letters", connector) for connector in ("", "Now look."))
    assert connected.parts == ("Now look.\n", *plain.parts)
    assert user_message(TEXT, "cloze", "Now this.").parts == ("Now this.\nWhat is it?",)


def test_equal_chats_have_equal_parts(pictures):
    message = user_message(visual("Look: <image> Which?", pictures[0]), "letters", "Next.")
    assert not any(isinstance(a, str) and isinstance(b, str) for a, b in zip(message.parts, message.parts[1:], strict=False))


def test_assistant_message_is_only_the_reply():
    assert assistant_message("blue") == Message("assistant", ("blue",))
