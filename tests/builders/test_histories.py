from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from builders.dialogues import Dialogues
from builders.histories import HistoryBuilder, leaks, trie, use_cap
from builders.matching import TfIdf, make_matcher
from builders.tiers import FULL, parse_tiers
from builders.words import words
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Dialogue, Question

Make = Callable[..., Question]


def build_histories(pool: Sequence[Question], targets: Sequence[Question], tiers: Sequence[str], match: str = "tfidf") -> list[Dialogue]:
    texts = {text: i for i, text in enumerate(sorted({q.question for q in pool}))}
    builder = HistoryBuilder(pool, make_matcher(match, list(texts)), texts, seed=0, cap=use_cap(targets, pool, tiers))
    return list(Dialogues(list(builder.groups(targets, tiers)), tuple(tiers)))


def test_trie_holds_every_prefix_of_every_history_parents_first() -> None:
    assert trie(("T", "TV", "VTV", "VVT"), "V") == ["T", "V", "VT"]
    assert trie(FULL, "T") == ["T", "V", "TT", "TV", "VT", "VV"]
    assert trie(("TTTTTTTV",), "V") == ["T" * n for n in range(1, 8)]
    assert trie(("T", "V"), "V") == []


# ---------------------------------------------------------------- the rules, checked on a built benchmark


def test_every_target_has_a_dialogue_in_every_tier_that_ends_in_its_modality(small_lab: Benchmark) -> None:
    tiers = defaultdict(set)
    for dialogue in small_lab.dialogues:
        tiers[dialogue.group].add(dialogue.tier)
        assert "".join(small_lab.questions[turn].modality for turn in dialogue.turns) == dialogue.tier
        assert dialogue.turns[-1] == dialogue.target == dialogue.group
        assert dialogue.visual_share == dialogue.tier.count("V") / len(dialogue.tier)
    for group, group_tiers in tiers.items():
        assert group_tiers == {tier for tier in FULL if tier.endswith(small_lab.questions[group].modality)}
    assert len(tiers) == 24


def test_no_two_turns_share_a_cluster_an_image_or_a_text(small_lab: Benchmark) -> None:
    for dialogue in small_lab.dialogues:
        turns = [small_lab.questions[turn] for turn in dialogue.turns]
        assert len({turn.cluster for turn in turns}) == len(turns)
        images = [image.sha256 for turn in turns for image in turn.images]
        assert len(set(images)) == len(images)
        texts = [words(turn.question) for turn in turns if turn.modality == "T"]
        assert len(set(texts)) == len(texts)


def test_no_history_question_contains_the_targets_answer(small_lab: Benchmark) -> None:
    exposed = 0
    for dialogue in small_lab.dialogues:
        answer = small_lab.questions[dialogue.target].answer_text.casefold()
        if len(answer) < 3 or answer in ("yes", "no"):
            continue
        for turn in dialogue.turns[:-1]:
            exposed += 1
            assert f" {answer} " not in f" {' '.join(words(small_lab.questions[turn].question))} "
    assert exposed > 50


def test_histories_of_one_group_share_their_first_turns(small_lab: Benchmark) -> None:
    prefixes = defaultdict(set)
    for dialogue in small_lab.dialogues:
        for n in range(1, len(dialogue.tier)):
            prefixes[dialogue.group, dialogue.tier[:n]].add(dialogue.turns[:n])
    assert all(len(turns) == 1 for turns in prefixes.values())


def test_use_of_history_clusters_is_capped_and_reported(small_lab: Benchmark) -> None:
    serving = defaultdict(set)
    for dialogue in small_lab.dialogues:
        for turn in dialogue.turns[:-1]:
            serving[small_lab.questions[turn].modality, small_lab.questions[turn].cluster].add(dialogue.group)
    for modality, entry in small_lab.manifest["history_use"].items():
        uses = Counter(len(groups) for (of, _), groups in serving.items() if of == modality)
        assert entry["groups_served"] == {str(n): count for n, count in sorted(uses.items())}
        assert max(uses) == entry["highest"] <= entry["cap"]


# ---------------------------------------------------------------- the rules, one by one


def test_the_first_turn_is_the_nearest_allowed_question_ties_by_id(question: Make) -> None:
    subjects = ["copper", "iron", "zinc", "copper wire", "iron wire", "the price of copper wire", "iron", "nickel and iron"]
    pool = [
        question(f"q/{i}", question=f"What is known about {about} ({i % 2})?", choices=("yellow", "grey"))
        for i, about in enumerate(subjects)
    ]
    texts = {text: i for i, text in enumerate(sorted({q.question for q in pool}))}
    matcher = TfIdf(list(texts))
    for target in pool:
        near = matcher.similarities(texts[target.question])
        allowed = [q for q in sorted(pool, key=lambda q: q.id) if q.id != target.id and near[texts[q.question]] < 0.95]
        expected = max(allowed, key=lambda q: near[texts[q.question]])  # the first of the highest
        (dialogue,) = build_histories(pool, [target], ["TT"])
        assert dialogue.turns == (expected.id, target.id)


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("Which metal is red?", "which METAL is red"),  # equal words
        ("Which metal is red?", "Red metal is which?"),  # similarity 1
        ("???", "???"),  # equal, though without words nothing is similar
    ],
)
@pytest.mark.parametrize("match", ["tfidf", "none"])
def test_near_duplicates_of_text_are_out(question: Make, text: str, again: str, match: str) -> None:
    pool = [question(f"t/{i}", question=q, choices=("copper", "iron")) for i, q in enumerate((text, again, "Where do whales sleep?"))]
    assert build_histories(pool, pool[:1], ["TT"], match)[0].turns == ("t/2", "t/0")


def test_equal_text_over_another_image_is_in(question: Make) -> None:
    seen = [question(f"v/{i}", images=(bytes([i]),), question="What colour is it?", choices=("copper", "iron")) for i in range(2)]
    assert build_histories(seen, [seen[0]], ["VV"])[0].turns[0] == "v/1"


@pytest.mark.parametrize("match", ["tfidf", "none"])
def test_shared_cluster_and_shared_image_are_out(question: Make, match: str) -> None:
    target = question("v/0", images=(b"one",), cluster="c0")
    same_cluster = question("v/1", images=(b"two",), cluster="c0")
    same_image = question("v/2", images=(b"three", b"one"), cluster="c2")
    fine = question("v/3", images=(b"four",), cluster="c3")
    pool = [target, same_cluster, same_image, fine]
    assert build_histories(pool, [target], ["VV"], match)[0].turns[0] == "v/3"
    with pytest.raises(UserError, match=r"no visual question is left to precede target 'v/0' in tier 'VVV' \(of 4 candidates\)"):
        build_histories(pool, [target], ["VVV"], match)


def test_leaks_need_the_answer_as_whole_words(question: Make) -> None:
    target = question(choices=("Black Sea", "Red Sea"))
    assert leaks(target, words("Which rivers flow into the black sea?"))
    assert not leaks(target, words("Is the sea black?"))
    assert not leaks(target, words("Who sails blackseas?"))
    assert leaks(question(choices=("黑海边", "红海")), words("黑海边有什么？"))


@pytest.mark.parametrize("answer", ["no", "Yes", "Au", "7"])
def test_short_answers_and_yes_no_cannot_leak(question: Make, answer: str) -> None:
    assert not leaks(question(choices=(answer, "something else")), words(f"Does {answer} stand here?"))


def test_a_leaking_neighbour_is_skipped_for_the_next(question: Make) -> None:
    target = question("a", question="Which metal is a good conductor of heat?", choices=("copper", "glass"))
    leaking = question("b", question="Is copper a metal and a good conductor of heat?", choices=("maybe", "surely"))
    far = question("c", question="Where do whales sleep?", choices=("sea", "land"))
    assert build_histories([target, leaking, far], [target], ["TT"])[0].turns == ("c", "a")


def test_without_meaning_histories_spread_evenly(question: Make) -> None:
    pool = [question(f"q/{i}", question=f"word{i} thing{i}?", choices=("x1", "y2")) for i in range(200)]
    dialogues = build_histories(pool, pool, ["TT"], "none")
    use = Counter(dialogue.turns[0] for dialogue in dialogues)
    assert max(use.values()) <= 4
    assert 100 < len(use) < 160  # about 200 * (1 - 1/e) = 126 where each history is drawn at random


def test_the_cap_is_twice_an_even_spread(question: Make) -> None:
    pool = [question(f"q/{i}") for i in range(10)]
    assert use_cap(pool, pool, parse_tiers("T,TT,TTT"))["T"] == 4  # 20 slots for 10 questions
    assert use_cap(pool, pool[:2], parse_tiers("T,TT,TTT"))["T"] == 20


def test_a_long_tier_has_distinct_turns(question: Make) -> None:
    pool = [question(f"q/{i}", question=f"What about subject {i}?", choices=("x1", "y2")) for i in range(30)]
    (dialogue,) = build_histories(pool, pool[:1], ["T" * 8])
    assert len(set(dialogue.turns)) == 8
    assert np.isclose(dialogue.visual_share, 0)
