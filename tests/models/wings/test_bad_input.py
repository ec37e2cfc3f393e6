"""Bad input through `iit-bench eval`: a bad checkpoint is refused in one sentence, a bad image or too long a chat is one counted item."""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from iit_bench.cli import main
from iit_bench.errors import ItemError
from iit_bench.models.contract import ModelOptions, ScoreRequest
from iit_bench.models.wings.load import load
from iit_bench.storage.benchmark import Benchmark, save_benchmark
from iit_bench.storage.runs import load_run
from iit_bench.types import Image, Message

Change = Callable[[Path], None]


def configured(**fields: Any) -> Change:
    """A change of config.json; a dotted name reaches into a part of it."""

    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        for name, value in fields.items():
            part, _, inner = name.rpartition("__")
            (config[part] if part else config)[inner] = value
        (folder / "config.json").write_text(json.dumps(config))

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
    def changed(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return changed


def truncate(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def lose_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = {"model.norm.weight": "model-00001-of-00002.safetensors", "lm_head.weight": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


PROJECTOR = "model.mm_projector.0.weight"
REFUSED: dict[str, tuple[Change, str]] = {
    "unknown mode": (configured(mode="loose"), "mode 'loose' is unknown: use one of strict, released"),
    "no such layer": (configured(learner_layers=[0, 7]), "learner_layers [7] do not exist: the decoder has layers 0 to 2"),
    "unknown learner": (configured(learners=["tactile"]), "learners ['tactile'] must be distinct names out of visual, textual"),
    "another decoder": (configured(text_config__model_type="gemma2"), "a decoder of type 'gemma2' cannot carry learners: use one of"),
    "another width": (
        configured(text_config__hidden_size=64),
        "('model.embed_tokens.weight' is [320, 32], its config.json needs [320, 64])",
    ),
    "another rank": (configured(lora_dim=3), "attn_pool.q_proj.0.weight' is [4, 32], its config.json needs [3, 32])"),
    "narrower router": (configured(router_width=64), "reweight_module.linear.weight' is [2, 128], its config.json needs [2, 64])"),
    "learners without a place": (configured(learners=["visual"]), "are unexpected ('model.layers.0.attn_t_pool."),
    "missing": (weights(lambda tensors: tensors.pop(PROJECTOR)), f"1 tensors are missing ('{PROJECTOR}' first)"),
    "truncated": (truncate, "model.safetensors' cannot be read (Error while deserializing header"),
    "a shard lost": (lose_a_shard, "lacks 1 of 2 shards, 'model-00002-of-00002.safetensors' first"),
    "NaN": (weights(lambda tensors: tensors[PROJECTOR][0].fill_(torch.nan)), f"holds NaN or infinite numbers in '{PROJECTOR}'"),
    "infinite": (weights(lambda tensors: tensors[PROJECTOR][1].fill_(-torch.inf)), f"holds NaN or infinite numbers in '{PROJECTOR}'"),
}


def evaluate(checkpoint: Path, bench: Path, out: Path, *more: str) -> int:
    words = ["eval", "--model", "wings", "--checkpoint", str(checkpoint), "--bench", str(bench), "--out", str(out), "--device", "cpu"]
    return main([*words, "--quiet", *more])


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_checkpoint_is_refused_in_one_sentence(
    case: str, folder: Path, bench: Benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, sentence = REFUSED[case]
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    change(copy)
    assert evaluate(copy, bench.path, tmp_path / "run") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence in told
    assert len(told) < 600
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- images


def png(width: int, height: int) -> bytes:
    """A black-and-white PNG of any size, all of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(1)
    line = bytes(1 + (width + 7) // 8)
    pixels = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


BAD_IMAGES = {
    "no width": (png(0, 5), "without pixels"),
    "no height": (png(5, 0), "without pixels"),
    "not an image": (b"GIF", "not an image"),
    "cut off": (png(300, 300)[:80], "truncated"),
    "over the limit": (png(10_000, 6_401), "10000 x 6401 pixels are more than 64000000 (max_image_pixels)"),
    "narrow, over the limit as a square": (png(8_001, 2), "8001 x 2 pixels, padded to a square, are more than 64000000 (max_image_pixels)"),
    "far over PIL's limit": (png(50_000, 50_000), "2500000000 pixels"),
}


@pytest.fixture(scope="session")
def wings(folder: Path) -> Any:
    return load("wings", ModelOptions(checkpoint=str(folder), device="cpu"))


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_is_its_items_error_before_it_is_decoded(name: str, wings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data, words = BAD_IMAGES[name]
    if "limit" in name:
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ItemError, match="unreadable image") as error:
        wings.request_tokens(ScoreRequest((Message("user", (Image(data), "What?")),), ("a", "b")))
    assert words in str(error.value)


def test_the_limit_of_an_image_is_the_configurations(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    configured(max_image_pixels=99)(tmp_path)
    model = load("wings", ModelOptions(checkpoint=str(tmp_path), device="cpu"))
    small, large = (Message("user", (Image(png(size, size)), "What?")) for size in (9, 10))
    assert model.request_tokens(ScoreRequest((small,), ("a", "b"))) > 0
    with pytest.raises(ItemError, match=r"10 x 10 pixels are more than 99 \(max_image_pixels\)"):
        model.request_tokens(ScoreRequest((large,), ("a", "b")))


def test_bad_images_are_counted_and_the_rest_is_scored(
    folder: Path, bench: Benchmark, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = [dialogue.target for dialogue in bench.dialogues if dialogue.tier == "V"]
    names = ("no width", "cut off", "far over PIL's limit")
    broken = {target: BAD_IMAGES[name][0] for target, name in zip(targets, names, strict=False)}
    questions = [
        dataclasses.replace(question, images=(Image(broken[question.id]),)) if question.id in broken else question
        for question in bench.questions.values()
    ]
    manifest = {name: value for name, value in bench.manifest.items() if name not in ("format", "version", "files", "rows_sha256")}
    damaged = save_benchmark(tmp_path / "damaged", questions, bench.dialogues, manifest, "# card\n")
    assert evaluate(folder, damaged, tmp_path / "run", "--tiers", "T,V") == 1
    run = load_run(tmp_path / "run")
    assert sorted(error["dialogue"] for error in run.errors) == sorted(
        d.id for d in bench.dialogues if d.tier == "V" and d.target in broken
    )
    assert {(error["kind"], error["reason"]) for error in run.errors} == {("item", "unreadable image")}
    assert run.results.complete


def test_a_template_that_loses_images_is_counted(folder: Path, bench: Benchmark, tmp_path: Path) -> None:
    place = tmp_path / "copy"
    shutil.copytree(folder, place)
    (place / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content | replace('<image>', '') }}{% endfor %}")
    assert evaluate(place, bench.path, tmp_path / "run", "--tiers", "T,V") == 1
    run = load_run(tmp_path / "run")
    assert {(error["reason"], error["detail"]) for error in run.errors} == {("chat template refused", "it renders 0 of 1 images")}
    assert len(run.errors) == sum(dialogue.tier == "V" for dialogue in bench.dialogues)


# ---------------------------------------------------------------- context


def test_a_chat_wider_than_the_router_is_counted(kit: Any, tokenizer: Any, bench: Benchmark, tmp_path: Path) -> None:
    place = kit.save_tiny(tmp_path / "narrow", tokenizer, router_width=24)
    assert evaluate(place, bench.path, tmp_path / "run", "--tiers", "T,V") == 1  # no item could be answered
    run = load_run(tmp_path / "run")
    assert {(error["kind"], error["reason"]) for error in run.errors} == {("item", "context overflow")}
    with pytest.raises(ValueError, match="the context has 25 tokens but the router is 24 wide: shorten the context"):
        model = load("wings", ModelOptions(checkpoint=str(place), device="cpu")).model
        ids = [7] * 21 + [model.config.image_token_id] * 4
        model(torch.tensor([ids]), image_features=torch.randn(1, 4, 12))
