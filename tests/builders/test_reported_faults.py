"""Faults of the builder that were reported, one test each: what was wrong, and what is right."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from builders.build import BuildOptions, build, summary
from builders.choices import ordered
from builders.fixed_order import refers_to_others
from iit_bench.errors import UserError
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.storage.format import sha256_file
from iit_bench.types import Image, Question

Make = Callable[..., Question]
Serve = Callable[..., None]


def plain(i: int, k: int, modality: str = "T") -> Question:
    """A question with k choices, the first of which is right."""
    images = (Image(bytes([i % 251, i // 251])),) if modality == "V" else ()
    choices = tuple(f"{'abcdefghij'[c]}{i}" for c in range(k))
    return Question(
        id=f"{modality}/{i}", modality=modality, source="made", subject="s", cluster=str(i), language="en", question=f"What {i}?",
        images=images, choices=choices, answer=0, answer_text=choices[0],
    )  # fmt: skip


# ---------------------------------------------------------------- positions of the gold answer


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gold_positions_of_the_lab_are_balanced(tmp_path: Path, seed: int) -> None:
    """Seed 0 had its 300 gold answers at [93, 87, 58, 62]; right is 75 each, whatever the seed."""
    built = load_benchmark(build(BuildOptions(out=tmp_path / "b", preset="lab", seed=seed, tiers="T,V")))
    counts: dict[tuple[str, int], Counter[int]] = defaultdict(Counter)
    for question in built.questions.values():
        if not question.fixed_order:
            counts[question.modality, len(question.choices)][question.answer] += 1
    assert counts["T", 4] == dict.fromkeys(range(4), 75)
    assert all(max(of[p] for p in range(k)) - min(of[p] for p in range(k)) <= 1 for (_, k), of in counts.items())
    written = {(modality, int(k)): of for modality, by_k in built.manifest["gold_positions"].items() for k, of in by_k.items()}
    assert written == {(modality, k): [of[p] for p in range(k)] for (modality, k), of in counts.items()}


@settings(deadline=None)
@given(st.lists(st.integers(2, 6), min_size=1, max_size=60), st.integers(0, 99))
def test_no_constant_position_beats_chance_by_more_than_rounding(ks: list[int], seed: int) -> None:
    """Remainders of different numbers of choices must not add up at one position: always-first gains less than one answer over chance."""
    made = ordered([plain(i, k) for i, k in enumerate(ks)], seed)
    chance = sum(Fraction(1, k) for k in ks)
    assert all(sum(question.answer == position for question in made) - chance <= 1 for position in range(6))
    assert [question.answer_text for question in made] == [f"a{i}" for i in range(len(ks))]
    assert all(question.choices[question.answer] == question.answer_text for question in made)


def test_the_first_groups_are_balanced_too() -> None:
    """A run with --limit takes the first groups: any first part of them has each position equally often, to within one."""
    made = ordered([plain(i, 4) for i in range(100)], 0)
    for n in range(1, 101):
        counts = Counter(question.answer for question in made[:n])
        assert max(counts.values()) - min(counts[p] for p in range(4)) <= 1
    assert [question.answer for question in made[:8]] != [question.answer for question in made[8:16]]  # not one pattern again and again


def test_choices_in_fixed_order_are_not_dealt(question: Make) -> None:
    """Choices that refer to others keep their source order, and do not count in the balance of the rest."""
    pool = [question(f"q/{i}", choices=("a1", "b2", "all of the above"), answer=2, fixed_order=True) for i in range(9)]
    assert list(ordered(pool, 0)) == pool


# ---------------------------------------------------------------- histories


def picture(i: int) -> bytes:
    out = BytesIO()
    Pillow.new("RGB", (4, 4), (i % 256, i // 256, 7)).save(out, "PNG")
    return out.getvalue()


def seen(images: int, per_image: int, make: Make) -> list[Question]:
    """Visual questions, several about each image, with the same words about all images."""
    return [
        make(f"v/{i:03}/{j}", images=(picture(i),), cluster=f"image {i}", source="pictures", question=f"What is at place {j}?")
        for i in range(images)
        for j in range(per_image)
    ]


def served(built: Benchmark, modality: str) -> dict[str, set[str]]:
    """Cluster -> groups in which its questions are history."""
    groups: dict[str, set[str]] = defaultdict(set)
    for dialogue in built.dialogues:
        for turn in dialogue.turns[:-1]:
            if built.questions[turn].modality == modality:
                groups[built.questions[turn].cluster].add(dialogue.group)
    return groups


@pytest.mark.slow
def test_visual_histories_of_the_lab_rest_on_hundreds_of_images(tmp_path: Path) -> None:
    """The lab's 300 visual targets rested on 49 images; right: no image serves more than 4 groups, so at least 75 serve in a turn."""
    built = load_benchmark(build(BuildOptions(out=tmp_path / "b", preset="lab", tiers="T,VT,V,VV,VVV")))
    groups = served(built, "V")
    assert max(map(len, groups.values())) == 4
    assert len(groups) > 200
    for tier in ("VT", "VV", "VVV"):
        for position in range(len(tier) - 1):
            per_image = Counter(built.questions[d.turns[position]].cluster for d in built.dialogues if d.tier == tier)
            assert per_image.total() == 300
            assert max(per_image.values()) <= 4
            assert built.manifest["history_turns"][tier][position]["clusters"] == len(per_image) >= 75


@pytest.mark.parametrize("match", ["tfidf", "none"])
def test_histories_do_not_rest_on_a_few_images(tmp_path: Path, question: Make, serve: Serve, match: str) -> None:
    """300 visual targets rested on 49 history images, as the cap counted questions; right: no image serves more groups than the cap."""
    serve("pictures", seen(60, 10, question))
    built = load_benchmark(build(BuildOptions(out=tmp_path / "b", visual=("pictures",), tiers="V,VV", size=60, match=match)))
    groups = served(built, "V")
    entry = built.manifest["history_use"]["V"]
    assert max(map(len, groups.values())) <= entry["cap"] == 4
    assert len(groups) >= 15
    assert entry["clusters"] == len(groups)
    assert entry["groups_served"] == {str(n): count for n, count in sorted(Counter(map(len, groups.values())).items())}


def test_the_cap_rises_where_there_are_too_few_clusters_and_the_manifest_records_it(tmp_path: Path, question: Make, serve: Serve) -> None:
    """A build ended in an error where every fitting question was at its cap; right: the least used cluster serves once more, recorded."""
    lone = [question(f"w/{i}", source="words", cluster="one passage", question=f"What of whales {i}?") for i in range(10)]
    serve("words", [question(f"t/{i}", source="words", cluster="other passage", question=f"What of iron {i}?") for i in range(2)] + lone)
    built = load_benchmark(build(BuildOptions(out=tmp_path / "b", text=("words",), tiers="T,TT", size=12)))
    groups = served(built, "T")
    entry = built.manifest["history_use"]["T"]
    assert {cluster: len(of) for cluster, of in groups.items()} == {"one passage": 2, "other passage": 10}
    assert (entry["cap"], entry["highest"], entry["clusters_above_cap"]) == (12, 10, 0)  # an even share of 2 clusters is 6
    leaking = [
        question(f"f/{i}", source="leaky", cluster=f"passage {i}", question=f"Iron of place{i}?", choices=("iron", "zinc"))
        for i in range(8)
    ]
    serve("leaky", [*leaking, *(question(f"n/{i}", source="leaky", cluster="the only one", question=f"Whales {i}?") for i in range(2))])
    built = load_benchmark(build(BuildOptions(out=tmp_path / "c", text=("leaky",), tiers="T,TT", size=8)))
    entry = built.manifest["history_use"]["T"]
    assert entry["highest"] == max(len(of) for of in served(built, "T").values()) > entry["cap"]
    assert entry["clusters_above_cap"] == 1


@pytest.mark.slow
def test_the_manifest_counts_history_questions_and_clusters_per_tier_and_turn(small_lab: Benchmark) -> None:
    """The manifest counted history questions per modality only; right: questions and clusters per tier and turn, here counted again."""
    for tier, turns in small_lab.manifest["history_turns"].items():
        of_tier = [dialogue.turns for dialogue in small_lab.dialogues if dialogue.tier == tier]
        for position, entry in enumerate(turns):
            ids = {ids[position] for ids in of_tier}
            assert entry == {"questions": len(ids), "clusters": len({small_lab.questions[one].cluster for one in ids})}
    assert {tier: len(turns) for tier, turns in small_lab.manifest["history_turns"].items()} == {
        tier: len(tier) - 1 for tier in small_lab.tiers if len(tier) > 1
    }


# ---------------------------------------------------------------- choices


@pytest.fixture
def counting(question: Make, serve: Serve) -> list[Question]:
    """A source `numbers` of 24 questions, every third of which has the choices 1 and 10."""
    pool = [
        question(
            f"n/{i:02}", source="numbers", question=f"How many of kind{i}?", choices=("1", "10", "7") if i % 3 == 0 else ("4", "5", "7")
        )
        for i in range(24)
    ]
    serve("numbers", pool)
    return pool


def test_a_choice_that_begins_another_keeps_its_question(tmp_path: Path, counting: list[Question]) -> None:
    """A question with the choices 1 and 10 was left out for every style; right: kept and flagged, also as a history."""
    built = load_benchmark(build(BuildOptions(out=tmp_path / "b", text=("numbers",), tiers="T,TT", size=24)))
    flagged = {question.id for question in built.questions.values() if question.prefix_choices}
    assert flagged == {f"n/{i:02}" for i in range(0, 24, 3)}
    assert flagged & {turn for dialogue in built.dialogues for turn in dialogue.turns[:-1]}
    assert built.manifest["prefix_choices"] == 8
    assert built.manifest["sources"]["numbers"]["left_out"] == {}


# Language -> choices, separated by "; ".
PHRASES = {
    "en": "All of the above; Only A; 1 and 3; the one above; none of the given options; None of the options are correct; "
    "Both 1 and 3; 2 only; I, II and III; I and II only; Neither (a) nor (c); Statements 1 and 2; "
    "All answers are correct",
    "zh": "以上都是; A和B; 仅①; 只有A; ①②③; 以上皆非; A與C; 上述都不對; 都正确",
    "ja": "上記のすべて; AとB; いずれも正しくない; Aのみ",
    "ko": "위의 모두; 모두 맞다; A와 B; A만; 해당 없음",
    "ar": "كل ما سبق; لا شيء مما سبق; أ و ب; جميع الإجابات صحيحة",
    "fa": "هیچ کدام; همه موارد",
    "ru": "Все вышеперечисленное; Ничего из перечисленного; А и Б; Только А; 1 и 3; Все ответы верны; Ни один из этих вариантов",
    "uk": "Усе перераховане; Жоден із наведених варіантів; Лише А",
    "tr": "Yukarıdakilerin hepsi; Hiçbiri; A ve B; Yalnız A; 1 ve 3",
    "pt": "Todas as alternativas acima; Nenhuma das anteriores; A e B; Apenas A; 1 e 3; Nenhuma das opções",
    "es": "Todas las anteriores; Ninguna de las opciones; A y B; Solo A; Todo lo anterior",
    "ca": "Totes les anteriors; Cap de les anteriors",
    "fr": "Toutes les réponses ci-dessus; Aucune de ces réponses; A et B; Seulement A",
    "de": "Alle oben genannten; Keine der Antworten; A und B; Nur A; Nichts davon; Alle diese Aussagen",
    "it": "Tutte le precedenti; Nessuna delle risposte; A e B; Solo A",
    "nl": "Alle bovenstaande; Geen van de antwoorden; A en B; Alleen A",
    "sv": "Alla av dessa; Inget av ovanstående; A och B",
    "da": "Alle ovenstående; Ingen av disse; A og B",
    "fi": "Kaikki edellä mainitut",
    "pl": "Wszystkie powyższe; Żadna z odpowiedzi; A i B; Tylko A",
    "cs": "Všechny výše uvedené; Žádná z možností; Všetky vyššie uvedené",
    "hu": "A fentiek mindegyike; Egyik sem; A és B",
    "ro": "Toate cele de mai sus; Niciuna dintre variantele date; Doar A",
    "el": "Όλα τα παραπάνω; Κανένα από τα παραπάνω; Μόνο A",
    "sr": "Sve navedeno; Ništa od navedenog; Ниједно од наведених",
    "bg": "Всички изброени; Нито едно от посочените",
    "hi": "उपर्युक्त सभी; इनमें से कोई नहीं; केवल A",
    "kn": "ಮೇಲಿನ ಎಲ್ಲವೂ",
    "ml": "ഇവയെല്ലാം",
    "ta": "மேற்கண்ட அனைத்தும்",
    "te": "పైవన్నీ",
    "gu": "ઉપરોક્ત તમામ",
    "he": "כל התשובות נכונות; א ו ב",
    "eu": "Aurreko guztiak",
    "is": "Allt ofangreint",
    "hy": "վերը նշված բոլորը",
    "ur": "ان میں سے کوئی نہیں",
    "bn": "উপরের সবগুলো; কোনোটিই নয়",
    "id": "Semua jawaban di atas; Tidak ada yang di atas; A dan B; Hanya A",
    "vi": "Tất cả các đáp án trên; A và B; Chỉ A; Không có đáp án nào ở trên",
    "th": "ถูกทุกข้อ; ไม่มีข้อใดถูก; ก และ ข",
    "sw": "Zote hapo juu",
}


PHRASED = [(language, choice) for language, choices in PHRASES.items() for choice in choices.split("; ")]


@pytest.mark.parametrize(("language", "choice"), PHRASED)
def test_a_choice_that_refers_to_others_is_recognised_in_the_sources_languages(language: str, choice: str) -> None:
    """Only English and Chinese phrases were known, and neither "Only A", "1 and 3" nor "the one above": such choices were shuffled."""
    assert refers_to_others(choice)


ORDINARY = (
    "vitamin C; none; rock and roll; Plan B; only on Mondays; between 1 and 3 hours; 3; the sky above us; "
    "all men are mortal; World War I and II veterans; 1 1/2; and; I; World War II; 桌子上面; 以色列; 和平; 東京; "
    "Tokyo and Kyoto; e.g. a hat; Alle Menschen; tous les jours; toda la noche; todos os dias; все люди; her gün; "
    "di atas meja; trên bàn; 모두의 학교; كل يوم; सब लोग; Nur am Montag; A; both parents; one of the planets; "
    "some of the gas; "
    "ở trên bàn; മേശയുടെ മുകളിൽ; ಮೇಜಿನ ಮೇಲಿನ ಪುಸ್ತಕ"
)


@pytest.mark.parametrize("choice", ORDINARY.split("; "))
def test_ordinary_choices_are_not_taken_for_references(choice: str) -> None:
    """What looks similar and refers to no other choice is shuffled like any other."""
    assert not refers_to_others(choice)


# ---------------------------------------------------------------- folders of earlier versions


def test_a_benchmark_of_version_1_is_read(small_lab: Benchmark, tmp_path: Path) -> None:
    """Tables of version 1 have no column prefix_choices, as no such question was kept: it reads as false everywhere."""
    name = "questions/test-00000-of-00001.parquet"
    for table in (name, "dialogues/test-00000-of-00001.parquet"):
        (tmp_path / table).parent.mkdir()
        columns = pq.read_table(small_lab.path / table)
        pq.write_table(columns.drop_columns([c for c in columns.column_names if c == "prefix_choices"]), tmp_path / table)
    manifest: dict[str, Any] = {**small_lab.manifest, "version": 1}
    manifest["files"] = {table: sha256_file(tmp_path / table) for table in manifest["files"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    old = load_benchmark(tmp_path)
    assert old.questions == small_lab.questions
    assert not any(question.prefix_choices for question in old.questions.values())


def test_more_choices_than_letters_are_one_sentence(question: Make) -> None:
    """Style letters ended in an IndexError at the 27th choice; right: a sentence that names the question."""
    from iit_bench.asking import check_letters

    check_letters([question(choices=[f"c{i}" for i in range(26)])])
    with pytest.raises(UserError, match=r"question 'q/0' has 27 choices, and style letters has 26 letters; use style options or cloze"):
        check_letters([question(choices=[f"c{i}" for i in range(27)])])


def test_one_tier_is_not_called_1_tiers(tmp_path):
    """The end of a build said "in 1 tiers"."""
    said = [
        summary(load_benchmark(build(BuildOptions(out=tmp_path / tiers, preset="lab", size=2, tiers=tiers))).manifest)
        for tiers in ("T", "T,V")
    ]
    assert ["in 1 tier," in one for one in said] == [True, False] and "in 2 tiers," in said[1]
