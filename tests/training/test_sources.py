"""What training draws from the lab's sources: in the shares asked for, and nothing that evaluation asks."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch

from iit_bench.data import digits, flags
from iit_bench.errors import UserError
from iit_bench.training import described, dialogues, pictures, sources, tower
from iit_bench.training.chat import IGNORED
from iit_bench.training.recipe import load_recipe
from iit_bench.training.records import IMAGE_SOURCES, LAB_SOURCES, Dialogues
from iit_bench.training.train import make_task

SHARES = {"facts": 2.0, "two-hop": 1.0, "digit-words": 1.0}


@pytest.mark.slow
def test_every_source_that_a_recipe_may_name_can_be_drawn_from() -> None:
    assert set(sources.SOURCES) == set(LAB_SOURCES)
    rng = dialogues.generator(0, 0)
    for name in LAB_SOURCES:
        question = sources.picks(name)(rng, None)
        assert question.source == name and bool(question.images) == (name in IMAGE_SOURCES)
        assert sources.picks(name)(rng, question.subject).subject == question.subject


def test_turns_have_the_shares_of_their_sources() -> None:
    draw, rng = dialogues.mixed(SHARES), dialogues.generator(0, 0)
    counts = Counter(draw(rng, None).source for _ in range(2000))
    assert all(abs(counts[name] / 2000 - share / 4) < 0.04 for name, share in SHARES.items())


def test_a_turn_like_another_is_of_its_source_and_subject() -> None:
    drawn = dialogues.batch(dialogues.mixed(SHARES), Dialogues(turns=(3,), alike=1.0, sources=SHARES), 60, dialogues.generator(0, 1))
    assert all((a.source, a.subject) == (b.source, b.subject) for dialogue in drawn for a, b in pairwise(dialogue))


def test_no_scan_or_fact_through_a_flag_that_is_asked_is_drawn() -> None:
    rng = dialogues.generator(0, 2)
    asked = {image.sha256 for split in ("dev", "test") for scan in digits.scans(split) for image in [digits.image(scan.number)]}
    drawn = [sources.picks("digits")(rng, None) for _ in range(300)]
    assert not asked & {image.sha256 for question in drawn for image in question.images}
    through = {(one.subject, one.code) for split in ("dev", "test") for one in flags.flag_facts(split)}
    names = {name: code for code, name in flags.names().items()}
    for _ in range(500):
        question = described.flag(rng)
        shown = next(name for name in sorted(names, key=len, reverse=True) if name in question.question.partition("\n")[0])
        assert (question.subject, names[shown]) not in through
        assert question.answer_text == flags.answers(question.subject)[names[shown]]


def test_described_digits_have_the_answers_of_their_words() -> None:
    rng = dialogues.generator(0, 3)
    for kind in (*digits.ONE_SCAN, *digits.TWO_SCANS):
        for _ in range(40):
            question = described.digit(rng, kind)
            words = re.findall(r"[a-z]+", question.question.partition("\n")[0].lower())
            values = [described.NAMES.index(word) for word in words if word in described.NAMES]
            wanted = {
                "digit": str(values[0]),
                "odd or even": ("even", "odd")[values[0] % 2],
                "sum": str(sum(values)),
                "larger": "first" if values[0] > values[-1] else "second",
            }[kind]
            assert question.choices[question.answer] == question.answer_text == wanted


def test_scored_questions_are_spread_over_the_sources() -> None:
    questions = sources.questions(("facts", "two-hop"), "dev", 9)
    assert Counter(question.source for question in questions) == {"facts": 4, "two-hop": 5}
    parts = {sources.part(question, ("facts", "two-hop")) for question in sources.questions(("facts", "two-hop"), "dev")}
    assert parts == {"facts", "two-hop", "two-hop (untaught)"}


@pytest.mark.parametrize(
    ("recipe", "override", "words"),
    [
        ("lab2-base", "data.sources={fact: 1}", "no 'fact'; the lab's sources are facts"),
        ("lab2-base", "data.sources={facts: 0}", "above 0, it is 0"),
        ("lab2-base", "data.sources={facts: .nan}", "above 0, it is nan"),
        ("lab2-base", "data.sources={facts: 1, digits: 1}", "digits, whose questions have images"),
        ("lab2-tower", "pictures=[cats]", "pictures must be some of shapes, digits, flags"),
        ("lab2-tower", "pictures=[]", "it is empty"),
        ("lab2-tower", "optim.batch=2", "optim.batch must be 3 or more"),
    ],
)
def test_bad_sources_are_one_sentence(recipe: str, override: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        load_recipe(recipe, [override])


@pytest.mark.slow
def test_a_batch_of_a_tower_has_every_kind_of_picture_with_its_own_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(flags.RENDERINGS, "train", 1)
    monkeypatch.setitem(flags.RENDERINGS, "dev", 1)
    pictures.pictures.cache_clear()
    small = ("model.embedding=8", "model.hidden=[8, 16, 16]", "model.depths=[1, 1, 1]", "optim.batch=5", "pictures=[digits, flags]")
    task = make_task(load_recipe("lab2-tower", small).recipe)
    ((pixels, labels),) = task.rows(0)
    assert pixels.shape == (5, 3, 64, 64) and list(task.classes) == ["digit", "flag"]
    assert np.array_equal((labels != IGNORED).numpy(), [[True, False]] * 2 + [[False, True]] * 3)
    logits = task._logits(pixels)
    wanted = sum(torch.nn.functional.cross_entropy(logits[i][rows], labels[rows, i]) for i, rows in enumerate((slice(2), slice(2, 5))))
    torch.testing.assert_close(task.loss([(pixels, labels)]), wanted)
    assert {name: score.n for name, score in task.score("dev", 5).items()} == {"digit": 5, "flag": 5}
    pictures.pictures.cache_clear()


def test_only_shapes_are_mirrored() -> None:
    pixels = torch.arange(64.0).expand(20, 3, 64, 64)  # brighter to the right
    turned = tower._shifted(pixels, dialogues.generator(0, 0), [True] * 10 + [False] * 10)
    to_the_left = [bool(image[0, 30, 0] > image[0, 30, -1]) for image in turned]
    assert any(to_the_left[:10]) and not any(to_the_left[10:])
