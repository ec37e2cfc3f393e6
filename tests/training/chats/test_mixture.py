"""A step's chats are a function of recipe and step: each source's share, and no chat twice in an epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from iit_bench.training.chats.mixture import Mixture
from iit_bench.training.chats.reading import Encoding
from iit_bench.training.records import Dialogues, Part
from tests.training.chats.conftest import llava

Written = Callable[..., Path]


def mixture(encoding: Encoding, *parts: tuple[str | Path, float], seed: int = 0, batch: int = 8) -> Mixture:
    listed = tuple(Part(source=str(source), weight=weight) for source, weight in parts)
    return Mixture.checked(Dialogues(mixture=listed), encoding, seed=seed, batch=batch)


def ids(made: Mixture, *steps: int) -> list[str]:
    return [row.id for step in steps for row in made.rows(step)]


@pytest.mark.slow
def test_a_step_depends_on_no_step_before_it(written: Written, encoding: Encoding) -> None:
    path = written([llava(number) for number in range(12)])
    parts = ((path, 1.0), ("lab:facts", 2.0))
    whole, resumed, other = (mixture(encoding, *parts, seed=seed) for seed in (0, 0, 1))
    rows = [whole.rows(step) for step in range(9)]
    assert resumed.rows(7) == rows[7] and resumed.rows(2) == rows[2]
    assert ids(other, 7) != ids(whole, 7)


def test_each_source_has_its_share_of_every_step(written: Written, encoding: Encoding) -> None:
    path = written([llava(number) for number in range(12)])
    made = mixture(encoding, (path, 2.0), ("lab:facts", 0.5), (path, 0.7))
    counts = np.array([made.counts(step) for step in range(1000)])
    expected = 8 * np.array([2.0, 0.5, 0.7]) / 3.2
    assert (counts.sum(axis=1) == 8).all()
    assert (np.abs(counts - expected) < 2).all()
    assert counts.mean(axis=0) == pytest.approx(expected, abs=0.05)
    assert [sum(bool(row.id) for row in made.rows(step)) for step in range(5)] == list(counts[:5, 0] + counts[:5, 2])


def test_no_chat_comes_twice_before_all_came_once(written: Written, encoding: Encoding) -> None:
    made = mixture(encoding, (written([llava(number) for number in range(19)]), 1.0))  # too few to hold one out
    seen = ids(made, *range(38))  # 304 chats: 16 epochs of 19
    epochs = [seen[first : first + 19] for first in range(0, 304, 19)]
    assert {len(set(epoch)) for epoch in epochs} == {19}
    assert len({tuple(epoch) for epoch in epochs}) == 16


def test_held_out_chats_are_not_trained_on(written: Written, encoding: Encoding) -> None:
    first, second = (written([llava(number) for number in range(count)], name) for name, count in (("a.json", 45), ("b.jsonl", 300)))
    made = mixture(encoding, (first, 1.0), (second, 1.0))
    held = [row.id for row in made.held_out()]
    assert Counter(name.split()[0] for name in held) == {"a.json": 2, "b.jsonl": 15}
    trained = Counter(ids(made, *range(60)))  # 240 of each file: 5 epochs and more of one, less than one of the other
    assert not set(held) & set(trained)
    assert Counter(name.split()[0] for name in trained) == {"a.json": 43, "b.jsonl": 240}


@pytest.mark.slow
def test_the_labs_sources_come_as_dialogues(encoding: Encoding) -> None:
    made = mixture(encoding, ("lab:digits", 1.0), ("lab:facts", 1.0))
    rows = made.rows(3)
    assert len(rows) == 8
    assert [bool(row.images) for row in rows] == [True] * 4 + [False] * 4
    assert {bool(row.images) for row in made.held_out()} == {True, False}
