"""Mode `strict` against a slow reference, and its properties: causality, independence of rows, cache (docs/spec/wings.md#part-b-strict)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow

TOLERANCE = {"atol": 3e-5, "rtol": 1e-4}
LAYOUTS = ["tttttttttt", "ttIttttt", "Ittttt", "tIIttItt", "ItIttI", "II"]


@pytest.mark.parametrize("text", ["llama", "smollm", "smollm3", "qwen2", "qwen2-window", "qwen3", "mistral"])
def test_logits_equal_the_plain_loop_reference_for_every_backbone(kit: Any, text: str) -> None:
    model = kit.build(text)
    rows = [kit.make_row(model, layout, seed) for seed, layout in enumerate(["tttItttIt", "Itttt"])]
    for row, logits in zip(rows, kit.logits_by_row(model, kit.collate(rows)), strict=True):
        torch.testing.assert_close(logits, kit.reference_logits(model, row), **TOLERANCE)


@pytest.mark.parametrize(
    "fields",
    [
        {"learners": ["visual"], "router": False},
        {"learners": ["textual"], "router": False},
        {"learners": []},
        {"learners": ["visual", "textual"], "router": False},
        {"learner_layers": [0, 2]},
        {"learner_scale": 1.3},
    ],
    ids=str,
)
def test_logits_equal_the_reference_for_every_choice_of_learners(kit: Any, fields: dict[str, Any]) -> None:
    model = kit.build("llama", **fields)
    rows = [kit.make_row(model, layout, seed) for seed, layout in enumerate(["ttItIt", "tttt", "Itt"])]
    for row, logits in zip(rows, kit.logits_by_row(model, kit.collate(rows, "left")), strict=True):
        torch.testing.assert_close(logits, kit.reference_logits(model, row), **TOLERANCE)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_equal_the_reference_wherever_images_stand(kit: Any, layout: str) -> None:
    model = kit.build("qwen2", seed=3)
    row = kit.make_row(model, layout, 1)
    (logits,) = kit.logits_by_row(model, kit.collate([row]))
    torch.testing.assert_close(logits, kit.reference_logits(model, row), **TOLERANCE)


@pytest.mark.parametrize("side", ["right", "left", "inside"])
@pytest.mark.parametrize("text", ["llama", "mistral"])
def test_padding_and_neighbours_change_no_row(kit: Any, side: str, text: str) -> None:
    model = kit.build(text)
    rows = [kit.make_row(model, layout, seed) for seed, layout in enumerate([*LAYOUTS, "t"])]
    # Padding inside an image's placeholders is not refused: positions do not count it.
    together = kit.logits_by_row(model, kit.collate(rows, side, extra=3))
    for row, logits in zip(rows, together, strict=True):
        (alone,) = kit.logits_by_row(model, kit.collate([row]))
        torch.testing.assert_close(logits, alone, **TOLERANCE)


def test_a_changed_token_or_image_changes_no_earlier_logit_and_every_later_one(kit: Any) -> None:
    model = kit.build("llama")
    row = kit.make_row(model, "ttItttItt", 0)
    (before,) = kit.logits_by_row(model, kit.collate([row]))
    length = model.config.image_token_length
    starts = {2: 0, 2 + length + 3: 1}
    for position, token in enumerate(row.ids):
        other = kit.make_row(model, "ttItttItt", 0)
        if position in starts:
            other.features[starts[position], -1] += 1.0  # an image is atomic: its last vector is seen from its first position
        elif token == model.config.image_token_id:
            continue
        else:
            other.ids[position] = (token + 1) % 40
        (after,) = kit.logits_by_row(model, kit.collate([other]))
        change = (after - before).abs().amax(dim=1)
        assert (change[:position] == 0).all()
        assert (change[position:] > 1e-6).all()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("text", ["llama", "qwen3", "mistral"])
def test_cache_equals_no_cache_over_random_splits(kit: Any, text: str, side: str) -> None:
    model = kit.build(text)
    rows = [kit.make_row(model, layout, seed) for seed, layout in enumerate(["tItttItt", "tttttt", "IItt", "tttIt"])]
    batch = kit.collate(rows, side)
    with torch.no_grad():
        whole = model(**batch.inputs).logits
    width = batch.input_ids.shape[1]
    generator = torch.Generator().manual_seed(0)
    splits = [list(range(1, width)), *(sorted((torch.randperm(width - 1, generator=generator)[:4] + 1).tolist()) for _ in range(5))]
    for cuts in splits:
        parts = kit.in_chunks(model, batch, cuts)
        for index, columns in enumerate(batch.columns):
            torch.testing.assert_close(parts[index, columns], whole[index, columns], **TOLERANCE)


def test_one_cached_prefix_serves_many_continuations(kit: Any) -> None:
    model = kit.build("qwen2")
    prefixes = [kit.make_row(model, layout, seed) for seed, layout in enumerate(["ttIttt", "ttt"])]
    batch = kit.collate(prefixes, "left")
    with torch.no_grad():
        cache = model(**batch.inputs, use_cache=True).past_key_values
        rows = torch.tensor([0, 1, 1, 0, 0])
        continuations = [kit.make_row(model, "t" * count, 10 + count) for count in (3, 1, 4, 2, 4)]
        tail = kit.collate(continuations)
        mask = torch.cat((batch.attention_mask[rows], tail.attention_mask), dim=1)
        out = model(tail.input_ids, attention_mask=mask, past_key_values=cache.select(rows)).logits
        for index, (prefix, continuation) in enumerate(zip(rows.tolist(), continuations, strict=True)):
            whole = type(continuation)(prefixes[prefix].ids + continuation.ids, prefixes[prefix].features)
            (expected,) = kit.logits_by_row(model, kit.collate([whole]))
            torch.testing.assert_close(out[index, : len(continuation)], expected[len(prefixes[prefix]) :], **TOLERANCE)
        assert cache.get_seq_length() == batch.input_ids.shape[1]  # the prefix's own cache stayed as it was


@pytest.mark.parametrize("text", ["llama", "mistral"])
def test_branches_side_by_side_equal_separate_rows(kit: Any, text: str) -> None:
    model = kit.build(text)
    prefixes = [kit.make_row(model, layout, seed) for seed, layout in enumerate(["ttIttt", "ttt", "I"])]
    batch = kit.collate(prefixes, "left")
    replies = [[kit.make_row(model, "t" * n, 10 * seed + n).ids for n in (3, 1, 2)] for seed in range(3)]
    ids = torch.tensor([[*a, *b, *c] for a, b, c in replies])
    ends = torch.tensor([[3, 3, 3, 4, 6, 6]] * 3)
    with torch.no_grad():
        cache = model(**batch.inputs, use_cache=True).past_key_values
        for _ in range(2):  # the cache stays as it was
            together = model(ids, ends=ends, past_key_values=cache)
            assert together.past_key_values is None
            for row, prefix in enumerate(prefixes):
                for number, reply in enumerate(replies[row]):
                    (alone,) = kit.logits_by_row(model, kit.collate([kit.row(prefix.ids + reply, prefix.features)]))
                    found = together.logits[row, ends[row] == ends[row].unique()[number]]
                    torch.testing.assert_close(found, alone[len(prefix) :], **TOLERANCE)
