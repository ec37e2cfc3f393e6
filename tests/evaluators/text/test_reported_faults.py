"""Figures of the text suite that were wrong and are right now, one test per reported fault."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
import yaml
from lm_eval.api.metrics import bits_per_byte, perplexity, weighted_perplexity
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef
from statsmodels.stats.proportion import proportion_confint

from evaluators.compare.tasks import compare_suites
from evaluators.runs.options import RunOptions
from evaluators.text import classification, details, figures
from evaluators.text import perplexity as perplexities
from evaluators.text.evaluate import evaluate_text
from evaluators.text.figures import Measured
from iit_bench.storage.runs import TaskRun, load_run

pytestmark = pytest.mark.oracle


def metrics(*names: str) -> list[dict[str, Any]]:
    return [{"metric": name} for name in names]


PASSAGE = "This question refers to the following information.\nPassage {}."
SHARED: dict[str, dict[str, Any]] = {  # tasks of lm-eval's own form, whose names have declared fields
    "mmlu_passages": {"doc_to_target": "answer", "metric_list": metrics("acc", "acc_norm")},
    "several_right": {"doc_to_target": "golds", "metric_list": metrics("acc", "acc_norm")},
    "entailed": {"doc_to_choice": ["no", "yes"], "doc_to_target": "label", "metric_list": metrics("acc", "f1", "mcc")},
    "likely": {"output_type": "loglikelihood", "doc_to_target": "{{choices[answer]}}", "metric_list": metrics("perplexity", "acc")},
    "translated": {"output_type": "generate_until", "doc_to_target": "{{choices[answer]}}", "metric_list": metrics("bleu")},
}


@pytest.fixture(scope="module")
def run(checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> TaskRun:
    """A run of these tasks: 24 documents, of 8 passages."""
    folder = tmp_path_factory.mktemp("shared")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(24):
        choices = [f"{word} {i}" for word in ("a short one", "another that is much longer", "red", "blue and green")]
        golds = rng.choice(4, rng.integers(1, 4), replace=False).tolist()
        question = f"{PASSAGE.format(i // 3)}\nWhat is number {i}?"
        rows.append({"question": question, "choices": choices, "answer": int(rng.choice([1, 1, 2, 0])), "golds": golds, "label": i % 2})
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, form in SHARED.items():
        data = {"data_files": {"test": str(folder / "d.jsonl")}, "cache_dir": str(folder / "cache")}
        task = {"task": name, "dataset_path": "json", "dataset_kwargs": data, "test_split": "test", "output_type": "multiple_choice"}
        task |= {
            "doc_to_text": "{{question}}\nAnswer:",
            "doc_to_choice": "choices",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
        }
        if form.get("output_type"):
            del task["doc_to_choice"]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task | form))
    options = RunOptions(model=checkpoint, out=folder / "run", suite="text", tasks=tuple(SHARED), include_path=folder, device="cpu")
    evaluate_text(options, progress=False)
    return load_run(folder / "run")  # type: ignore[return-value]


def result(run: TaskRun, task: str) -> Any:
    return next(one for one in run.results.tasks if one.task == task)


# ---------------------------------------------------------------- clusters


@pytest.mark.slow
def test_documents_that_share_a_passage_are_one_cluster(run: TaskRun) -> None:
    """MMLU's passages, HellaSwag's sources and the like counted as independent. Right: statsmodels' cluster-robust SE over passages."""
    figure = result(run, "mmlu_passages").scores["acc"]
    x = np.array([item.score for item in run.items if item.task == "mmlu_passages" and item.metric == "acc"])
    fit = sm.OLS(x, np.ones(24)).fit(cov_type="cluster", cov_kwds={"groups": np.arange(24) // 3})
    assert (figure.n, figure.clusters) == (24, 8)
    assert figure.se == pytest.approx(float(fit.bse[0]), rel=1e-9)
    assert result(run, "several_right").scores["acc"].clusters == 24  # no field is declared for that name


@pytest.mark.parametrize(
    ("task", "doc", "other"),
    [
        ("hellaswag", {"source_id": "activitynet~v_1"}, {"source_id": "activitynet~v_2"}),
        ("mmlu_high_school_us_history", {"question": PASSAGE.format(1) + "\nWhy?"}, {"question": PASSAGE.format(2) + "\nWhy?"}),
        ("boolq", {"passage": "P", "question": "q"}, {"passage": "Q", "question": "q"}),
        ("sciq", {"support": "S", "question": "q"}, {"support": "T", "question": "q"}),
        ("race", {"article": "A"}, {"article": "B"}),
        ("multirc", {"paragraph": "A"}, {"paragraph": "B"}),
        ("belebele_deu_Latn", {"flores_passage": "A"}, {"flores_passage": "B"}),
    ],
)
def test_the_fields_that_the_builder_knows_say_what_is_shared(task: str, doc: dict[str, str], other: dict[str, str]) -> None:
    """Two documents with the same field are one cluster, with another they are not, and without the field each is its own."""
    clusters = [details.cluster_of(task, {"doc_id": i, "doc": one}) for i, one in enumerate((doc, dict(doc), other, {}, {}))]
    assert clusters[0] == clusters[1] and len(set(clusters)) == 4 and clusters[3:] == ["3", "4"]


# ---------------------------------------------------------------- outcomes and chance


@pytest.mark.slow
def test_each_metric_has_its_own_counts(run: TaskRun) -> None:
    """acc_norm repeated the correct and wrong counts of acc. Right: counted from its own items; none for a perplexity."""
    for task in ("mmlu_passages", "several_right"):
        counts = result(run, task).metric_outcomes
        for metric in ("acc", "acc_norm"):
            right = sum(item.score == 1 for item in run.items if item.task == task and item.metric == metric)
            assert (counts[metric]["correct"], counts[metric]["wrong"]) == (right, 24 - right)
    assert result(run, "mmlu_passages").metric_outcomes["acc"] != result(run, "mmlu_passages").metric_outcomes["acc_norm"]
    assert list(result(run, "likely").metric_outcomes) == ["acc"]


@pytest.mark.slow
def test_chance_with_several_right_answers_is_their_share(run: TaskRun) -> None:
    """Chance was 1/k, retention 85 where it is undefined. Right: mean |gold| / k, which guesses by lm-eval's own rule confirm."""
    golds = [json.loads(line)["golds"] for line in (run.path.parent / "d.jsonl").read_text().splitlines()]
    level = result(run, "several_right").chance["acc"]
    assert level == pytest.approx(np.mean([len(gold) / 4 for gold in golds])) and level > 0.3
    assert np.mean([guess in gold for gold in golds for guess in range(4)]) == pytest.approx(level)
    assert result(run, "mmlu_passages").chance == {"acc": 0.25, "acc_norm": 0.25}
    (compared,) = [one for one in compare_suites(run, run)[0] if one.result.over == "several_right"]
    assert compared.retention.value is None and compared.retention.note.startswith("undefined")


@pytest.mark.parametrize(("target", "right"), [([0, 2], 2), ("[0, 2]", 2), ([1, 1], 1), ([0, 9], 1), (3, 1), ("3", 1), ("[sic]", 1)])
def test_right_answers_are_counted_in_memory_and_in_files(target: Any, right: int) -> None:
    """lm-eval's sample files hold a list of positions as a text."""
    sample = {"doc_id": 0, "target": target, "filtered_resps": [0] * 4, "metrics": ["acc"], "acc": 1.0}
    assert details.chance("any", [sample]) == right / 4


def test_truthfulqas_second_form_has_the_share_of_its_true_answers() -> None:
    """Its accuracy is the probability of all true answers: a uniform guess gets their share, where 1/k was recorded."""
    labels = [[1, 1, 0, 0], [1, 0, 0, 0, 0]]
    samples = [
        {"doc_id": i, "doc": {"mc2_targets": {"labels": one}}, "filtered_resps": one, "metrics": ["acc"], "acc": 0.4, "target": 0}
        for i, one in enumerate(labels)
    ]
    assert details.chance("truthfulqa_mc2", samples) == pytest.approx((2 / 4 + 1 / 5) / 2)
    assert details.chance("mine", samples) is None  # scores between 0 and 1: no pick among k


# ---------------------------------------------------------------- F1, correlations


@pytest.mark.slow
def test_f1_and_correlation_of_zero_have_intervals_of_some_width(run: TaskRun) -> None:
    """lm-eval's bootstrap gives 0 an interval of zero width. Right: some, in every run."""
    for metric in ("f1", "mcc"):
        figure = result(run, "entailed").scores[metric]
        assert figure.low is not None and figure.high is not None and figure.high - figure.low > 0.1
        assert figure.low <= figure.value <= figure.high and not figure.from_stderr


def test_a_correlation_or_a_bleu_of_zero_is_not_taken_for_an_f1() -> None:
    """The correlation of constant replies had the bounds of F1, and a BLEU of 0 had none, as if it were of labels."""
    pairs, clusters = [(i % 2, 0) for i in range(24)], [str(i) for i in range(24)]
    zero = {name: Measured(metric=name, value=0.0, stderr=0.0, count=24) for name in ("mcc", "f1", "bleu")}
    correlation, f1 = (figures.from_pairs(pairs, clusters, zero[name]) for name in ("mcc", "f1"))
    assert correlation == classification.matthews(pairs, 0.0, range(24)) and correlation.low < 0 < correlation.high
    assert f1 == classification.f1(pairs, 0.0, range(24)) and f1.low == 0
    bleu = figures.from_pairs([("red", "blue")] * 24, clusters, zero["bleu"])
    assert bleu.note == "no interval: lm-eval's standard error is 0"


def test_f1_has_the_interval_of_a_proportion() -> None:
    """F1 = 2J/(1+J), J = right among documents with label 1 on either side: statsmodels' Wilson bounds, moved."""
    rng = np.random.default_rng(1)
    for share in (0.0, 0.3, 0.8):
        gold = rng.integers(0, 2, 200)
        said = np.where(rng.random(200) < share, gold, 0 if share == 0 else 1 - gold)
        value = float(f1_score(gold, said))
        figure = classification.f1(list(zip(gold.tolist(), said.tolist(), strict=True)), value, range(200))
        both, either = int(np.sum(gold & said)), int(np.sum(gold | said))
        low, high = proportion_confint(both, either, method="wilson")
        assert figure is not None and (figure.low, figure.high) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)))
        assert figure.high > figure.low
    nothing = classification.f1([(0, 0)] * 5, 0.0, range(5))
    assert nothing is not None and nothing.low is None and nothing.note


def test_a_correlation_has_the_interval_that_resampling_gives_and_one_for_constant_replies() -> None:
    """Matthews correlation: SciPy's bootstrap where it works; where it does not, because replies are constant, a wide one."""
    rng = np.random.default_rng(2)
    gold = rng.integers(0, 3, 300)
    said = np.where(rng.random(300) < 0.5, gold, rng.integers(0, 3, 300))
    value = float(matthews_corrcoef(gold, said))
    figure = classification.matthews(list(zip(gold.tolist(), said.tolist(), strict=True)), value, range(300))
    found = stats.bootstrap((gold, said), matthews_corrcoef, paired=True, vectorized=False, n_resamples=400, rng=rng, method="percentile")
    assert figure is not None and (figure.low, figure.high) == pytest.approx(tuple(found.confidence_interval), abs=0.03)
    constant = classification.matthews([(one, 1) for one in gold.tolist()], 0.0, range(300))
    assert constant is not None and constant.low < -0.02 and constant.high > 0.02
    assert classification.matthews([(0, 1)], 0.0, range(1)) is None
    assert classification.matthews([(0, 1), (1, 1)], 0.7, range(2)) is None  # another score of the same pairs


# ---------------------------------------------------------------- perplexities


@pytest.mark.slow
def test_a_perplexity_of_log_likelihoods_has_bounds_above_one(run: TaskRun) -> None:
    """value ± 1.96 · stderr went below 0. Right: exp of the log-likelihoods' interval."""
    figure = result(run, "likely").scores["perplexity"]
    scores = np.array([item.score for item in run.items if item.task == "likely" and item.metric == "perplexity"])
    half = stats.t.ppf(0.975, 23) * stats.sem(scores)
    assert figure.value == pytest.approx(math.exp(-scores.mean()), rel=1e-6)
    assert (figure.low, figure.high) == pytest.approx((math.exp(-scores.mean() - half), math.exp(-scores.mean() + half)), rel=1e-9)


@pytest.mark.parametrize("documents", [[(-0.1, 3), (-200.0, 3)], [(-1.0, 100), (-90.0, 2), (-2.0, 80)]])
def test_no_bound_of_a_perplexity_is_impossible(documents: list[tuple[float, int]]) -> None:
    """Two documents that differ widely: a perplexity is never below 1, bits per byte never below 0."""
    words, bits = (perplexities.perplexity(documents, made(documents)) for made in (weighted_perplexity, bits_per_byte))
    assert words is not None and words.low is not None and 1 <= words.low < words.value < words.high
    assert bits is not None and bits.low is not None and 0 < bits.low < bits.value < bits.high


@pytest.mark.parametrize("metric", ["perplexity", "bleu", "chrf", "ter"])
def test_bounds_from_a_standard_error_stay_above_zero(metric: str) -> None:
    """Where only lm-eval's standard error is known, the scale is logarithmic."""
    figure = figures.from_stderr(Measured(metric=metric, value=2.0, stderr=3.0, count=10))
    assert figure.low is not None and figure.low > 0 and figure.low * figure.high == pytest.approx(4.0)


@pytest.mark.parametrize(("metric", "low"), [("acc", 0.0), ("f1", 0.0), ("mcc", -1.0)])
def test_bounds_of_a_group_stay_in_range(metric: str, low: float) -> None:
    """A group whose only interval is lm-eval's pooled standard error had bounds that its metric cannot reach."""
    figure = figures.from_stderr(Measured(metric=metric, value=low + 0.02, stderr=0.5, count=10), pooled=True)
    assert figure.low == low and figure.high is not None and figure.high <= 1.1


def test_a_standard_error_of_zero_is_no_certainty() -> None:
    """f1 of 0 from a results file without samples: no interval and the reason, where it was [0, 0]; an accuracy: Wilson's of n."""
    figure = figures.from_stderr(Measured(metric="f1", value=0.0, stderr=0.0, count=10))
    assert (figure.value, figure.low, figure.high) == (0.0, None, None) and figure.note
    acc = figures.from_stderr(Measured(metric="acc", value=1.0, stderr=0.0, count=10))
    assert (acc.low, acc.high) == pytest.approx(proportion_confint(10, 10, method="wilson"))


# ---------------------------------------------------------------- lm-eval's bootstrap


@pytest.mark.slow
def test_the_bootstrap_is_short_and_recorded(run: TaskRun) -> None:
    """100,000 draws ran for minutes in silence. Right: 1,000, in lm-eval's results file and in the figures that rest on them."""
    (file,) = (run.path / "lm_eval").rglob("results_*.json")
    assert json.loads(Path(file).read_text())["config"]["bootstrap_iters"] == 1000
    bleu = result(run, "translated").scores["bleu"]
    assert bleu.note or bleu.method == "log-normal, bootstrap stderr of lm-eval, 100 draws"
    measured = Measured(metric="score", value=0.5, stderr=0.1, count=9, aggregation="median", draws=1000)
    assert figures.from_stderr(measured).method == "normal, bootstrap stderr of lm-eval, 1,000 draws"
    assert perplexity([-1.0]) == pytest.approx(math.e)
