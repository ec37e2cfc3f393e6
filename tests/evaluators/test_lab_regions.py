"""The map of an experiment in words (evaluators/lab/regions.py), over made-up cells with known effects (tests/made_cells.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evaluators.lab.answers import load
from evaluators.lab.findings import findings
from evaluators.lab.regions import fate, regions
from iit_bench.types import Figure
from tests import made_cells


def map_of(folder: Path, **values: object) -> dict[str, str]:
    return {line.about: line.text for line in regions(findings(load(made_cells.write(folder, **values))))}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figure", "word"),
    [
        (Figure(-0.1, low=-0.2, high=-0.01), "lost"),
        (Figure(0.1, low=0.01, high=0.2), "gained"),
        (Figure(0.0, low=-0.019, high=0.02), "kept"),
        (Figure(0.0, low=-0.021, high=0.3), "cannot be told"),
        (Figure(0.0), "kept"),
        (Figure(0.1), "cannot be told"),
    ],
)
def test_what_became_of_text_follows_from_the_interval(figure: Figure, word: str) -> None:
    assert fate(figure) == word


def test_known_losses_and_differences_are_on_the_map(tmp_path: Path) -> None:
    """Wings keeps 10 and 20 points more text at the two higher rates, and less after an image (made_cells.KNOWN)."""
    words = map_of(tmp_path, n=500)
    lost = words["Where text is lost"].partition("Gained")[0]
    assert "full tuning at 2e-4 (-" in lost and ", 1e-3 (-" in lost and "visual learner" not in lost
    ahead, _, behind = words["Where Wings wins and loses"].partition("It is behind: ")
    assert "text alone at 1e-3, +" in ahead and "text alone" not in behind
    assert "text after an image at 2e-5, -" in behind
    control = words["Images or narrow answers, by the text-only control"]
    assert "The text-only control loses text alone at 2e-4, -" in control and "text is lost without images too" in control
    assert "Full tuning keeps less text alone than the text-only control at 1e-3, -" in control.replace("2e-4", "1e-3")
    assert "on text alone rise with the attention shift over all" in words["Attention"]
    assert "; rise with the attention shift within methods" in words["Attention"]
    assert "text alone, at equal VQA" in words["Smallest effects that could be seen, in points"]


def test_no_difference_is_said_with_what_could_be_missed(tmp_path: Path) -> None:
    level = made_cells.levels(0.8, 0.7, 0.6)
    words = map_of(tmp_path, methods={name: {1e-4: level, 1e-3: level} for name in ("wings", "full")}, n=40, spread=0.0)
    text = words["Where Wings wins and loses"]
    assert "do not differ by a difference that is found, in any measure at any of the rates 1e-4, 1e-3" in text
    assert "points could be missed" in text
    assert not any(about.startswith("Images or narrow answers") for about in words) and "With the LLM frozen" not in words


def test_learners_with_the_llm_frozen_are_beside_the_projector_only(tmp_path: Path) -> None:
    methods = {"projector": {0.0: made_cells.levels(0.9, 0.9, 0.5)}, "wings": {0.0: made_cells.levels(0.9, 0.6, 0.8)}}
    words = map_of(tmp_path, methods=methods)["With the LLM frozen"]
    assert words.startswith("Wings minus projector: text alone ") and "(found)" in words.partition("VQA +")[2]


def test_what_rests_on_one_seed_is_marked(tmp_path: Path) -> None:
    methods = {"full": {1e-4: made_cells.levels(0.4, 0.4, 0.6)}, "wings": {1e-4: made_cells.levels(0.9, 0.9, 0.6)}}
    words = map_of(tmp_path, methods=methods, seeds=(0,))
    assert "], one seed, over questions only)" in words["Where text is lost"]
    assert words["Where Wings wins and loses"].count("one seed, over questions only") == 2


def test_one_seed_beside_methods_of_more_has_the_seeds_of_those_in_its_interval(tmp_path: Path) -> None:
    made_cells.write(tmp_path, {name: {1e-4: made_cells.levels(0.5, 0.5, 0.6)} for name in ("full", "lora")})
    for seed in (1, 2):
        for file in tmp_path.glob(f"lora-1e-4-{seed}.*"):
            file.unlink()
    text = {line.about: line.text for line in regions(findings(load(tmp_path)))}["Where text is lost"]
    assert "LoRA at 1e-4 (-" in text and "], one seed)" in text and "questions only" not in text


def test_a_control_that_loses_more_than_full_tuning_does_not_tell_narrow_answers_from_noise(tmp_path: Path) -> None:
    methods = {"full": {1e-3: made_cells.levels(0.8, 0.8, 0.6)}, "control": {1e-3: made_cells.levels(0.5, 0.5, 0.4)}}
    words = map_of(tmp_path, methods=methods, n=400)["Images or narrow answers, by the text-only control"]
    assert "keeps more of it than the text-only control at 1e-3, +" in words and "the cells do not say which" in words


def test_what_other_rivals_change_is_on_the_map(tmp_path: Path) -> None:
    kept, lost = made_cells.levels(0.9, 0.9, 0.6), made_cells.levels(0.5, 0.5, 0.6)
    methods = {"full": {1e-3: lost}, "replay": {1e-3: kept}, "wings-one-image": {1e-3: kept}, "wings-released": {1e-3: lost}}
    words = map_of(tmp_path, methods=methods, n=400)
    assert "replay is ahead of full tuning: text alone at 1e-3, +" in words["Replay, beside full tuning"]
    released = words["Wings-released, beside wings-one-image"]
    assert "It is behind: text alone at 1e-3, -" in released and "scored in mode strict" in released


@pytest.mark.parametrize(("sign", "words"), [(1, "rise with the attention shift"), (-1, "fall as the attention shift rises")])
def test_attention_is_said_by_sign_and_interval_of_both_measures(tmp_path: Path, sign: int, words: str) -> None:
    grid = load(made_cells.write(tmp_path, n=60))
    found = findings(grid)
    low, high = sorted((sign * 0.3, sign * 0.7))
    follows = tuple(replace(one, within=Figure(sign * 0.5, low=low, high=high)) for one in found.shift.follows)
    line = {one.about: one.text for one in regions(replace(found, shift=replace(found.shift, follows=follows)))}["Attention"]
    assert line.count(f"{words} within methods, ") == 2 and "text after an image" in line


def test_the_part_of_wings_that_moves_text_after_an_image_most_is_named(tmp_path: Path) -> None:
    whole, rates = made_cells.levels(0.8, 0.5, 0.6), (1e-4,)
    changed = {"wings-visual": made_cells.levels(0.8, 0.8, 0.6), "wings-rank-4": made_cells.levels(0.8, 0.5, 0.6)}
    methods = {name: dict.fromkeys(rates, level) for name, level in {"wings": whole, **changed}.items()}
    words = map_of(tmp_path, methods=methods, n=400)["Parts of Wings"]
    first, second = words.removeprefix("Text after an image, changed minus whole: ").partition(". ")[0].split("; ")
    assert first.startswith("wings-visual at 1e-4 +") and first.endswith("(found)")
    assert second.startswith("wings-rank-4 at 1e-4 ") and "found" not in second
