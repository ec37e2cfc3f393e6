"""The cache: room that is written in place, copies that grow on their own, rows that are picked, and transformers' static setting."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from iit_bench.models.wings.cache import MIN_GROWTH, GrowingLayer, WingsCache

ROWS, HEADS, SIZE = 3, 2, 4


def tokens(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(ROWS, HEADS, count, SIZE, generator=generator) for _ in range(2))  # type: ignore[return-value]


def filled(*counts: int, reserve: int = 0) -> tuple[GrowingLayer, list[tuple[torch.Tensor, torch.Tensor]]]:
    """A layer that got chunks of so many tokens, and the chunks."""
    layer, chunks = GrowingLayer(reserve), [tokens(count, seed) for seed, count in enumerate(counts)]
    for key, value in chunks:
        layer.update(key, value)
    return layer, chunks


def test_everything_appended_comes_back_in_order() -> None:
    layer, chunks = filled(5, 1, 1, MIN_GROWTH, 2, 3 * MIN_GROWTH, 1)
    for kept, parts in zip(layer.layer_tensors, zip(*chunks, strict=True), strict=True):
        assert torch.equal(kept, torch.cat(parts, dim=2))


def test_single_tokens_are_written_where_there_is_room() -> None:
    layer, _ = filled(5, 1)  # the first token behind a prompt makes room
    place = layer.layer_tensors[0].data_ptr()
    for seed in range(MIN_GROWTH):
        layer.update(*tokens(1, seed))
        assert layer.layer_tensors[0].data_ptr() == place
    layer.update(*tokens(1, 0))
    assert layer.layer_tensors[0].data_ptr() != place


def test_reserved_room_is_never_left_before_it_is_full() -> None:
    layer, _ = filled(5, reserve=90)
    place = layer.layer_tensors[0].data_ptr()
    for seed in range(85):
        layer.update(*tokens(1, seed))
    assert layer.get_seq_length() == 90
    assert layer.layer_tensors[0].data_ptr() == place


@pytest.mark.parametrize("counts", [(5,), (5, 1)], ids=["without room", "with room"])
def test_copies_grow_apart(counts: tuple[int, ...]) -> None:
    layer, _ = filled(*counts)
    before = layer.layer_tensors[0].clone()
    copies = [layer.share(), layer.share(), layer]
    grown = [copy.update(*tokens(2, 10 + seed))[0] for seed, copy in enumerate(copies)]
    for seed, keys in enumerate(grown):
        assert torch.equal(keys, torch.cat((before, tokens(2, 10 + seed)[0]), dim=2))


@pytest.mark.parametrize("counts", [(5,), (5, 1)], ids=["without room", "with room"])
def test_picked_rows_keep_their_tokens_and_continue(counts: tuple[int, ...]) -> None:
    layer, chunks = filled(*counts)
    rows = torch.tensor([2, 0, 0])
    layer.batch_select_indices(rows)
    layer.update(*tokens(1, 9))
    whole = torch.cat([key for key, _ in chunks], dim=2)[rows]
    assert torch.equal(layer.layer_tensors[0], torch.cat((whole, tokens(1, 9)[0]), dim=2))


def test_columns_stand_behind_every_heads_values_and_zeros_behind_keys() -> None:
    layer, columns = GrowingLayer(), torch.randn(ROWS, 5, 2)
    for part in (slice(0, 3), slice(3, 5)):
        key, value = (z[:, :, part] for z in tokens(5, 0))
        layer.update(key, value, router_columns=columns[:, part], extra_width=4)
    keys, values = layer.layer_tensors
    assert torch.equal(keys, torch.nn.functional.pad(tokens(5, 0)[0], (0, 4)))
    assert torch.equal(values[..., :SIZE], tokens(5, 0)[1])
    assert torch.equal(values[..., SIZE : SIZE + 2], columns[:, None].expand(-1, HEADS, -1, -1))
    assert not values[..., SIZE + 2 :].any()


def test_gradients_flow_through_what_was_appended() -> None:
    layer, chunks = GrowingLayer(), [tokens(count, seed) for seed, count in enumerate((3, 1, 1))]
    for key, value in chunks:
        layer.update(key.requires_grad_(), value.requires_grad_())
    sum(z.sum() for z in layer.layer_tensors).backward()  # type: ignore[union-attr]
    assert all(torch.equal(z.grad, torch.ones_like(z)) for chunk in chunks for z in chunk)


def test_a_cache_made_for_inference_continues_outside_of_it(kit: Any) -> None:
    model = kit.build()
    row = kit.collate([kit.make_row(model, "ttItttt", 0)])
    cache = WingsCache(reserve=32)
    with torch.inference_mode():
        model(row.input_ids[:, :-1], image_features=row.image_features, past_key_values=cache)
    with torch.no_grad():
        after = model(row.input_ids[:, -1:], past_key_values=cache).logits[:, -1]
        torch.testing.assert_close(after, model(**row.inputs).logits[:, -1])


def test_transformers_static_cache_is_room_made_at_the_start(kit: Any) -> None:
    model = kit.build()
    batch = kit.collate([kit.make_row(model, layout, seed) for seed, layout in enumerate(("ttItt", "tt"))], "left")
    settings: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, **batch.inputs}
    settings["return_dict_in_generate"] = True
    static, growing = (model.generate(**settings, cache_implementation=kind) for kind in ("static", None))
    assert static.sequences.tolist() == growing.sequences.tolist()
    assert static.past_key_values.reserve >= static.past_key_values.get_seq_length() > 0
    assert growing.past_key_values.reserve == 0


def test_a_cache_is_never_cut(kit: Any) -> None:
    with pytest.raises(NotImplementedError, match="append-only"):
        WingsCache().crop(3)
