"""Records become tokens and labels as in the authors' training code; records that cannot be trained on are refused by reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from iit_bench.errors import ItemError
from iit_bench.images import UNREADABLE
from iit_bench.models.wings import templates
from iit_bench.models.wings.released.scripts import SCRIPTS
from iit_bench.training.chat import IGNORED
from iit_bench.training.chats import pictures, reading
from iit_bench.training.chats.reading import Encoding, Source
from iit_bench.training.records import Part
from tests.conftest import sizes, tiny_tokenizer
from tests.training.chats.conftest import llava, picture

GOLDEN = json.loads((Path(__file__).parents[2] / "data/wings_golden/prompt_format/cases.json").read_text(encoding="utf-8"))["format"]
END, NEWLINE = 2, 3


def source(path: Path, encoding: Encoding, **more: Any) -> Source:
    return Source(Part(source=str(path), **more), encoding)


def refused(made: Source, number: int = 0, pixels: bool = False) -> ItemError:
    with pytest.raises(ItemError) as caught:
        made.check(number, pixels)
    return caught.value


def tokenizer_of_characters() -> Any:
    """The tokenizer of the golden cases: marks 1 to 3, another character c is ord(c) + 10; here an image's mark is 0."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    marks = {"<image>": 0, "<|im_start|>": 1, "<|im_end|>": END, "\n": NEWLINE}
    backend = Tokenizer(models.WordLevel(marks | {chr(code): code + 10 for code in range(32, 127)}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.add_special_tokens(list(marks)[:3])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokenizer.chat_template = templates.of_script(SCRIPTS["qwen"], "<image>")
    return tokenizer


@pytest.mark.oracle
@pytest.mark.parametrize("case", range(len(GOLDEN)))
def test_tokens_and_labels_are_the_authors(case: int, written: Callable[..., Path]) -> None:
    """Beside the line break after an earlier turn's end, which the authors' code labels and no model has to write
    (docs/spec/wings.md#b13-training)."""
    turns = GOLDEN[case]["conversations"]
    marks = sum(turn["value"].count("<image>") for turn in turns)
    encoding = Encoding(tokenizer=tokenizer_of_characters(), image_tokens=1, longest=10_000, max_pixels=1000)
    path = written([{"conversations": turns, "image": ["red.png"] * marks}])
    row = source(path, encoding).row(0)
    assert [-200 if token == 0 else token for token in row.ids] == GOLDEN[case]["input_ids"]
    ids, labels = GOLDEN[case]["input_ids"], GOLDEN[case]["labels"]
    breaks = [i for i, label in enumerate(labels) if label == NEWLINE and ids[i - 1] == END]
    assert row.labels == [IGNORED if i in breaks else label for i, label in enumerate(labels)]


def test_all_images_are_kept_in_reading_order(written: Callable[..., Path], encoding: Encoding) -> None:
    record = llava(0, ["red.png", "blue.png"], "and <image> alike?")
    row = source(written([record]), encoding).row(0)
    assert [image.data for image in row.images] == [picture("red"), picture("blue")]
    mark = encoding.tokenizer.convert_tokens_to_ids("<image>")
    assert row.ids.count(mark) == 2 * encoding.image_tokens
    assert all(label == IGNORED for token, label in zip(row.ids, row.labels, strict=True) if token == mark)
    assert row.id == "train.json record 0"


def test_images_may_be_in_another_folder(written: Callable[..., Path], encoding: Encoding, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(picture("green"))
    made = source(written([llava(0, "a.png")]), encoding, images=str(tmp_path / "images"))
    assert made.row(0).images[0].data == picture("green")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.png", pictures.MISSING),
        ("../outside.png", pictures.OUTSIDE),
        ("a/../../outside.png", pictures.OUTSIDE),
        ("/etc/hostname", pictures.OUTSIDE),
        ("https://example.org/a.png", pictures.MISSING),
        ("train.json", UNREADABLE),
        ("huge.png", UNREADABLE),
    ],
)
def test_an_image_that_cannot_be_had(name: str, reason: str, written: Callable[..., Path], encoding: Encoding, tmp_path: Path) -> None:
    (tmp_path.parent / "outside.png").write_bytes(picture())
    (tmp_path / "huge.png").write_bytes(picture(size=(101, 100)))
    assert refused(source(written([llava(0, name)]), encoding)).reason == reason


def test_damage_behind_the_header_is_found_where_pixels_are_asked_for(
    written: Callable[..., Path], encoding: Encoding, tmp_path: Path
) -> None:
    (tmp_path / "cut.png").write_bytes(picture(size=(90, 90))[:-40])
    made = source(written([llava(0, "cut.png")]), encoding)
    assert made.check(0, pixels=False).images
    assert refused(made, pixels=True).reason == UNREADABLE


def test_a_chat_is_too_long_from_one_token_on(written: Callable[..., Path], encoding: Encoding) -> None:
    path = written([llava(0, "red.png")])
    length = len(source(path, encoding).row(0).ids)
    assert source(path, replace(encoding, longest=length)).check(0, pixels=False)
    error = refused(source(path, replace(encoding, longest=length - 1)))
    assert (error.reason, error.detail) == (reading.TOO_LONG, f"{length} tokens, the limit is {length - 1}")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (llava(0, answer="red<|end|>"), reading.SPECIAL_TOKEN),
        (llava(0, question="<|assistant|>"), reading.SPECIAL_TOKEN),
        ({"messages": [{"role": "user", "content": "Red?"}]}, reading.NOTHING_TO_LEARN),
        ({"messages": []}, reading.NOTHING_TO_LEARN),
        (llava(0, question="\ud800"), reading.NOT_UNICODE),
    ],
)
def test_a_text_that_cannot_be_trained_on(record: Any, reason: str, encoding: Encoding, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(record))
    assert refused(source(tmp_path / "train.jsonl", encoding)).reason == reason


def test_a_template_may_refuse_a_chat(written: Callable[..., Path], encoding: Encoding) -> None:
    import copy

    tokenizer = copy.deepcopy(encoding.tokenizer)
    tokenizer.chat_template = "{{ raise_exception('No system turns') }}"
    error = refused(source(written([llava(0)]), replace(encoding, tokenizer=tokenizer)))
    assert (error.reason, error.detail) == (reading.REFUSED_BY_TEMPLATE, "No system turns")


@pytest.mark.oracle
def test_parquet_as_datasets_writes_it_has_the_rows_of_the_same_chats_in_json(
    written: Callable[..., Path], encoding: Encoding, tmp_path: Path
) -> None:
    """A column of images (bytes and paths), and parts of messages that all have all fields, as on the Hub."""
    import datasets

    part = {"type": datasets.Value("string"), "text": datasets.Value("string")}
    features = datasets.Features({"messages": [{"role": datasets.Value("string"), "content": [part]}], "images": [datasets.Image()]})
    asked = [
        {"type": "text", "text": "Is "},
        {"type": "image", "text": None},
        {"type": "text", "text": "like "},
        {"type": "image", "text": None},
    ]
    replied = [{"type": "text", "text": "no"}]
    rows = [
        {
            "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": replied}],
            "images": [picture("red"), picture("blue")],
        },
        {"messages": [{"role": "user", "content": asked[:1]}, {"role": "assistant", "content": replied}], "images": []},
    ]
    named = [{**row, "images": [{"bytes": image, "path": None} for image in row["images"]]} for row in rows]
    (tmp_path / "hub/data").mkdir(parents=True)
    datasets.Dataset.from_list(named, features=features).to_parquet(tmp_path / "hub/data/train-00000-of-00001.parquet")
    plain = [{"messages": row["messages"], "images": ["red.png", "blue.png"][: len(row["images"])]} for row in rows]
    expected, found = source(written(plain), encoding), source(tmp_path / "hub", encoding)
    assert len(found.records) == 2
    for number in range(2):
        assert replace(found.row(number), id="") == replace(expected.row(number), id="")
        assert found.check(number, pixels=True).ids == expected.row(number).ids


def test_a_record_with_a_token_beyond_the_embedding_is_refused(encoding: Encoding, written: Callable[..., Path]) -> None:
    """The image's mark needs no row: features take its place."""
    from transformers import AddedToken, AutoConfig, AutoModelForCausalLM

    from iit_bench.training import start

    tokenizer = tiny_tokenizer()
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **sizes(tokenizer)))
    tokenizer.add_tokens(["zebra"])
    tokenizer.add_tokens([AddedToken("<image>", special=True)])
    whole = replace(encoding, tokenizer=tokenizer)
    known = replace(whole, ids=start.token_ids(model, tokenizer))
    made = source(written([llava(0, "red.png"), llava(1, question="Is it a zebra?")]), known)
    assert made.check(0, pixels=False).ids
    assert refused(made, 1).reason == "token beyond the embedding"
    assert known.sha256() != whole.sha256()


def test_a_model_that_has_all_tokens_leaves_the_checks_of_earlier_trainings_valid(encoding: Encoding) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from iit_bench.training import start

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **sizes(encoding.tokenizer)))
    assert replace(encoding, ids=start.token_ids(model, encoding.tokenizer)).sha256() == encoding.sha256()
