"""Rows of a tree: every token once, seen by its descendants only, equal to plain passes of each path (docs/spec/wings.md#b10-trees)."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iit_bench.engine.log import ResponseLog
from iit_bench.engine.plan import BatchLimits
from iit_bench.engine.run import answer
from iit_bench.models.contract import ModelOptions, RollingRequest, ScoreRequest, TextScoreRequest
from iit_bench.models.wings import layout, step
from iit_bench.models.wings.load import load
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.models.wings.trees import ImagePath, images_of
from iit_bench.token_trees import ImageSymbols, TreeRow, build_row, token_path
from iit_bench.types import Image, Message

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
KINDS = ["llama", "smollm3", "qwen2-window", "qwen3", "mistral"]


def random_rows(kit: Any, model: Any, seed: int, count: int = 7) -> list[Any]:
    """Rows that continue one another at random places: nested, siblings, an image again in another row or twice in one."""
    draw = random.Random(seed)
    pool = [kit.make_row(model, "I", 50 + n) for n in range(2)]
    rows = [kit.row([], pool[0].features[:0])]
    for _ in range(count):
        before = draw.choice(rows)
        pieces = [
            draw.choice([*pool, kit.make_row(model, "t" * draw.randint(1, 4), draw.randint(0, 9))]) for _ in range(draw.randint(1, 4))
        ]
        features = torch.cat([before.features, *(piece.features for piece in pieces)])
        rows.append(kit.row([*before.ids, *(token for piece in pieces for token in piece.ids)], features))
    return rows[1:]


def one_tree(model: Any, rows: list[Any]) -> tuple[TreeRow, torch.Tensor]:
    """The rows as paths of one tree, and the features of its images in the order of its columns."""
    length = model.config.image_token_length
    paths, features_of, own = [], {}, ImageSymbols()
    for row in rows:
        images = [Image(features.numpy().tobytes()) for features in row.features]
        features_of |= {image.sha256: features for image, features in zip(images, row.features, strict=True)}
        columns = iter([symbol for image in images for symbol in own.of(image.sha256, length)])
        prompt = [next(columns) if token == model.config.image_token_id else token for token in row.ids]
        path = token_path(prompt, [[0]])
        paths.append(ImagePath(prompt=path.prompt, replies=path.replies, images=tuple(images)))
    tree = build_row(paths)
    found = [features_of[image.sha256] for image in images_of(tree, paths, length)]
    return tree, torch.stack(found) if found else rows[0].features[:0]


def check_tree(kit: Any, model: Any, seed: int, **tolerance: float) -> None:
    """Logits of every node of a random tree equal those of every plain pass that has it."""
    rows = random_rows(kit, model, seed)
    tree, features = one_tree(model, rows)
    ids = torch.from_numpy(np.where(tree.symbols < 0, model.config.image_token_id, tree.symbols))
    with torch.no_grad():
        logits = model(ids[None], ends=torch.from_numpy(tree.ends)[None], image_features=features).logits[0]
        for row, edges in zip(rows, tree.edges, strict=True):
            last = tree.nodes[tree.edge_node[edges[0][0]]]
            path = [j for j in range(last + 1) if last < tree.ends[j]]
            (plain,) = kit.logits_by_row(model, kit.collate([row]))
            torch.testing.assert_close(logits[path], plain, **(TOLERANCE | tolerance))


@pytest.mark.oracle
@pytest.mark.parametrize("text", KINDS)
def test_every_node_equals_the_plain_passes_of_its_paths(kit: Any, text: str) -> None:
    model = kit.build(text)
    for seed in range(4):
        check_tree(kit, model, seed)


@pytest.mark.parametrize("text", ["llama", "mistral"])
def test_attention_in_blocks_computes_the_same(kit: Any, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "BLOCK", 8)
    model = kit.build(text)
    for seed in range(3):
        check_tree(kit, model, seed)


def test_blocks_hold_only_the_keys_that_one_of_their_queries_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "BLOCK", 2)
    ends = torch.tensor([6, 3, 3, 6, 5, 6])  # 0 → 1 → 2 and 0 → 3 → (4, 5)
    index = torch.arange(6)
    sees = ((index <= index[:, None]) & (index[:, None] < ends))[None]
    blocks, _ = layout.tree_mask(index[None], index[None], torch.float32, sees=sees)
    assert [block.keys.tolist() for block in blocks] == [[0, 1], [0, 1, 2, 3], [0, 3, 4, 5]]
    for block in blocks:
        assert torch.equal(block.mask[0, 0] == 0, sees[0, block.start : block.end, block.keys])


@pytest.mark.parametrize(
    "fields",
    [
        {"learners": ["visual"], "router": False},
        {"learners": ["textual"], "router": False},
        {"learners": []},
        {"learners": ["visual", "textual"], "router": False},
        {"learner_layers": [1]},
    ],
    ids=str,
)
def test_every_choice_of_learners_has_trees(kit: Any, fields: dict[str, Any]) -> None:
    model = kit.build("qwen2", **fields)
    for seed in range(4):
        check_tree(kit, model, seed)


def test_a_tree_continues_a_cached_prefix_with_images(kit: Any) -> None:
    model = kit.build("mistral")
    (prefix,) = [kit.make_row(model, "ttItt", 3)]
    rows = random_rows(kit, model, 5)
    tree, features = one_tree(model, rows)
    ids = torch.from_numpy(np.where(tree.symbols < 0, model.config.image_token_id, tree.symbols))
    with torch.no_grad():
        cache = model(**kit.collate([prefix]).inputs, use_cache=True).past_key_values
        logits = model(ids[None], ends=torch.from_numpy(tree.ends)[None], image_features=features, past_key_values=cache).logits[0]
        for row, edges in zip(rows, tree.edges, strict=True):
            last = tree.nodes[tree.edge_node[edges[0][0]]]
            path = [j for j in range(last + 1) if last < tree.ends[j]]
            whole = kit.row(prefix.ids + row.ids, torch.cat((prefix.features, row.features)))
            (plain,) = kit.logits_by_row(model, kit.collate([whole]))
            torch.testing.assert_close(logits[path], plain[len(prefix) :], **TOLERANCE)
        assert cache.get_seq_length() == len(prefix)


def test_rows_that_end_inside_an_image_cannot_branch(kit: Any) -> None:
    model = kit.build()
    row = kit.make_row(model, "tI", 0)
    cache = model(torch.tensor([row.ids[:3]]), image_features=row.features, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="inside an image cannot branch"):
        model(torch.tensor([[1, 2]]), ends=torch.tensor([[1, 2]]), past_key_values=cache)


# ---------------------------------------------------------------- requests


def chat(*parts: Any, history: tuple[Message, ...] = ()) -> tuple[Message, ...]:
    return (*history, Message("user", parts))


def requests(kit: Any) -> list[ScoreRequest]:
    """Groups of dialogues that begin alike, as the tiers of one target do."""
    red, blue = kit.picture(1), kit.picture(2)
    seen = (Message("user", (red, "\nWhich colour is it?")), Message("assistant", ("red",)))
    told = (Message("user", ("What is the capital of France?",)), Message("assistant", ("Paris",)))
    targets = [(("Is it a circle?",), ("yes", "no", "maybe not")), ((blue, "\nWhich colour is it?"), ("red", "blue and red"))]
    histories = [(), seen, told, told + seen, seen + told, seen + seen]
    return [ScoreRequest(chat(*parts, history=history), replies) for parts, replies in targets for history in histories]


def answered(model: Any, asked: list[Any], folder: Path, way: str) -> list[Any]:
    with ResponseLog(folder / f"{way}.jsonl") as log:
        return answer(model, asked, log, dataclasses.replace(BatchLimits.for_model(model.info, None), way=way)).answers


def same(trees: list[Any], plain: list[Any]) -> None:
    for one, other in zip(trees, plain, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=2e-5, rel=1e-6)
        assert dataclasses.replace(one, logprobs=()) == dataclasses.replace(other, logprobs=())


def test_chats_are_scored_in_trees_as_plainly(folder: Path, kit: Any, tmp_path: Path) -> None:
    model = load("wings", ModelOptions(checkpoint=str(folder), device="cpu"))
    assert model.way == "tree"
    same(answered(model, requests(kit), tmp_path, "tree"), answered(model, requests(kit), tmp_path, "plain"))


def test_raw_texts_are_scored_in_trees_as_plainly(folder: Path, tmp_path: Path) -> None:
    model = load("wings", ModelOptions(checkpoint=str(folder), device="cpu"))
    context = "What is the capital of France? " * 3
    texts = [TextScoreRequest(context, (" Paris", " Berlin")), TextScoreRequest(context + "Paris or Berlin?", (" <image>", " a"))]
    same(answered(model, texts, tmp_path, "tree"), answered(model, texts, tmp_path, "plain"))
    (tmp_path / "rolling").mkdir()
    rolling = [RollingRequest(context * 9), RollingRequest(context)]  # the first in several windows
    same(answered(model, rolling, tmp_path / "rolling", "tree"), answered(model, rolling, tmp_path / "rolling", "plain"))


def test_every_position_and_every_image_is_computed_once(folder: Path, kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load("wings", ModelOptions(checkpoint=str(folder), device="cpu"))
    positions, towers = [], []
    model.model.model.layers[0].register_forward_hook(lambda _, inputs, output: positions.append(output.shape[:2].numel()))
    encode = model.model.encode_images
    monkeypatch.setattr(model.model, "encode_images", lambda pixels: towers.append(len(pixels)) or encode(pixels))
    asked = requests(kit)
    answered(model, asked, tmp_path, "tree")
    branches = [branch.tolist() for request in asked for path in model.paths(request) for branch in path.branches()]
    nodes = {tuple(branch[: i + 1]) for branch in branches for i in range(len(branch))}
    assert sum(positions) == len(nodes)
    assert sum(towers) == 2


def test_a_model_whose_trees_differ_is_asked_plainly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgets_paths(*arguments: Any, sees: Any = None, **more: Any) -> Any:
        return layout.visibility_mask(*arguments, **more)

    monkeypatch.setattr(step, "tree_mask", forgets_paths)
    model = load("wings", ModelOptions(checkpoint=str(folder), device="cpu"))
    assert model.way == "plain"
    assert "scores of a tree differ" in model.info.details["rows"]["refused"]["tree"]


def test_the_option_of_the_engine_reaches_the_model(folder: Path) -> None:
    model = load("wings", ModelOptions(checkpoint=str(folder), device="cpu", way="plain"))
    assert model.way == "plain"
    assert model.info.details["rows"] == {"way": "plain", "refused": {"tree": "--engine plain"}}


def test_features_are_kept_in_a_folder_by_image_and_tower(
    folder: Path, kit: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    towers: list[int] = []
    encode = WingsForConditionalGeneration.encode_images
    monkeypatch.setattr(WingsForConditionalGeneration, "encode_images", lambda self, pixels: towers.append(1) or encode(self, pixels))
    options = ModelOptions(checkpoint=str(folder), device="cpu", image_cache=str(tmp_path / "features"))
    request = ScoreRequest(chat(kit.picture(1), "Hue?"), ("red", "blue"))

    def scored(options: ModelOptions) -> Any:
        model = load("wings", options)
        towers.clear()  # the check at load is no one's image
        return model.score([request])

    first = scored(options)
    assert len(towers) == 1
    assert scored(options) == first
    assert len(towers) == 0
    kit.save_tiny(tmp_path / "other", tokenizer, seed=1)
    scored(dataclasses.replace(options, checkpoint=str(tmp_path / "other")))
    assert len(towers) == 1  # of another tower's weights
