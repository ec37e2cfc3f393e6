from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from builders.choices import admit, flagged, flaw, has_prefix, ordered
from builders.fixed_order import keeps_order
from iit_bench.types import Question

Make = Callable[..., Question]


def picture(kind: str, size: int = 40) -> bytes:
    out = BytesIO()
    Pillow.effect_noise((size, size), 60).convert("RGB").save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"question": "  "}, "empty question"),
        ({"choices": ("red", " ", "blue")}, "empty choice"),
        ({"choices": ("red", "\ud83d", "blue")}, "a text with half a character"),
        ({"question": "Which \ude00?"}, "a text with half a character"),
        ({"id": "table/\ud83d"}, "a text with half a character"),
        ({"subject": "\ud83d"}, "a text with half a character"),
        ({"choices": ("red",)}, "fewer than two choices"),
        ({"answer": 5}, "answer outside the choices"),
        ({"answer_text": "blue"}, "answer outside the choices"),
        ({"choices": ("red", "blue", "blue")}, "equal choices"),
        ({"choices": ("Euro", "Dollar", "euro zone")}, None),
        ({"modality": "V"}, "modality does not fit the images"),
        ({"images": (b"x",), "question": "<image> and <image>?"}, "image marks do not fit the images"),
        ({}, None),
    ],
)
def test_every_flaw_has_its_reason(question: Make, fields: dict[str, Any], reason: str | None) -> None:
    assert flaw(question(**fields)) == reason


@pytest.mark.slow
@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=2, max_size=6, unique=True))
def test_prefixes_are_found_as_by_comparing_all_pairs(choices: list[str]) -> None:
    assert has_prefix(choices) == any(b.startswith(a) for a, b in permutations(choices, 2))


def test_left_out_records_are_counted_and_the_rest_keeps_its_order(question: Make) -> None:
    good = picture("PNG")
    records = [
        question("a"),
        question("b", choices=("x", "x")),
        question("a"),
        question("c", images=(good,)),
        question("d", images=(good, b"no image")),
        question("e"),
    ]
    kept, left_out = admit(records)
    assert [q.id for q in kept] == ["a", "c", "e"]
    assert left_out == {"equal choices": 1, "duplicate id": 1, "unreadable image": 1}


@pytest.mark.parametrize(
    "choice",
    [
        "All of the above",
        "None of the above.",
        "Both A and B",
        "A and B",
        "(a) and (c)",
        "A, B, and C",
        "none of these",
        "以上都是",
        "A和B",
        "Neither of them",
    ],
)
def test_choices_that_refer_to_others_keep_their_order(question: Make, choice: str) -> None:
    (made,) = ordered([flagged(question(choices=("zinc", "iron", choice), answer=1))], 0)
    assert made.fixed_order
    assert made.choices == ("zinc", "iron", choice)


@pytest.mark.parametrize(
    "choice", ["vitamin C", "A band", "none", "above the clouds", "rock and roll", "Plan B", "the United States of America"]
)
def test_ordinary_choices_are_shuffled(question: Make, choice: str) -> None:
    assert not keeps_order(("zinc", "iron", choice))
    assert not flagged(question(choices=("zinc", "iron", choice))).fixed_order


@pytest.mark.parametrize("choices", [("Yes", "No"), ("no", "yes")])
def test_yes_and_no_keep_their_order(question: Make, choices: tuple[str, ...]) -> None:
    assert [q.choices for q in ordered([flagged(question(f"q/{i}", choices=choices)) for i in range(9)], 3)] == [choices] * 9


def test_gold_stays_gold_and_wrong_choices_come_in_any_order(question: Make) -> None:
    made = ordered([question(f"q/{i}", choices=("a1", "b2", "c3", "d4"), answer=0) for i in range(400)], 0)
    assert all(q.answer_text == "a1" == q.choices[q.answer] for q in made)
    assert len({q.choices for q in made}) == 24


def test_the_order_depends_on_seed_and_id_and_not_on_the_source_order(question: Make) -> None:
    pool = [question(f"q/{i}", choices=("a1", "b2", "c3", "d4")) for i in range(40)]
    turned = [question(f"q/{i}", choices=("d4", "c3", "b2", "a1"), answer=3) for i in range(40)]
    orders = [q.choices for q in ordered(pool, 0)]
    assert [q.choices for q in ordered(turned, 0)] == orders
    assert [q.choices for q in ordered(pool, 1)] != orders
    assert len(set(orders)) > 10


def test_ordered_questions_are_made_when_asked_for_and_merge_with_others_by_a_key(question: Make) -> None:
    pool = [question(f"q/{i}", choices=("a1", "b2", "c3")) for i in range(9)]
    made, others = ordered(pool[::2], 0), ordered(pool[1::2], 0)
    merged = made.sorted_with(others, key=lambda question: question.id)
    assert [q.id for q in merged] == [q.id for q in pool]
    assert merged[2:5] == [made[1], others[1], made[2]]
    assert merged.questions == pool  # and no second object for any
    assert len(set(map(id, made.orders))) == len(set(made.orders))
