"""What each arm asks, written out by hand."""

from __future__ import annotations

import dataclasses
import io

import pytest
from PIL import Image as PillowImage

from evaluators.arms.changes import Changes
from evaluators.arms.chats import NotAskedError, moved
from evaluators.arms.donors import Donors
from evaluators.arms.names import ARMS
from evaluators.arms.pixels import draw
from evaluators.iit.turns import Asking, request
from iit_bench.models.contract import GenerateRequest, ScoreRequest
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Image, Message


@pytest.fixture
def ask(shapes, course_of):
    """ask("blind", "V:v1") → the messages of the only request, as (role, parts)."""

    def call(arm: str, name: str, **asking) -> list[tuple]:
        (one,) = Changes(shapes, Asking(**asking)).of(arm, course_of(name))
        return [message.parts for message in one.request.messages]

    return call


# ---------------------------------------------------------------- images


def test_blind_removes_the_targets_images_and_keeps_those_of_the_history(ask, picture):
    assert ask("blind", "V:v1") == [("What colour is it?",)]
    assert ask("blind", "VV:v1") == [("Look at ", picture["c"], " and name it."), ("green",), ("What colour is it?",)]
    assert ask("blind", "V:v3") == [("Look at  and name it.",)]


def test_blind_history_keeps_the_targets_images_only(ask, picture):
    assert ask("blind-history", "VV:v1") == [("Look at  and name it.",), ("green",), (picture["a"], "\nWhat colour is it?")]
    assert ask("blind-history", "VT:t1") == [("Look at  and name it.",), ("green",), ("What is the capital of France?",)]


def test_blank_images_are_grey_and_of_the_same_size(ask):
    for name, count in (("V:v1", 1), ("V:v4", 2)):
        images = [part for part in ask("blank", name)[-1] if isinstance(part, Image)]
        assert len(images) == count
        for image, side in zip(images, (32, 48) if count == 2 else (32,), strict=True):
            opened = PillowImage.open(io.BytesIO(image.data))
            assert opened.size == (side, side)
            assert opened.getcolors() == [(side * side, (128, 128, 128))]


def test_a_blank_image_has_the_size_that_is_shown(shapes, course_of):
    turned = PillowImage.new("RGB", (20, 10), "red")
    exif = turned.getexif()
    exif[0x0112] = 6  # a quarter turn
    sink = io.BytesIO()
    turned.save(sink, "JPEG", exif=exif)
    course = course_of("V:v1")
    course.questions = (dataclasses.replace(course.questions[0], images=(Image(sink.getvalue()),)),)
    (one,) = Changes(shapes, Asking()).of("blank", course)
    assert PillowImage.open(io.BytesIO(one.request.messages[-1].images[0].data)).size == (10, 20)


def test_a_contradicting_image_is_of_the_same_words_and_another_answer(ask, picture):
    assert ask("contradicting", "V:v1") == [(picture["b"], "\nWhat colour is it?")]
    assert ask("contradicting", "TV:v2") == [("What is the capital of France?",), ("Rome",), (picture["a"], "\nwhat  COLOUR is it?")]


def test_swapped_targets_have_each_others_images(shapes, ask):
    owner = {one.images: one.id for one in shapes.questions.values() if len(one.images) == 1}
    partner = {}
    for name in ("v1", "v2", "v3"):
        try:
            images = tuple(part for part in ask("swapped", f"V:{name}")[-1] if isinstance(part, Image))
        except NotAskedError as why:
            assert str(why) == "no_other_image"
        else:
            partner[name] = owner[images]
    assert len(partner) == 2  # of three, one remains
    assert all(partner[partner[name]] == name != partner[name] for name in partner)


def test_swapped_history_trades_images_with_the_last_visual_turn(ask, picture):
    assert ask("swapped-history", "VTV:v1") == [
        ("Look at ", picture["a"], " and name it."),
        ("green",),
        ("Now this.\nWhat is the capital of France?",),
        ("Rome",),
        ("Well.\n", picture["c"], "\nWhat colour is it?"),
    ]


def test_moved_images_are_the_first_or_last_part_of_the_whole_message(ask, picture):
    shown = "Choices: red; blue; green\nAnswer with one of the choices."
    assert ask("moved-first", "V:v3", style="options") == [(picture["c"], f"\nLook at  and name it.\n{shown}")]
    assert ask("moved-last", "V:v3", style="options") == [(f"Look at  and name it.\n{shown}\n", picture["c"])]
    assert ask("moved-first", "VTV:v1")[-1] == (picture["a"], "\nWell.\n\nWhat colour is it?")
    assert ask("moved-last", "V:v4")[-1] == ("Which of  and  is red?\n", picture["d"], picture["e"])


def test_wordless_keeps_images_and_choices(ask, picture):
    assert ask("wordless", "V:v1") == [(picture["a"],)]
    letters = "\nA. the first\nB. the second\nAnswer with the letter of the right choice."
    assert ask("wordless", "V:v4", style="letters") == [(picture["d"], picture["e"], letters)]
    assert ask("wordless", "VTV:v1")[-1] == ("Well.\n", picture["a"])


# ---------------------------------------------------------------- text targets


def test_an_irrelevant_image_precedes_a_text_target(ask, picture):
    (message,) = ask("irrelevant", "T:t1")
    assert message[0] in (picture["a"], picture["b"], picture["d"])  # v3 is in the group's history
    assert message[1] == "\nWhat is the capital of France?"
    assert ask("irrelevant", "VT:t1")[-1] == message  # the same in all dialogues of the group


def test_pixels_put_the_words_into_an_image_and_leave_the_choices(ask):
    drawn = draw("What is the capital of France?")
    assert ask("pixels", "T:t1") == [(drawn,)]
    shown = "\nChoices: Paris; Rome; Bern; Oslo\nAnswer with one of the choices."
    assert ask("pixels", "VT:t1", style="options")[-1] == (drawn, shown)


# ---------------------------------------------------------------- choices


def test_choices_move_round_and_the_answer_with_them(shapes, course_of):
    made = Changes(shapes, Asking(style="letters")).of("reordered", course_of("T:t1"))
    assert [one.course.questions[-1].choices for one in made] == [
        ("Oslo", "Paris", "Rome", "Bern"),
        ("Bern", "Oslo", "Paris", "Rome"),
        ("Rome", "Bern", "Oslo", "Paris"),
    ]
    assert [one.course.questions[-1].answer for one in made] == [2, 3, 0]
    assert all(one.request.continuations == ("A", "B", "C", "D") for one in made)
    assert made[0].request.messages[0].text.startswith("What is the capital of France?\nA. Oslo\nB. Paris\n")
    question = shapes.questions["t1"]
    assert all(moved(question, places).choices[moved(question, places).answer] == "Rome" for places in range(4))


def test_choices_that_keep_their_order_are_not_moved(shapes, course_of):
    with pytest.raises(NotAskedError, match=r"^fixed_order$"):
        Changes(shapes, Asking(style="letters")).of("reordered", course_of("T:t2"))


# ---------------------------------------------------------------- what all arms keep


@pytest.mark.parametrize("arm", ARMS)
def test_what_an_arm_does_not_change_is_not_asked(shapes, course_of, arm):
    """moved-first of an image that is first already, an image of a text turn, …: no request equals the run's."""
    asking = Asking(style="options")
    changes = Changes(shapes, asking)
    for dialogue in shapes.dialogues:
        course = course_of(dialogue.id)
        whole = request(course, len(course.questions) - 1, asking)
        try:
            made = changes.of(arm, course)
        except NotAskedError:
            continue
        assert all(one.request != whole for one in made)
        if "history" not in arm:
            assert all(one.request.messages[:-1] == whole.messages[:-1] for one in made)
        if arm != "reordered":
            assert made[0].request.continuations == whole.continuations


def test_an_image_that_is_first_already_is_not_moved(shapes, course_of):
    with pytest.raises(NotAskedError, match=r"^unchanged$"):
        Changes(shapes, Asking()).of("moved-first", course_of("V:v1"))


def test_system_prompt_own_replies_and_generation_are_the_runs(shapes, course_of, picture):
    course = course_of("VV:v1")
    course.own_replies = ["mauve"]
    asking = Asking(scoring="generate", history="own", system_prompt="Be brief.", max_new_tokens=5, reasoning_tokens=7)
    (one,) = Changes(shapes, asking).of("blind", course)
    first = Message("user", ("Look at ", picture["c"], " and name it."))
    messages = (
        Message("system", ("Be brief.",)),
        first,
        Message("assistant", ("mauve",)),
        Message("user", ("What colour is it?",)),
    )
    assert one.request == GenerateRequest(messages, 5, 7)


def test_an_unreadable_image_is_not_asked(shapes, course_of):
    course = course_of("V:v1")
    course.questions = (dataclasses.replace(course.questions[0], images=(Image(b"no image"),)),)
    with pytest.raises(NotAskedError, match=r"^unreadable_image$"):
        Changes(shapes, Asking()).of("blank", course)


# ---------------------------------------------------------------- whose images


def test_donors_follow_the_rules_on_a_built_benchmark(bench):
    """By brute force over all pairs of questions."""
    donors = Donors(bench)
    by_image = {}
    for question in bench.questions.values():
        for image in question.images:
            by_image.setdefault(image.sha256, []).append(question)
    for target in {dialogue.target for dialogue in bench.dialogues}:
        asked = bench.questions[target]
        turns = [bench.questions[turn] for one in bench.dialogues if one.target == target for turn in one.turns]
        barred, seen = {one.cluster for one in turns}, {image.sha256 for one in turns for image in one.images}
        if asked.images:
            fit = [
                other.images
                for other in bench.questions.values()
                if other.images
                and other.source == asked.source
                and other.question.casefold().split() == asked.question.casefold().split()
                and other.answer_text in set(asked.choices) - {asked.answer_text}
                and other.cluster not in barred
                and not seen & {image.sha256 for image in other.images}
            ]
            found = donors.contradicting(target)
            assert found in fit if fit else found is None
            if (swapped := donors.swapped(target)) is not None:
                assert not seen & {image.sha256 for image in swapped}
        else:
            image = donors.irrelevant(target)
            assert image is not None and image.sha256 not in seen
            assert any(one.cluster not in barred for one in by_image[image.sha256])


def test_donors_do_not_depend_on_the_order_of_questions_and_dialogues(bench, shapes):
    found = {"irrelevant": 0, "contradicting": 0, "swapped": 0}
    for one in (bench, shapes):
        turned = Benchmark(one.path, one.manifest, dict(reversed(one.questions.items())), tuple(reversed(one.dialogues)))
        donors, others = Donors(one), Donors(turned)
        for target in sorted({dialogue.target for dialogue in one.dialogues}):
            for name in ("contradicting", "swapped") if one.questions[target].images else ("irrelevant",):
                images = getattr(donors, name)(target)
                assert images == getattr(others, name)(target)
                found[name] += images is not None
    assert min(found.values()) >= 2


def test_scored_requests_are_score_requests(shapes, course_of, cloze):
    (one,) = Changes(shapes, cloze).of("blind", course_of("V:v1"))
    assert one.request == ScoreRequest((Message("user", ("What colour is it?",)),), ("red", "blue", "green"))
