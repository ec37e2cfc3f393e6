"""Which runs may be compared, what is compared, and how it is shown."""

import json
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from evaluators.iit.comparison import as_dict, as_table, check_comparable, compare
from iit_bench.errors import UserError
from iit_bench.types import Prediction

RUN: dict[str, Any] = {
    "name": "wings",
    "benchmark": {"name": "lab", "rows_sha256": "ab" * 32},
    "scoring": "loglikelihood",
    "style": "cloze",
    "history": "gold",
    "limit": None,
}


def run_of(predict, seed: int, level: float, tiers: tuple[str, ...], n: int = 30) -> list[Prediction]:
    rng = np.random.default_rng(seed)
    return [predict(tier, f"{tier[-1]}{i}", "correct" if rng.random() < level else "wrong") for tier in tiers for i in range(n)]


# ---------------------------------------------------------------- may they be compared?


def test_runs_that_differ_only_in_model_are_comparable() -> None:
    check_comparable(RUN, RUN | {"name": "llava", "model": {"name": "llava"}, "seed": 4})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"benchmark": {"rows_sha256": "cd" * 32}}, "benchmark hash (abababababab and cdcdcdcdcdcd)"),
        ({"scoring": "generate"}, "scoring (loglikelihood and generate)"),
        ({"style": "letters"}, "style (cloze and letters)"),
        ({"history": "own"}, "history (gold and own)"),
        ({"limit": 20}, "limit (none and 20)"),
        ({"style": "letters", "history": "own"}, "style (cloze and letters), history (gold and own)"),
    ],
)
def test_runs_that_were_asked_differently_are_refused_with_the_difference(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        check_comparable(RUN, RUN | {"name": "llava"} | change)
    assert f"runs 'wings' and 'llava' cannot be compared, they differ in {said};" in str(error.value)


def test_a_run_that_does_not_say_how_it_was_asked_is_refused() -> None:
    with pytest.raises(UserError, match=r"'old' has no 'benchmark.rows_sha256'"):
        check_comparable(RUN, {"name": "old", "benchmark": "lab"})


# ---------------------------------------------------------------- what is compared


def test_tiers_come_in_order_then_the_pools(predict) -> None:
    tiers = ("V", "TV", "TT", "T")
    results = compare(run_of(predict, 0, 0.8, tiers), run_of(predict, 1, 0.6, (*tiers, "VV")), "llava")
    assert [r.over for r in results] == ["T", "TT", "TV", "V", "T*", "V*", "*"]
    assert {r.against for r in results} == {"llava"}
    assert [r.difference.n for r in results] == [30, 30, 30, 30, 60, 60, 120]
    assert [r.difference.clusters for r in results[-3:]] == [30, 30, 60]


@pytest.mark.slow
def test_holm_runs_over_the_tiers_and_by_itself_over_the_pools(predict) -> None:
    tiers = ("V", "TV", "TT", "T")
    results = compare(run_of(predict, 2, 0.8, tiers), run_of(predict, 3, 0.6, tiers), "llava")
    for family in (results[:4], results[4:]):
        expected = multipletests([r.p for r in family], method="holm")[1]
        assert [r.p_holm for r in family] == pytest.approx(expected.tolist())


@pytest.mark.parametrize(
    ("tiers", "expected"),
    [
        (("T",), ["T"]),
        (("T", "TT"), ["T", "TT", "T*"]),
        (("V", "TV"), ["TV", "V", "V*"]),
        (("T", "V"), ["T", "V", "*"]),
        (("T", "TT", "V"), ["T", "TT", "V", "T*", "*"]),
    ],
)
def test_a_pool_is_shown_where_it_joins_tiers_and_says_something_new(predict, tiers: tuple[str, ...], expected: list[str]) -> None:
    results = compare(run_of(predict, 4, 0.8, tiers), run_of(predict, 5, 0.6, tiers), "b")
    assert [r.over for r in results] == expected


def test_swapping_the_sides_turns_the_signs(predict) -> None:
    a, b = run_of(predict, 6, 0.8, ("T", "V")), run_of(predict, 7, 0.6, ("T", "V"))
    for there, back in zip(compare(a, b, "b"), compare(b, a, "a"), strict=True):
        d, e = there.difference, back.difference
        assert d.value is not None and d.low is not None and d.high is not None
        assert (d.value, d.low, d.high) == pytest.approx((-(e.value or 0), -(e.high or 0), -(e.low or 0)))
        assert (there.p, there.only_a, there.detectable) == pytest.approx((back.p, back.only_b, back.detectable))


def test_targets_that_one_side_lacks_show_in_n(predict) -> None:
    a = run_of(predict, 8, 0.8, ("T",))
    assert compare(a, a[5:], "b")[0].difference.n == 25


def test_runs_without_a_common_tier_are_refused(predict) -> None:
    with pytest.raises(UserError, match="no tier in common"):
        compare(run_of(predict, 9, 0.8, ("T",)), run_of(predict, 10, 0.8, ("V",)), "b")


def test_another_question_under_the_same_dialogue_is_refused(predict) -> None:
    with pytest.raises(UserError, match="asks another question"):
        compare([predict("T", "a", choices=4)], [predict("T", "a", choices=3)], "b")


# ---------------------------------------------------------------- how it is shown


def test_table_has_a_line_per_result_and_its_numbers(predict) -> None:
    a = [predict("T", f"q{i}", "correct" if i < 26 else "wrong") for i in range(30)]
    b = [predict("T", f"q{i}", "correct" if i < 11 else "wrong") for i in range(30)]
    text = as_table(compare(a, b, "llava"), "wings [bold]", "llava")
    assert "wings [bold] minus llava" in text  # a name is text, not markup
    line = next(line.split() for line in text.splitlines() if line.split()[:1] == ["T"])
    assert line[1] == "+50.0" and line[4:8] == ["30", "30", "15", "0"] and line[8] == "<0.001" and line[-1] == "McNemar"
    assert all(len(line) <= 120 for line in text.splitlines())


def test_table_shows_a_dash_where_there_is_no_number(predict) -> None:
    text = as_table(compare([predict("T", "a", "error")], [predict("T", "a")], "b"), "a", "b")
    assert "–" in text and "no item finished" in text


def test_json_form_holds_every_field_and_no_nan(predict) -> None:
    results = compare(run_of(predict, 11, 0.8, ("T", "V")), run_of(predict, 12, 0.8, ("T", "V")), "b")
    found = json.loads(json.dumps(as_dict(results, "a", "b"), allow_nan=False))
    assert (found["a"], found["b"], len(found["results"])) == ("a", "b", 3)
    assert found["results"][0]["difference"]["n"] == 30 and found["results"][0]["p"] == results[0].p
