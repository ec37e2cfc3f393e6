"""Every record is checked before the first step, once: counted by reason, and the run ends where too many are refused."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from iit_bench.errors import UserError
from iit_bench.images import UNREADABLE
from iit_bench.training.chats import checking, pictures, reading, tallies
from iit_bench.training.chats.mixture import Mixture
from iit_bench.training.chats.reading import Encoding, Source
from iit_bench.training.recipe import fill
from iit_bench.training.records import Dialogues, Part
from tests.training.chats.conftest import llava, picture

PAGE = Path(__file__).parents[3] / "docs/how-to/train.md"
RECORDS = [llava(0, "red.png"), llava(1, "gone.png"), llava(2), llava(3, answer="<|end|>"), llava(4, "blue.png"), llava(5, "away.png")]


def data(path: Path, **more: float) -> Dialogues:
    return Dialogues(mixture=(Part(source=str(path)),), **more)


def test_records_are_counted_by_reason(written: Callable[..., Path], encoding: Encoding) -> None:
    path = written(RECORDS)
    report, _ = checking.check(data(path), encoding)
    (part,) = report.parts
    assert (part.records, part.numbers, part.images, part.share) == (6, [1, 3, 5], 2, 0.5)
    assert {reason: (of.count, of.examples) for reason, of in part.refused.items()} == {
        pictures.MISSING: (2, ["train.json record 1: gone.png", "train.json record 5: away.png"]),
        reading.SPECIAL_TOKEN: (1, ["train.json record 3: <|end|>"]),
    }
    rows = [Source(Part(source=str(path)), encoding).row(number) for number in (0, 2, 4)]
    assert (part.tokens, part.labelled) == (sum(len(row.ids) for row in rows), sum(row.labelled for row in rows))
    assert "image missing," in report.table() and "first: train.json record 1: gone.png" in report.table()
    assert {"source": "train.json", "records": 6}.items() <= report.as_json()[0].items()
    json.dumps(report.as_json())


def test_an_image_that_is_damaged_behind_its_header_is_counted_by_default(
    written: Callable[..., Path], encoding: Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = written(RECORDS), tmp_path / "out"
    (path.parent / "blue.png").write_bytes(picture("blue", (90, 90))[:-40])
    (header_only,) = checking.check(data(path, pixels=False), encoding, out)[0].parts
    assert header_only.numbers == [1, 3, 5]
    (part,) = checking.check(data(path), encoding)[0].parts
    assert part.numbers == [1, 3, 4, 5] and part.refused[UNREADABLE].examples == ["train.json record 4: blue.png: image file is truncated"]
    monkeypatch.setattr("iit_bench.training.checkpoint.find", lambda folder: folder)  # a training that began by headers keeps its rows
    (begun,) = checking.check(data(path), encoding, out)[0].parts
    assert begun.numbers == [1, 3, 5]


def test_an_image_that_is_mended_is_trained_on_by_the_same_command_until_a_training_has_begun(
    written: Callable[..., Path], encoding: Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = written(RECORDS), tmp_path / "out"
    assert checking.check(data(path), encoding, out)[0].parts[0].numbers == [1, 3, 5]
    (path.parent / "gone.png").write_bytes(picture())
    (mended,) = checking.check(data(path), encoding, out)[0].parts
    assert (mended.numbers, mended.images) == ([3, 5], 3)
    monkeypatch.setattr("iit_bench.training.checkpoint.find", lambda folder: folder)
    (path.parent / "away.png").write_bytes(picture())
    assert checking.check(data(path), encoding, out)[0].parts[0].numbers == [3, 5]


def test_the_bar_ends_at_the_number_of_records(written: Callable[..., Path], encoding: Encoding, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "AT_ONCE", 4)
    moves: list[int] = []
    tallies.count(Source(Part(source=str(written(RECORDS))), encoding), False, moves.append)
    assert moves == [4, 2]


@pytest.mark.parametrize(("allowed", "ends"), [(0.49, True), (0.5, False), (1.0, False)])
def test_the_run_ends_past_the_share_that_is_set(allowed: float, ends: bool, written: Callable[..., Path], encoding: Encoding) -> None:
    settings = data(written(RECORDS), refuse_above=allowed)
    report, _ = checking.check(settings, encoding)
    if ends:
        with pytest.raises(UserError, match=r"3 of 6 records cannot be trained on.*2 image missing \(train.json record 1: gone.png\)"):
            checking.refuse(report, settings)
    else:
        checking.refuse(report, settings)


@pytest.mark.parametrize("records", [[], [llava(0, "gone.png")]])
def test_nothing_to_train_on_ends_the_run_whatever_is_set(
    records: list[dict[str, object]], written: Callable[..., Path], encoding: Encoding
) -> None:
    settings = data(written(records), refuse_above=1.0)
    with pytest.raises(UserError, match=rf"none of {len(records)} records can be trained on"):
        checking.refuse(checking.check(settings, encoding)[0], settings)


def test_a_check_is_not_repeated_until_something_changes(
    written: Callable[..., Path], encoding: Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[int] = []
    real = Source.check
    monkeypatch.setattr(Source, "check", lambda self, number, pixels: (checked.append(number), real(self, number, pixels))[1])
    out, path = tmp_path / "out", written(RECORDS)

    def count(settings: Dialogues, how: Encoding = encoding) -> int:
        checked.clear()
        report, _ = checking.check(settings, how, out)
        assert report.parts[0].numbers
        return len(checked)

    assert [count(data(path)), count(data(path))] == [6, 3]  # what was refused may have been mended
    assert count(data(path), replace(encoding, longest=5)) == 6
    assert count(data(path, pixels=False)) == 6
    written([*RECORDS, llava(6)])
    assert [count(data(path)), count(data(path))] == [7, 3]
    (out / checking.CACHE).write_text("[{")
    assert count(data(path)) == 7
    cache = out / checking.CACHE
    cache.write_text(cache.read_text().replace('"records": 7', '"records": 8'))
    assert count(data(path)) == 7
    monkeypatch.setattr("iit_bench.training.checkpoint.find", lambda folder: folder)
    cache.write_text(cache.read_text().replace('"records": 7', '"records": 8'))
    with pytest.raises(UserError, match=r"is damaged \(ValueError: its seal differs\); put it back"):
        count(data(path))


def test_refused_records_are_never_trained_on(written: Callable[..., Path], encoding: Encoding, capsys: pytest.CaptureFixture[str]) -> None:
    settings = data(written(RECORDS), refuse_above=0.5)
    mixture = Mixture.checked(settings, encoding, seed=0, batch=3, show=True)
    assert {row.id for step in range(4) for row in mixture.rows(step)} == {f"train.json record {number}" for number in (0, 2, 4)}
    assert "special token in a text" in capsys.readouterr().err


def test_the_example_of_the_page_can_be_trained_on(encoding: Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Your own data")[2].partition("\n## ")[0]
    (_, recipe), (_, records), (_, more) = re.findall(r"```(yaml|json)\n(.*?)```", section, re.DOTALL)
    given = yaml.safe_load(recipe)["data"]
    settings = fill(Dialogues, {"mixture": [*given["mixture"], *yaml.safe_load(more)]}, "the page")
    (tmp_path / "chats.jsonl").write_text(records, encoding="utf-8")
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts/train.jsonl").write_text(json.dumps({"query": "What?", "label": "A.", "image": "red.png"}))
    for folder in (tmp_path, tmp_path / "charts"):
        for colour in ("red", "blue"):
            (folder / f"{colour}.png").write_bytes(picture(colour))
    monkeypatch.chdir(tmp_path)
    report, _ = checking.check(settings, encoding)
    assert [(part.records, part.images, dict(part.refused)) for part in report.parts] == [(5, 5, {}), (1, 1, {})]


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes check a few records at a time."""
    monkeypatch.setattr(tallies, "SEVERAL_FROM", 1)
    monkeypatch.setattr(tallies, "AT_ONCE", 4)
    monkeypatch.setattr(tallies, "_cores", lambda: 2)


MANY = [*RECORDS, *(llava(number, "gone.png") for number in range(6, 12)), llava(12)]


@pytest.mark.slow
@pytest.mark.usefixtures("several")
def test_several_processes_find_what_one_finds(written: Callable[..., Path], encoding: Encoding, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = data(written(MANY))
    with monkeypatch.context() as patch:
        patch.setattr(tallies, "_tally", None)  # of this process: would raise
        report, _ = checking.check(settings, encoding)
    monkeypatch.setattr(tallies, "SEVERAL_FROM", 1000)
    alone, _ = checking.check(settings, encoding)
    assert report == alone and report.parts[0].numbers == [1, 3, 5, *range(6, 12)]
    assert report.parts[0].refused[pictures.MISSING].examples == [
        f"train.json record {number}: {name}.png" for number, name in ((1, "gone"), (5, "away"), (6, "gone"))
    ]


OF_A_CHECKER = """
import pickle, sys
from iit_bench.training.chats import tallies
part, encoding, records = pickle.load(sys.stdin.buffer)
found = tallies._tally(tallies.Source(part, encoding, ""), True, range(records))
print(found.numbers, "torch" in sys.modules)
"""


@pytest.mark.slow
def test_a_process_that_checks_records_does_without_torch(written: Callable[..., Path], encoding: Encoding) -> None:
    """It took 770 MB, of which torch and the models' code were 700, and there are up to eight."""
    given = pickle.dumps((data(written(RECORDS)).mixture[0], encoding, len(RECORDS)))
    done = subprocess.run([sys.executable, "-c", OF_A_CHECKER], input=given, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[1, 3, 5] False"


@pytest.mark.usefixtures("several")
def test_where_no_process_can_be_started_one_checks_all(
    written: Callable[..., Path], encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise tallies.BrokenProcessPool

    monkeypatch.setattr(tallies, "_in_processes", broken)
    assert checking.check(data(written(MANY)), encoding)[0].parts[0].numbers == [1, 3, 5, *range(6, 12)]
