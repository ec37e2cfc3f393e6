"""Reported faults of figures, one test each: what was wrong, and the right value."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.sandwich_covariance import cov_cluster_2groups

from evaluators import statistics
from evaluators.iit.comparison import as_table, asked_apart, check_comparable, compare, incomparable
from evaluators.iit.forgetting import forgetting
from evaluators.iit.results import summarise
from evaluators.iit.turns import Asking, Course, prediction
from evaluators.runs.summary import summary_text
from iit_bench.engine.run import Failure
from iit_bench.errors import UserError
from iit_bench.storage.earlier_versions import upgraded
from iit_bench.storage.tables import read_table, table_bytes
from iit_bench.types import Dialogue, Prediction, Question

# ---------------------------------------------------------------- means


@pytest.mark.parametrize("credits", [[0.25, 0.5, 0.75], [0.9, 1.0, 1.0], [0.3] * 8, [1.0, 1.0]])
def test_a_mean_of_partial_credits_without_a_zero_is_their_mean(credits: list[float]) -> None:
    """`x.all()` was taken for "all are 1", so that partial credits without a zero had the mean 1; right: numpy's mean."""
    clusters, strata = range(len(credits)), np.zeros(len(credits), dtype=int)
    assert statistics.mean(credits, clusters).value == pytest.approx(np.mean(credits), abs=1e-15)
    assert statistics.weighted_mean(credits, clusters, strata).value == pytest.approx(np.mean(credits), abs=1e-15)


# ---------------------------------------------------------------- histories


def test_a_prediction_names_the_clusters_of_its_history() -> None:
    """Predictions did not hold which images and passages their histories were of; right: one cluster per earlier turn, in order."""
    questions = tuple(
        Question(f"q{i}", "T", "facts", "capital", f"cluster {i}", "en", "?", (), ("a", "b"), 0, "a", fixed_order=False) for i in range(3)
    )
    dialogue = Dialogue("d", "TTT", 0.0, "q2", ("q0", "q1", "q2"), "q2")
    course, failure = Course(dialogue, questions), Failure("item", "broken", "")
    assert prediction(course, 2, failure, Asking()).history_clusters == ("cluster 0", "cluster 1")
    assert prediction(course, 0, failure, Asking(history="own")).history_clusters == ()


def test_predictions_of_an_older_folder_are_read_without_the_new_column(predict, tmp_path) -> None:
    """A table without a column that has a default was refused; right: the default is taken."""
    rows = [dataclasses.replace(predict("TT", f"q{i}"), history_clusters=(f"h{i}",)) for i in range(3)]
    path = tmp_path / "predictions.parquet"
    path.write_bytes(table_bytes(Prediction, rows))
    assert read_table(Prediction, [path]) == rows
    old = tmp_path / "old.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["history_clusters"]), old)
    assert read_table(Prediction, [old]) == [dataclasses.replace(row, history_clusters=()) for row in rows]


@pytest.fixture
def shared_histories(predict) -> list[Prediction]:
    """60 targets under T and TT; two share an image, and 7 history clusters, which decide most answers, serve them all."""
    rng = np.random.default_rng(5)
    level = rng.random(7)
    rows = []
    for i in range(60):
        rows.append(predict("T", f"T{i}", "correct" if rng.random() < 0.7 else "wrong", cluster=f"image {i // 2}"))
        outcome = "correct" if level[i % 7] > 0.4 else "wrong"
        rows.append(predict("TT", f"T{i}", outcome, cluster=f"image {i // 2}", history=(f"h{i % 7}",)))
    return rows


def test_variances_count_histories_that_serve_several_targets(shared_histories) -> None:
    """Variances were by target only, whatever few histories the answers hung on; right: two-way, as statsmodels has it."""
    results = summarise(shared_histories, {}, True)
    rows = {tier: [p for p in shared_histories if p.tier == tier] for tier in ("T", "TT")}
    x, d = (np.array([p.outcome == "correct" for p in rows[tier]], dtype=float) for tier in ("TT", "T"))
    d = x - d
    ways = [np.arange(60) // 2, np.arange(60) % 7]
    for values, se in ((x, results.tiers[1].acc.se), (d, results.interleaving[0].difference.se)):
        variances = cov_cluster_2groups(OLS(values, np.ones(60)).fit(), *ways)
        both, *one_way = (float(np.asarray(v).ravel()[0]) for v in variances)
        assert se == pytest.approx(np.sqrt(max(both, *one_way)))
    assert "two-way" in results.tiers[1].acc.method and results.interleaving[0].test == "two-way t"
    without = summarise([dataclasses.replace(p, history_clusters=()) for p in shared_histories], {}, True)
    assert results.tiers[1].acc.se > 1.5 * without.tiers[1].acc.se and without.interleaving[0].test == "cluster sign-flip"
    for score in ("iit", "t_score", "text_only_score"):
        assert getattr(results, score)["acc"].se > getattr(without, score)["acc"].se


def test_forgetting_counts_histories_that_serve_several_targets(shared_histories) -> None:
    """Forgetting and retention were by target only; right: by the histories of both sides, too."""
    base = [dataclasses.replace(p, outcome="correct", chosen=0) for p in shared_histories]
    result = forgetting(shared_histories, base, "b", "b")
    assert [one.test for one in result.per_tier] == ["cluster sign-flip", "two-way t"] and result.pooled.test == "two-way t"
    bare = [[dataclasses.replace(p, history_clusters=()) for p in rows] for rows in (shared_histories, base)]
    without = forgetting(*bare, "b", "b")
    assert result.pooled.difference.se > without.pooled.difference.se and result.acc.se > without.acc.se
    assert result.retention.se > without.retention.se


# ---------------------------------------------------------------- scores


def test_a_run_over_some_tiers_has_a_subset_score_and_no_iit_score(predict) -> None:
    """A run of `--tiers T,TV` had an "IIT score" over two tiers and ranked first; right: a subset score, marked with its tiers."""
    rows = [
        predict(tier, f"{tier[-1]}{i}", "correct" if i < level else "wrong") for tier, level in (("T", 8), ("TV", 5)) for i in range(10)
    ]
    results = summarise(rows, {}, True, ("T", "TT", "TV", "V"))
    assert [scores["acc"].value for scores in (results.iit, results.t_score, results.v_score, results.text_only_score)] == [None] * 4
    assert results.iit["acc"].note == "not every tier was asked for"
    assert results.subset_tiers == ("T", "TV") and results.subset_score["acc"].value == pytest.approx((0.8 + 0.5) / 2)


def test_a_score_exists_where_all_its_tiers_were_run(predict) -> None:
    """T and V score likewise: a run of all tiers that end in T has a T score, whatever else was left out."""
    rows = [predict(tier, f"T{i}", "correct" if i % 3 else "wrong") for tier in ("T", "TT", "VT") for i in range(9)]
    results = summarise(rows, {}, True, ("T", "TT", "VT", "V"))
    assert results.t_score["acc"].value == pytest.approx(2 / 3) and results.text_only_score["acc"].value == pytest.approx(2 / 3)
    assert results.iit["acc"].value is None and results.v_score["acc"].value is None


def test_every_model_has_a_text_only_score_over_the_tiers_made_only_of_text(predict) -> None:
    """A text LLM had no score at all; right: the mean over T, TT, TTT, which it shares with models that take images."""
    level = {"T": 9, "TT": 8, "TTT": 4, "VT": 1, "V": 2}
    rows = [predict(tier, f"{tier[-1]}{i}", "correct" if i < n else "wrong") for tier, n in level.items() for i in range(10)]
    both = summarise(rows, {}, True, level)
    alone = summarise([p for p in rows if "V" not in p.tier], {"VT": "no images", "V": "no images"}, True, level)
    assert both.text_only_score == alone.text_only_score
    assert both.text_only_score["acc"].value == pytest.approx((0.9 + 0.8 + 0.4) / 3)
    assert alone.subset_score == {} and alone.subset_tiers == ()
    assert "text-only score" in summary_text("llm", alone)
    (line,) = [line for line in summary_text("llm", alone).splitlines() if "not available" in line]
    assert line == "  not available (no images): IIT score, T score, V score, tier VT, tier V"


# ---------------------------------------------------------------- signs


def test_forgetting_is_base_minus_run_so_that_a_loss_is_positive(predict) -> None:
    """README and terminal printed base - run, page and files run - base; right: base - run everywhere."""
    base = [predict("T", f"q{i}", "correct" if i < 18 else "wrong") for i in range(20)]
    run = [predict("T", f"q{i}", "correct" if i < 11 else "wrong") for i in range(20)]
    result = forgetting(run, base, "base-llm", "base")
    for one in (*result.per_tier, result.pooled):
        d = one.difference
        assert d.value == pytest.approx((18 - 11) / 20) and d.low is not None and d.high is not None and 0 < d.low < d.value < d.high
        assert (one.only_a, one.only_b, one.against) == (7, 0, "this run")
    assert "forgotten against base-llm   35.0% [" in summary_text("x", dataclasses.replace(summarise(run, {}, True), forgetting=result))


def test_forgetting_of_a_version_2_folder_is_turned_when_it_is_read() -> None:
    """Folders of version 2 hold run - base; right: their sides are exchanged, so that no reader meets the old sign."""
    figure = {"value": -0.25, "low": -0.5, "high": 0.0, "n": 8, "clusters": 8}
    old = {"over": "T", "against": "base", "difference": figure, "test": "mcnemar exact", "p": 0.5, "only_a": 1, "only_b": 3}
    read = upgraded({"version": 2, "tiers": [], "forgetting": {"base": "b", "per_tier": [old], "pooled": old}})["forgetting"]
    for one in (*read["per_tier"], read["pooled"]):
        assert one["difference"] == figure | {"value": 0.25, "low": 0.0, "high": 0.5}
        assert (one["only_a"], one["only_b"], one["against"]) == (3, 1, "this run")


# ---------------------------------------------------------------- which runs are compared

SEES = {"name": "vlm", "accepts_images": True, "blind": False, "chat_template_sha256": "a" * 64, "settings": {}}
RUN = {
    "name": "one",
    "model": SEES,
    "benchmark": {"rows_sha256": "ab" * 32},
    "scoring": "generate",
    "style": "letters",
    "history": "gold",
    "limit": None,
    "tiers": ["T", "V"],
    "max_new_tokens": 32,
    "system_prompt": "",
}
PROCESSED = {"processor": "LlavaProcessor", "image_processor": "LlavaImageProcessor", "backend": "torchvision", "pillow": "12.0"}


def seeing(**processing: object) -> dict:
    return {"model": SEES | {"settings": {"image_processing": PROCESSED | processing}}}


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        ({"system_prompt": "Be brief."}, "system prompt (none and Be brief.)"),
        ({"max_new_tokens": 8}, "reply length (32 and 8)"),
        (seeing(backend="pil"), "image processing, backend (torchvision and pil)"),
        (seeing(pillow="11.0"), "image processing, pillow (12.0 and 11.0)"),
        (seeing(processor="QwenProcessor", processor_kwargs={"min_pixels": 64}), "image setting min_pixels (none and 64)"),
    ],
)
def test_runs_asked_with_another_system_prompt_reply_length_or_image_processing_are_refused(change: dict, reported: str) -> None:
    """Forgetting and compare accepted them; right: refused, and the sentence names what differs."""
    with pytest.raises(UserError) as error:
        check_comparable(RUN | seeing(), RUN | {"name": "two"} | change)
    assert f"they differ in {reported};" in str(error.value)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"scoring": "loglikelihood"}, {"scoring": "loglikelihood", "max_new_tokens": 8}),  # nothing is generated
        (seeing(), seeing(processor="QwenProcessor", backend="pil")),  # two kinds of models, each with its own processor
        (seeing(), {"model": seeing(backend="pil")["model"] | {"accepts_images": False}}),  # a base LLM shows no images
        (seeing(), {"model": seeing(backend="pil")["model"] | {"blind": True}}),
        (seeing(), seeing(backend="pil") | {"tiers": ["T", "TT"]}),
    ],
)
def test_runs_are_compared_where_only_what_belongs_to_the_model_differs(a: dict, b: dict) -> None:
    """Reply lengths matter under generate only, and image processing where both runs show images."""
    assert incomparable(RUN | a, RUN | b) == incomparable(RUN | b, RUN | a) == []


def test_templates_arguments_and_dates_are_shown_beside_a_comparison(predict) -> None:
    """A pair that a template told two days, or that used two templates, was compared without a word; right: named with both values."""
    settings = {"date": "2026-01-02", "chat_template_kwargs": {"enable_thinking": False}}
    other = RUN | {"reasoning_tokens": 512, "model": SEES | {"chat_template_sha256": "b" * 64, "settings": settings}}
    apart = asked_apart(RUN, other)
    assert apart == {
        "chat template": ("aaaaaaaa", "bbbbbbbb"),
        "template arguments": ("none", "enable_thinking=false"),
        "date": ("not asked for", "2026-01-02"),
        "reasoning tokens": ("0", "512"),
    }
    rows = [predict("T", f"q{i}") for i in range(4)]
    table = as_table(compare(rows, rows, "two"), "one", "two", apart=apart)
    assert "Not the same on both sides: date (not asked for and 2026-01-02)." in table
    assert asked_apart(RUN, RUN) == {} and "Not the same" not in as_table(compare(rows, rows, "two"), "one", "two")


def test_delimiters_before_replies_are_shown_beside_a_comparison(predict) -> None:
    """Runs of one model, one of them made before its delimiter was learned, differed without a word; right: named with both values."""
    run = RUN | {"scoring": "loglikelihood"}
    space, marks = (
        {"model": SEES | {"settings": {"reply_delimiter": one}}} for one in ({"dropped": "", "added": " "}, {"dropped": "<t>\n"})
    )
    assert asked_apart(run, run | space) == {"reply delimiter": ("none recorded", 'added " "')}
    assert asked_apart(run | space, run | marks) == {"reply delimiter": ('added " "', 'dropped "<t>\\n"')}
    rows = [predict("T", f"q{i}") for i in range(4)]
    table = as_table(compare(rows, rows, "two"), "one", "two", apart=asked_apart(run, run | space))
    assert 'Not the same on both sides: reply delimiter (none recorded and added " ").' in table
    assert asked_apart(RUN, RUN | space) == {}  # generated replies follow the prompt itself
    assert asked_apart(RUN, RUN | {"answers_version": 2}) == {"version of asking": ("1", "2")}
