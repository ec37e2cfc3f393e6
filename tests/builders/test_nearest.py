"""The nearest texts and the histories made of them are those that a comparison with every text and every question finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from builders.histories import MODALITIES, NEAR_DUPLICATE, Groups, HistoryBuilder, Rules, leaks, trie
from builders.matching import DenseSearch, Matcher, TfIdf, integer_idf, make_matcher
from builders.pools import Remaining
from builders.pruned_search import PrunedSearch, Ranking
from builders.words import hash64, mixed, words
from iit_bench.types import Modality, Question

Make = Callable[..., Question]


def zipf_texts(n: int, seed: int = 0, vocabulary: int = 400) -> list[str]:
    """Texts of words drawn by Zipf's law behind one of few beginnings; some are equal but for the order of words."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, vocabulary + 1)
    drawn = rng.choice(vocabulary, (n, 5), p=share / share.sum())
    return [f"w{i % 7} w{i % 3} of " + " ".join(f"w{word}" for word in row) + f" {'?' * (i % 11)}" for i, row in enumerate(drawn)]


def in_full(similarities: NDArray[np.float64], among: NDArray[np.int64], count: int) -> tuple[list[int], list[float]]:
    """The texts with a similarity, nearest first, as far as the `count`-th and its ties."""
    order = among[np.lexsort((among, -similarities[among]))]
    order = order[similarities[order] > 0]
    if len(order) > count:
        order = order[similarities[order] >= similarities[order[count - 1]]]
    return order.tolist(), similarities[order].tolist()


def check(ranking: Ranking, similarities: NDArray[np.float64], among: NDArray[np.int64], count: int) -> None:
    """A ranking may be longer than `count`, but is the beginning of the full order with ties undivided."""
    texts, values = in_full(similarities, among, max(count, len(ranking.texts)))
    assert ranking.texts.tolist() == texts
    assert ranking.similarities.tolist() == values
    assert len(texts) >= count or ranking.complete
    assert not ranking.complete or len(texts) == np.count_nonzero(similarities[among] > 0)


def search_few_products(monkeypatch: pytest.MonkeyPatch, rare: int, common: float = 1, compared: int = 2000) -> None:
    """As in a larger pool: else so few texts are searched over all words."""
    for name, value in (("RARE", rare), ("COMMON", common), ("COMPARED", compared), ("TOGETHER", 2000)):
        monkeypatch.setattr(f"builders.pruned_search.{name}", value)


@pytest.mark.oracle
@pytest.mark.parametrize("compared", [0, 30])
@pytest.mark.parametrize("common", [0, 4])
@pytest.mark.parametrize("count", [1, 5, 40, 1000])
def test_the_pruned_search_finds_what_all_cosines_show(count: int, common: float, compared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    search_few_products(monkeypatch, rare=20, common=common, compared=compared)
    texts = zipf_texts(500)
    counts = CountVectorizer(tokenizer=words, token_pattern=None, lowercase=False).fit_transform(texts).toarray()
    weights = counts * np.array([integer_idf(len(texts), int(df)) for df in (counts > 0).sum(axis=0)])
    matcher = TfIdf(texts)
    among = np.flatnonzero(np.arange(len(texts)) % 5 != 2)
    queries = np.arange(0, 500, 7)
    for query, ranking in zip(queries.tolist(), matcher.search(among).nearest(queries, count), strict=True):
        check(ranking, matcher.similarities(query), among, count)
        nearest = cosine_similarity(weights[[query]], weights[ranking.texts])[0]
        np.testing.assert_allclose(nearest, ranking.similarities, rtol=0, atol=1e-12)


def test_texts_that_share_only_frequent_words_are_found_where_they_are_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    search_few_products(monkeypatch, rare=1, common=0)
    frequent = [f"w{i % 9} w{i % 8} w{i % 7}" for i in range(200)]
    texts = [*frequent, "w1 w2 w3 copper", "copper " + "zinc " * 40, "w1 w2 w3"]
    matcher = TfIdf(texts)
    (ranking, _) = matcher.search(np.arange(len(texts))).nearest(np.array([200, 0]), 2)
    check(ranking, matcher.similarities(200), np.arange(len(texts)), 2)
    assert ranking.texts[1] != 201  # the only other text with copper


def test_a_larger_pool_is_searched_by_few_products_and_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: Counter[str] = Counter()
    level, exact, products = PrunedSearch._level, PrunedSearch._exact, PrunedSearch._products

    def counting(search: PrunedSearch, queries: NDArray[np.int64], cuts: Any, *more: Any) -> Any:
        searched["products"] += int(cuts.products.sum())
        searched["over all words"] += int(products(search, queries)[:, 0, 0].sum())
        return level(search, queries, cuts, *more)

    def comparing(search: PrunedSearch, rows: Any, norms: Any, number: Any, places: Any) -> NDArray[np.float64]:
        searched["compared"] += len(places)
        return exact(search, rows, norms, number, places)

    monkeypatch.setattr(PrunedSearch, "_level", counting)
    monkeypatch.setattr(PrunedSearch, "_exact", comparing)
    search_few_products(monkeypatch, rare=200)
    texts = zipf_texts(4000, vocabulary=4000)
    TfIdf(texts).search(np.arange(4000)).nearest(np.arange(0, 4000, 40), 5)
    assert searched["products"] < 0.3 * searched["over all words"]
    assert searched["compared"] < 100 * 200


@pytest.mark.parametrize("count", [3, 100])
def test_texts_that_are_left_out_are_found_no_more(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    search_few_products(monkeypatch, rare=50)
    matcher, everyone = TfIdf(zipf_texts(800)), np.arange(800)
    search = matcher.search(everyone)
    queries = np.arange(0, 800, 50)
    near = {text for ranking in search.nearest(queries, 20) for text in ranking.texts[: len(ranking.texts) // 2].tolist()}
    search.leave_out(np.array(sorted(near)))
    among = np.setdiff1d(everyone, list(near))
    for query, ranking in zip(queries.tolist(), search.nearest(queries, count), strict=True):
        check(ranking, matcher.similarities(query), among, count)


def test_a_text_whose_nearest_are_left_out_is_compared_with_few(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    exact = PrunedSearch._exact

    def comparing(search: PrunedSearch, rows: Any, norms: Any, number: Any, places: Any) -> NDArray[np.float64]:
        compared.append(len(places))
        return exact(search, rows, norms, number, places)

    search_few_products(monkeypatch, rare=1000)
    search = TfIdf(zipf_texts(4000, vocabulary=4000)).search(np.arange(4000))
    (ranking,) = search.nearest(np.array([0]), 60)
    search.leave_out(np.sort(ranking.texts))
    monkeypatch.setattr(PrunedSearch, "_exact", comparing)
    search.nearest(np.array([0]), 5)
    assert sum(compared) < 200


def test_texts_without_words_in_common_are_not_listed() -> None:
    matcher = TfIdf(["copper wire", "!!!", "whales", "wire"])
    nothing, wire = matcher.search(np.array([0, 1, 2])).nearest(np.array([1, 3]), 2)
    assert (nothing.texts.tolist(), nothing.complete) == ([], True)
    assert (wire.texts.tolist(), wire.complete) == ([0], True)


@pytest.mark.parametrize("count", [1, 5, 1000])
def test_vectors_are_ranked_as_one_product_ranks_them(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builders.matching.BLOCK", 1000)  # several blocks of queries
    vectors = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[100:200] = vectors[:100]  # equal vectors tie
    among = np.flatnonzero(np.arange(300) % 4 != 1)
    queries = np.arange(0, 300, 3)
    everything = np.round(vectors.astype(np.float64) @ vectors.astype(np.float64).T, 12)
    search = DenseSearch(vectors, np.setdiff1d(np.arange(300), [1, 5, 9]))
    search.leave_out(np.setdiff1d(np.arange(1, 300, 4), [1, 5, 9]))
    for query, ranking in zip(queries.tolist(), search.nearest(queries, count), strict=True):
        order = among[np.lexsort((among, -everything[query, among]))]
        assert ranking.texts.tolist() == order[: len(ranking.texts)].tolist()
        assert len(ranking.texts) >= min(count, len(among))
        assert ranking.complete == (len(ranking.texts) == len(among))


def test_what_remains_is_found_from_any_start() -> None:
    remaining, left = Remaining(50), set(range(50))
    for number in np.random.default_rng(0).permutation(50).tolist():
        remaining.remove(number)
        left.remove(number)
        assert [remaining.first(start) for start in range(51)] == [min((n for n in left if n >= s), default=50) for s in range(51)]
        assert number not in remaining


# ---------------------------------------------------------------- histories


def by_comparing_all(
    pool: Sequence[Question], targets: Sequence[Question], tiers: Sequence[str], matcher: Matcher, texts: dict[str, int], cap: int
) -> list[list[str]]:
    """The questions of each target's trie, by the rules of docs/spec/iit.md#building-3-histories and without any index."""
    pool = sorted(pool, key=lambda question: question.id)
    use: Counter[tuple[Modality, str]] = Counter()
    similarities = cache(matcher.similarities)
    hashes = {question.id: np.array([hash64(question.id)], np.uint64) for question in pool}
    chosen = []

    def conflict(a: Question, b: Question) -> bool:
        if a.cluster == b.cluster or {i.sha256 for i in a.images} & {i.sha256 for i in b.images}:
            return True
        near = a.modality == b.modality == "T" and similarities(texts[b.question])[texts[a.question]] >= NEAR_DUPLICATE
        return bool(near) or (a.modality == b.modality == "T" and words(a.question) == words(b.question))

    for target in targets:
        similar = similarities(texts[target.question])

        def place(question: Question, target: Question = target, similar: NDArray[np.float64] = similar) -> float:
            return -float(similar[texts[question.question]]) if matcher.ranks else int(mixed(hashes[question.id], hash64(5, target.id))[0])

        path: dict[str, list[Question]] = {"": []}
        here: set[tuple[Modality, str]] = set()
        for node in trie(tiers, target.modality):
            turns = [target, *path[node[:-1]]]
            fitting = [q for q in pool if q.modality == node[-1] and not leaks(target, words(q.question))]
            fitting = sorted((q for q in fitting if not any(conflict(q, turn) for turn in turns)), key=place)
            below = [q for q in fitting if use[q.modality, q.cluster] < cap or (q.modality, q.cluster) in here]
            found = below[0] if below else min(fitting, key=lambda q: use[q.modality, q.cluster])
            path[node] = [*path[node[:-1]], found]
            here.add((found.modality, found.cluster))
        use.update(list(here))
        chosen.append([path[node][-1].id for node in trie(tiers, target.modality)])
    return chosen


@pytest.mark.oracle
@pytest.mark.parametrize("match", ["tfidf", "none"])
@pytest.mark.parametrize("cap", [2, 6, 10**6])
def test_histories_are_those_of_a_comparison_with_every_question(question: Make, match: str, cap: int) -> None:
    rng = np.random.default_rng(cap)
    said = zipf_texts(40, seed=3, vocabulary=30)
    pool = []
    for i in range(120):
        images = tuple(bytes([picture]) for picture in rng.integers(0, 25, rng.integers(1, 3)).tolist()) if i % 2 else ()
        gold = ("w1", "w3 w2", "w0 w0", "w2")[int(rng.integers(4))] + " of" * int(rng.integers(2))
        text = said[int(rng.integers(40))] if rng.random() < 0.9 else "???"
        cluster = f"c{int(rng.integers(30))}"
        pool.append(question(f"q/{i:03}", images=images, question=text, choices=(gold, "other"), cluster=cluster))
    tiers = ["TT", "VVT", "TV", "TTV", "VTV", "VV"]
    targets = [pool[int(i)] for i in rng.permutation(len(pool))[:50]]
    texts = {text: i for i, text in enumerate(sorted({q.question for q in pool}))}
    matcher = make_matcher(match, list(texts))
    builder = HistoryBuilder(pool, matcher, texts, seed=5, cap=dict.fromkeys(MODALITIES, cap))
    groups = Groups(builder.groups(targets, tiers), pool)
    assert [group.target for group in groups] == targets == [group.target for group in groups[:]]
    made = [[node.id for node in group.nodes] for group in groups]
    assert made == by_comparing_all(pool, targets, tiers, matcher, texts, cap)
    if cap == 2:
        assert max(max(uses) for uses in builder.uses().values()) > cap  # the case where every question is of a cluster at its cap


def test_no_target_is_compared_with_every_question(question: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(matcher: TfIdf, text: int) -> NDArray[np.float64]:
        raise AssertionError("a text was compared with all texts")

    monkeypatch.setattr(TfIdf, "similarities", refuse)
    looked_at: list[int] = []
    conflict = Rules.conflict
    monkeypatch.setattr(Rules, "conflict", lambda rules, a, b: looked_at.append(1) or conflict(rules, a, b))
    pool = [question(f"q/{i:04}", question=text) for i, text in enumerate(zipf_texts(1000, vocabulary=2000))]
    texts = {text: i for i, text in enumerate(sorted({q.question for q in pool}))}
    builder = HistoryBuilder(pool, TfIdf(list(texts)), texts, seed=0, cap=dict.fromkeys(MODALITIES, 4))
    assert len(list(builder.groups(pool, ["T", "TT", "TTT"]))) == 1000
    assert len(looked_at) < 10 * len(pool)


# ---------------------------------------------------------------- the bytes of before


@pytest.mark.slow
def test_the_lab_benchmark_keeps_its_rows(tmp_path: Path) -> None:
    from builders.build import BuildOptions, build
    from iit_bench.storage.benchmark import load_manifest

    manifest = load_manifest(build(BuildOptions(out=tmp_path / "lab", preset="lab")))
    assert manifest["rows_sha256"] == "a62e5562edbcaf8d8375fe52dafd9f727d7b75dd62bb717362e43d308be9b325"
