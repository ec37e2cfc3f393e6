"""The data of the explorer, compared with the run folders they are made from."""

from __future__ import annotations

import bisect
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evaluators.arms.pixels import draw
from evaluators.iit.columns import Turns
from evaluators.iit.ledger import transitions
from evaluators.runs.options import RunOptions
from iit_bench.errors import UserError
from iit_bench.images import decode
from iit_bench.storage.runs import load_run
from iit_bench.types import TRANSITIONS, Image
from reports import links
from reports.leaderboard import report
from reports.samples.answers import CODES, NOT_ASKED, change
from reports.samples.pictures import LONGEST, Pictures
from reports.samples.questions import Asked, SampleSet, snippet, write_set
from reports.samples.scripts import CHUNK_ENTRIES, TEXT_CHARACTERS, Chunks, short
from reports.samples.static_pages import choose
from tests.resealed import reseal

DataOf = Callable[[Path, str], Any]
pytestmark = pytest.mark.slow


def all_of(data_of: DataOf, folder: Path, name: str, starts: list[int]) -> list[Any]:
    return [entry for number in range(len(starts)) for entry in data_of(folder, f"{name}-{number}")]


def ids_of(data_of: DataOf, folder: Path, key: str = "s0") -> list[str]:
    """The ids of a set in their order."""
    return [name for name, _ in all_of(data_of, folder, f"{key}-i", data_of(folder, key)["listed"])]


def run_named(data_of: DataOf, folder: Path, slug: str, arm: str = "") -> dict[str, Any]:
    (found,) = [run for run in data_of(folder, "catalogue")["runs"] if (run["slug"], run["arm"]) == (slug, arm)]
    return found


def test_every_prediction_of_every_run_is_in_the_data(real: SimpleNamespace, data_of: DataOf) -> None:
    ids = ids_of(data_of, real.folder)
    for name, run in real.runs.items():
        entry = run_named(data_of, real.folder, name)
        own = data_of(real.folder, entry["key"])
        answers = all_of(data_of, real.folder, f"{entry['key']}-a", own["answers"])
        assert len(answers) == len(own["outcomes"]) == len(ids)
        shown = {(ids[place], turn["p"]): turn for place, turns in enumerate(answers) for turn in turns}
        assert set(shown) == {(p.dialogue, p.position) for p in run.predictions}
        for p in run.predictions:
            turn = shown[p.dialogue, p.position]
            assert turn["o"] == CODES[p.outcome] and turn["k"] == p.chosen
            assert turn["l"] == pytest.approx(p.logprobs, abs=1e-4)
            assert turn.get("y", p.choices[p.chosen]) == p.reply
            if p.is_target:
                assert own["outcomes"][ids.index(p.dialogue)] == CODES[p.outcome]
        not_asked = [place for place, letter in enumerate(own["outcomes"]) if letter == NOT_ASKED]
        assert len(not_asked) == len(ids) - run.results.n_dialogues


def test_dialogues_and_questions_are_the_benchmarks(real: SimpleNamespace, data_of: DataOf) -> None:
    index, ids = data_of(real.folder, "s0"), ids_of(data_of, real.folder)
    dialogues = all_of(data_of, real.folder, "s0-d", index["dialogues"])
    questions = all_of(data_of, real.folder, "s0-q", index["questions"])
    assert ids == [dialogue.id for dialogue in real.bench.dialogues]
    snippets = all_of(data_of, real.folder, "s0-s", index["snippets"])
    assert snippets == [snippet(real.bench.questions[one["id"]].question) for one in questions]
    targets = [target for _, target in all_of(data_of, real.folder, "s0-i", index["listed"])]
    assert [questions[target]["id"] for target in targets] == [dialogue.target for dialogue in real.bench.dialogues]
    for dialogue, (turns, _) in zip(real.bench.dialogues, dialogues, strict=True):
        asked = [real.bench.questions[turn] for turn in dialogue.turns]
        assert [questions[turn]["id"] for turn in turns] == [question.id for question in asked]
        for question, turn in zip(asked, turns, strict=True):
            shown = questions[turn]
            assert (tuple(shown["choices"]), shown["answer"]) == (question.choices, question.answer)
            assert "".join(part for part in shown["parts"] if isinstance(part, str)).strip() == question.question.replace("<image>", "")
            files = [part["image"] for part in shown["parts"] if not isinstance(part, str)]
            assert len(files) == len(question.images)
            for (name, width, height), image in zip(files, question.images, strict=True):
                picture = decode((real.folder / "samples" / name).read_bytes())
                assert picture.size == (width, height) and picture.tobytes() == decode(image.data).tobytes()


def test_what_is_loaded_at_first_has_a_few_characters_per_dialogue_and_every_id_is_found(tmp_path: Path, data_of: DataOf) -> None:
    own = SampleSet(key="s0", name="made", kind="iit")
    for number in range(3 * CHUNK_ENTRIES):
        name = ("\U0001f9ca", "\uffee", "b", "<a>")[
            number % 4
        ] + f" {'long ' * 20}{number * 7919 % 3001}"  # code units order the first before \uffee
        own.enter(Asked(id=name, tier=("T", "TT", "TTT")[number % 3], source="a source", subject=f"subject {number % 40}"))
    sizes: dict[str, int] = {}

    def put(name: str, data: bytes) -> None:
        path = tmp_path / "samples" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sizes[name] = path.write_bytes(data)

    write_set(put, own, Pictures(tmp_path, put, lambda name, data: False))
    index = data_of(tmp_path, "s0")
    assert index["count"] == len(own.asked) and len(json.dumps(index, separators=(",", ":"))) < 8 * index["count"]
    assert len(index["listed"]) == len(index["sorted"]) == 3 and sizes["data/s0.js"] < max(sizes.values()) < 200_000
    units = [name.encode("utf-16-be") for name in index["sorted"]]
    assert units == sorted(units)
    for place, name in enumerate(ids_of(data_of, tmp_path)):
        script = bisect.bisect(units, name.encode("utf-16-be")) - 1
        if place % 50 == 0:
            assert dict(data_of(tmp_path, f"s0-o-{script}"))[name] == place == own.places[name]


def test_each_picture_is_one_file(real: SimpleNamespace) -> None:
    wanted = {image.sha256 for question in real.bench.questions.values() for image in question.images}
    files = list((real.folder / "samples" / "images").iterdir())
    asked = {turn for dialogue in real.bench.dialogues for turn in dialogue.turns}
    shown = {image.sha256 for turn in asked for image in real.bench.questions[turn].images}
    found = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files}
    drawn = {sha256: path for sha256, path in found.items() if sha256 not in wanted}
    assert len(found) == len(files) and shown <= set(found)
    assert len(drawn) == len({real.bench.questions[one.target].question for one in real.bench.dialogues if one.tier.endswith("T")})
    assert all(decode(path.read_bytes()).size == (448, 448) for path in drawn.values())  # by arm pixels


def test_prompts_are_those_of_the_run_folder(real: SimpleNamespace, data_of: DataOf) -> None:
    ids, entry = ids_of(data_of, real.folder), run_named(data_of, real.folder, "wings")
    own = data_of(real.folder, entry["key"])
    shown = all_of(data_of, real.folder, f"{entry['key']}-p", own["prompts"])
    columns = {name: column.to_pylist() for name, column in real.runs["wings"].prompt_columns().items()}
    wanted = {
        dialogue: [position, prompt, places]
        for dialogue, position, prompt, places in zip(
            columns["dialogue"], columns["position"], columns["prompt"], columns["image_places"], strict=True
        )
    }
    assert {ids[place]: turns[0] for place, turns in enumerate(shown)} == wanted
    assert not run_named(data_of, real.folder, "random")["prompts"]


@pytest.mark.parametrize("name", ["wings", "random"])
def test_what_changed_against_the_base_is_what_the_ledger_has(real: SimpleNamespace, data_of: DataOf, name: str) -> None:
    runs, ids = {}, ids_of(data_of, real.folder)
    for one in ("base-llm", name):
        runs[one] = data_of(real.folder, run_named(data_of, real.folder, one)["key"])["outcomes"]
    shown = {
        ids[place]: moved
        for place, (mine, base) in enumerate(zip(runs[name], runs["base-llm"], strict=True))
        if (moved := change(mine, base))
    }
    turns = {one: Turns.of_run(real.runs[one]) for one in ("base-llm", name)}
    wanted = {dialogue: moved for (dialogue, _), moved in transitions(turns[name], turns["base-llm"]).items()}
    assert shown == wanted and set(shown.values()) <= set(TRANSITIONS)


def test_an_arm_is_a_further_run_that_is_compared_with_its_own(real: SimpleNamespace, data_of: DataOf) -> None:
    arm = run_named(data_of, real.folder, "wings", "blind")
    assert arm["base"] == "wings" and "The target's images are removed." in arm["words"]
    assert run_named(data_of, real.folder, "wings")["base"] == "base-llm"


@pytest.mark.parametrize("name", ["blind", "moved-last", "irrelevant", "pixels"])
def test_an_arms_chat_is_what_the_model_read(real: SimpleNamespace, data_of: DataOf, name: str) -> None:
    """Beside the prompts that were recorded when the arm was asked: the words in their order, and each image in its place."""
    arm, ids = load_run(real.runs["wings"].path / "arms" / name, "iit"), ids_of(data_of, real.folder)
    asked = data_of(real.folder, run_named(data_of, real.folder, "wings", name)["key"])["asked"]
    chats = all_of(data_of, real.folder, asked["name"], asked["starts"])
    columns = {key: column.to_pylist() for key, column in arm.prompt_columns().items()}
    known = {one.id: one for one in real.bench.dialogues}
    assert sum(map(bool, chats)) == len(columns["dialogue"]) == arm.results.n_dialogues > 0
    for dialogue, prompt, places in zip(columns["dialogue"], columns["prompt"], columns["image_places"], strict=True):
        (((turn, parts),), replies) = chats[ids.index(dialogue)]
        assert turn == len(known[dialogue].turns) - 1 and replies == []
        earlier = sum(len(real.bench.questions[one].images) for one in known[dialogue].turns[:-1])
        found = _places(parts, prompt, places[earlier:])
        assert found == sorted(set(found), reverse=True)
        pictures = [decode((real.folder / "samples" / part["image"][0]).read_bytes()) for part in parts if not isinstance(part, str)]
        assert len(pictures) == len(places) - earlier
        target = real.bench.questions[known[dialogue].target]
        if name == "moved-last":
            assert [one.tobytes() for one in pictures] == [decode(image.data).tobytes() for image in target.images]
        if name == "pixels":
            assert pictures[0].tobytes() == decode(draw(target.question).data).tobytes()


def _places(parts: list[Any], prompt: str, images: list[int]) -> list[int]:
    """Where the parts of the last message are in a prompt, the last part first."""
    left = list(images)
    return [prompt.rindex(part.strip()) if isinstance(part, str) else left.pop() for part in reversed(parts)]


def test_no_file_is_large_and_the_same_runs_give_the_same_bytes(real: SimpleNamespace, tmp_path: Path) -> None:
    again = report([run.path for run in reversed(real.runs.values())], tmp_path / "again").parent
    files = sorted(path.relative_to(real.folder) for path in real.folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((real.folder / path).read_bytes() == (again / path).read_bytes() for path in files)


def test_a_report_into_the_same_folder_leaves_nothing_of_the_earlier_one_but_the_users_file(real: SimpleNamespace, tmp_path: Path) -> None:
    """The earlier one has other names, an arm, two models side by side and all dialogues."""
    out = shutil.copytree(real.folder, tmp_path / "out")
    (out / "samples" / "data" / "mine.txt").write_text("of the user")
    renamed = shutil.copytree(real.runs["base-llm"].path, tmp_path / "renamed")
    header = json.loads((renamed / "run.json").read_text())
    reseal(renamed / "run.json", header | {"name": "renamed"})
    again, fresh = (report([renamed], folder, samples=False).parent for folder in (out, tmp_path / "fresh"))
    files = [{path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} for folder in (again, fresh)]
    assert files[0] == files[1] | {"samples/data/mine.txt"}
    assert all((again / name).read_bytes() == (fresh / name).read_bytes() for name in files[1])


def test_static_pages_have_every_dialogue_and_every_answer(real: SimpleNamespace) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((real.folder / "samples" / "pages").iterdir()))
    for dialogue in real.bench.dialogues:
        assert f"<bdi>{dialogue.id}</bdi>" in text
    arms = [load_run(path, "iit") for path in (real.runs["wings"].path / "arms").iterdir()]
    answers = sum(run.results.n_dialogues for run in (*real.runs.values(), *arms))
    assert len(re.findall(r'<span class="outcome ', text)) == answers
    assert text.count("<summary>Arm ") == sum(arm.results.n_dialogues for arm in arms)
    assert text.count("</code>: The target&#39;s images are removed.</summary>") == sum(
        one.tier.endswith("V") for one in real.bench.dialogues
    )
    index = (real.folder / links.SAMPLES).read_text(encoding="utf-8")
    pages = {path.name for path in (real.folder / "samples" / "pages").iterdir()}
    assert set(re.findall(r'href="pages/([^"]+)"', index)) == pages


def test_static_pages_say_why_an_item_has_no_answer(make_run: Any, make_suite_run: Any, tmp_path: Path) -> None:
    runs = [make_run("a", n=3, failed=2, tiers=("T",)), make_suite_run("text", "b", {"arc_easy": 0.5}, n=5, failed=1)]
    pages = (report(runs, tmp_path / "report", samples=True).parent / "samples" / "pages").iterdir()
    text = "".join(path.read_text(encoding="utf-8") for path in pages)
    assert text.count("<small><bdi>out of memory: could not allocate 2 GiB</bdi></small>") == 2
    assert text.count("<small><bdi>server gone: refused</bdi></small>") == 1


def test_pages_show_first_what_changed_hands_then_what_is_wrong() -> None:
    base, mine = "ccccwwwwcc", "ccwccwwwcc"
    assert choose(10, [mine, base], [base, None], most=2) == [2, 4]  # lost, and gained
    found = choose(10, [mine, base], [base, None], most=5)
    assert found == [2, 4, 5, 6, 7]
    assert choose(10, [mine, base], [base, None], most=10) == list(range(10))


def test_the_explorer_is_written_where_the_benchmark_is_at_hand(real: SimpleNamespace, tmp_path: Path, make_run: Any) -> None:
    run = real.runs["base-llm"].path
    page = report([run], tmp_path / "without", samples=False)
    assert not (page.parent / "samples").exists() and "--no-samples" in page.read_text(encoding="utf-8")
    lost = make_run("gone", n=3)
    page = report([lost], tmp_path / "gone-report")
    assert not (page.parent / "samples").exists() and "--bench DIR" in page.read_text(encoding="utf-8")
    page = report([lost], tmp_path / "shown", samples=True)
    assert "questions are not shown" in (page.parent / links.SAMPLES).read_text(encoding="utf-8")


def test_many_predictions_are_shown_only_when_asked_for(real: SimpleNamespace, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("reports.samples.gather.MOST", 10)
    page = report([real.runs["base-llm"].path], tmp_path / "few")
    assert not (page.parent / "samples").exists() and "Add --samples" in page.read_text(encoding="utf-8")
    assert (report([real.runs["base-llm"].path], tmp_path / "all", samples=True).parent / links.SAMPLES).is_file()


def test_dialogues_in_a_row_that_a_run_was_not_asked_are_no_obstacle(real: SimpleNamespace, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("reports.samples.answers.BLOCK", 2)  # base-llm is asked no dialogue with a picture
    again = report([run.path for run in real.runs.values()], tmp_path / "again").parent
    data = [path.relative_to(real.folder) for path in (real.folder / "samples").rglob("*.js")]
    assert all((again / path).read_bytes() == (real.folder / path).read_bytes() for path in data)


def test_items_of_tasks_are_listed(make_suite_run: Any, tmp_path: Path, data_of: DataOf) -> None:
    runs = [make_suite_run("text", "a", {"arc_easy": 0.5, "piqa": 0.9}, n=5), make_suite_run("vqa", "a", {"MME": 0.5}, n=4)]
    folder = report(runs, tmp_path / "report").parent
    sets = {one["kind"]: one for one in data_of(folder, "catalogue")["sets"]}
    assert (sets["text"]["count"], sets["vqa"]["count"]) == (10, 4)
    index = data_of(folder, sets["text"]["key"])
    assert ids_of(data_of, folder, sets["text"]["key"])[0] == "arc_easy:0" and index["source"]["names"] == ["arc_easy", "piqa"]
    run = next(one for one in data_of(folder, "catalogue")["runs"] if one["set"] == sets["text"]["key"])
    ((turn,),) = data_of(folder, f"{run['key']}-a-0")[:1]
    assert turn["y"] == "a reply" and turn["s"][0][0] == "acc"


def test_items_of_a_real_text_run_have_their_words_and_log_probabilities(tmp_path: Path, data_of: DataOf) -> None:
    from evaluators.text.evaluate import evaluate_text

    out = tmp_path / "text"
    options = RunOptions(suite="text", model="base-llm", tasks=("iit_facts",), limit=3, device="cpu", out=out)
    evaluate_text(options, progress=False)
    folder = report([out], tmp_path / "report").parent
    (run,), ids = data_of(folder, "catalogue")["runs"], ids_of(data_of, folder)
    questions, answers = data_of(folder, "s0-q-0"), data_of(folder, f"{run['key']}-a-0")
    lines = {
        f"{re.fullmatch(r'samples_(.+)_[0-9]{4}-.*', path.name)[1]}:{line['doc_id']}": line  # type: ignore[index]
        for path in (out / "lm_eval").rglob("samples_*.jsonl")
        for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    }
    assert set(ids) == set(lines) and len(lines) > 3
    for place, name in enumerate(ids):
        first = _listed(lines[name]["arguments"])[0]
        context = next(iter(first.values())) if isinstance(first, dict) else first[0]
        assert questions[place]["parts"] == [context] and questions[place]["answer"] == int(lines[name]["target"])
        assert answers[place][0]["l"] == pytest.approx([float(one[0][0]) for one in lines[name]["resps"]], abs=1e-4)


def _listed(arguments: Any) -> list[Any]:
    return list(arguments.values()) if isinstance(arguments, dict) else list(arguments)


# ---------------------------------------------------------------- parts


def test_chunks_end_by_count_and_by_size_and_starts_lead_to_every_entry() -> None:
    files: dict[str, bytes] = {}
    chunks = Chunks(files.__setitem__, "x")
    entries = [["y" * (2_000_000 if i == 5 else 1)] for i in range(CHUNK_ENTRIES + 10)]
    for entry in entries:
        chunks.add(entry)
    assert chunks.end() == [0, 6, CHUNK_ENTRIES + 6] and set(files) == {f"data/x-{i}.js" for i in range(3)}
    empty = Chunks(files.__setitem__, "empty")
    assert empty.end() == [0] and "data/empty-0.js" in files


def test_long_texts_are_cut_and_what_is_cut_is_counted() -> None:
    assert short("a" * TEXT_CHARACTERS) == "a" * TEXT_CHARACTERS
    assert short("a" * (TEXT_CHARACTERS + 7)) == ["a" * TEXT_CHARACTERS, 7]


def test_large_and_unreadable_pictures(tmp_path: Path, make_image: Any) -> None:
    import io

    from PIL import Image as PillowImage

    files: dict[str, bytes] = {}
    pictures = Pictures(tmp_path, files.__setitem__, lambda name, data: False)
    sink = io.BytesIO()
    PillowImage.new("RGB", (3 * LONGEST, 300), "red").save(sink, "PNG")
    name, width, height = pictures.shown(Image(sink.getvalue()))
    assert (width, height) == (LONGEST, 100) and decode(files[name]).size == (width, height)
    small = make_image(1)
    assert files[pictures.shown(small)[0]] == small.data
    assert pictures.shown(Image(b"no picture")) == ("", 0, 0) and pictures.unreadable == 1


def test_the_headline_leads_to_the_items_that_were_lost(real: SimpleNamespace) -> None:
    front = (real.folder / "index.html").read_text(encoding="utf-8").partition("</header>")[0]
    assert '<a href="samples/index.html#run=wings&amp;change=lost"><bdi>What wings lost, item by item</bdi></a>' in front
    assert '<a href="pairs/base-llm--wings.html"><bdi>wings and its base, side by side</bdi></a>' in front
    own = (real.folder / "models" / "wings.html").read_text(encoding="utf-8").partition("</header>")[0]
    assert '<a href="../samples/index.html#run=wings&amp;change=lost"><bdi>What it lost against base-llm</bdi></a>' in own
    assert "change=lost" not in (real.folder / "models" / "base-llm.html").read_text(encoding="utf-8")


def test_addresses_of_items_hold_any_id() -> None:
    assert links.item("wings", "a b&item=c#<é") == "samples/index.html#run=wings&item=a%20b%26item%3Dc%23%3C%C3%A9"
    assert links.samples("wings", change="lost") == "samples/index.html#run=wings&change=lost"


def test_another_benchmark_is_refused_for_the_explorer_too(real: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        report([real.runs["base-llm"].path], tmp_path / "report", bench=tmp_path, samples=True)
