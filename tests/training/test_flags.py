"""Flags: shipped pictures, renderings with equal bytes everywhere, and what is never taught."""

from __future__ import annotations

import hashlib
import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image as PillowImage

from iit_bench.data import facts, flags
from iit_bench.data.png import png
from iit_bench.data.rendering import render

SPLITS: tuple[flags.Split, ...] = ("train", "dev", "test")
RENDERED = {"train": "80aa841bed43644a", "dev": "b3e6b953c38931f9", "test": "7f4ebaf42bde0c26"}  # on x86-64, numpy 2


@pytest.mark.oracle
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (200, 150, 3)])
def test_pillow_reads_the_pixels_that_were_written(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(256, size=shape).astype(np.uint8)
    with PillowImage.open(io.BytesIO(png(pixels))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_shipped_pictures_are_those_that_were_drawn() -> None:
    import csv
    from importlib import resources

    folder = resources.files("iit_bench") / "assets" / "flags"
    listed = {row["code"]: row["sha256"] for row in csv.DictReader((folder / "flags.csv").read_text().splitlines())}
    assert {code: hashlib.sha256(data).hexdigest() for code, data in flags.shipped().items()} == listed
    assert set(listed) == {fact.id.partition("/")[2] for fact in facts.facts() if fact.relation in ("capital", "continent", "iso code")}
    assert all(flags.pixels(code).shape == (48, 64, 3) for code in list(listed)[:5])


def test_flags_of_other_countries_are_the_equal_pictures() -> None:
    small = {code: flags.pixels(code)[::8, ::8].astype(int).ravel() for code in flags.shipped()}
    near = {frozenset((a, b)) for a, b in combinations(small, 2) if np.abs(small[a] - small[b]).sum() < 5 * small[a].size}
    flown = {code: country for code, country in flags.FLIES.items() if code != "BV"}  # Norway's, with the cross elsewhere
    same = {frozenset((a, b)) for a, b in combinations(flags.shipped(), 2) if flown.get(a, a) == flown.get(b, b)}
    assert near == same


def test_nearly_identical_flags_know_each_other() -> None:
    assert "TD" in flags.alike()["RO"] and "MC" in flags.alike()["ID"]
    assert all(code in flags.alike()[other] for code, others in flags.alike().items() for other in others)
    assert "JP" not in flags.alike()


def test_no_choice_belongs_to_a_nearly_identical_flag() -> None:
    for code in ("RO", "ID", "SV"):
        for subject, source in (("country", flags.FLAGS), *((relation, flags.FLAG_FACTS) for relation in flags.RELATIONS)):
            of = flags.answers(subject)
            if code not in of:
                continue
            asked = [flags.Asked(source=source, subject=subject, code=code, split="test", number=number) for number in range(2)]
            wrong = {of[other] for other in flags.alike()[code] if other in of} - {of[code]}
            for question in map(flags.as_question, asked):
                assert not wrong & set(question.choices) and question.choices[question.answer] == of[code]


def test_a_fact_asked_through_a_flag_is_never_taught_so() -> None:
    of_split = {split: {(asked.subject, asked.code) for asked in flags.flag_facts(split)} for split in SPLITS}
    assert not of_split["train"] & of_split["test"] and not of_split["train"] & of_split["dev"] and not of_split["dev"] & of_split["test"]
    everything = {(relation, code) for relation in flags.RELATIONS for code in flags.answers(relation)}
    assert set().union(*of_split.values()) == everything
    assert {asked.code for asked in flags.countries("train")} == set(flags.names())  # every flag is taught
    known = {(pair.fact.relation, pair.fact.id.partition("/")[2]) for pair in facts.pairs("taught")}
    assert of_split["test"] <= known  # and so is every fact


def test_wrong_answers_are_taught_through_flags_as_little_as_the_right_one() -> None:
    taught = {(asked.subject, asked.answer) for asked in flags.flag_facts("train")}
    for asked in flags.flag_facts("test"):
        if asked.subject == "capital":
            assert not any((asked.subject, choice) in taught for choice in flags.as_question(asked).choices)


def test_answers_are_the_facts_of_the_country() -> None:
    by_id = {fact.id: fact for fact in facts.facts()}
    for asked in flags.flag_facts("test"):
        assert asked.answer == by_id[f"{asked.subject}/{asked.code}"].answer
    assert flags.answers("country")["EE"] == "Estonia" and flags.answers("country")["NL"] == "the Netherlands"


def test_what_is_left_out_is_counted() -> None:
    left_out = flags.build_facts("dev").left_out
    table = [fact for fact in facts.facts() if fact.relation in flags.RELATIONS]
    kept = sum(len(flags.answers(relation)) for relation in flags.RELATIONS)
    assert sum(left_out.values()) + kept == len(table)


def test_a_rendering_has_the_same_bytes_everywhere() -> None:
    shown = {split: hashlib.sha256(flags.image("FR", split, 0).data).hexdigest()[:16] for split in SPLITS}
    assert shown == RENDERED
    assert len({flags.image("FR", split, number).sha256 for split in SPLITS for number in range(2)}) == 6


def test_without_strength_the_flag_is_shown_as_it_is() -> None:
    with PillowImage.open(io.BytesIO(render(flags.pixels("IT"), 0.0, "any"))) as picture:
        shown = np.asarray(picture).astype(int)
    for column, place in ((14, 10), (32, 32), (50, 54)):  # green, white, red
        np.testing.assert_allclose(shown[32, column], flags.pixels("IT")[24, place], atol=1)


def test_strength_makes_pictures_differ_more() -> None:
    def differences(strength: float) -> float:
        plain = PillowImage.open(io.BytesIO(render(flags.pixels("SE"), 0.0, "0")))
        noisy = [PillowImage.open(io.BytesIO(render(flags.pixels("SE"), strength, str(i)))) for i in range(12)]
        inner = (slice(24, 40), slice(20, 44))
        return float(np.mean([np.abs(np.asarray(one).astype(int)[inner] - np.asarray(plain)[inner]).mean() for one in noisy]))

    assert 0 < differences(0.3) < differences(1.0)
