"""transformers' generate on a Wings model: every way of decoding, against the plain decoder of the same weights or a slow loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from iit_bench.models.wings import WingsConfig, WingsForConditionalGeneration

pytestmark = pytest.mark.slow

BACKBONES = ["llama", "smollm", "smollm3", "qwen2", "qwen2-window", "qwen3", "mistral"]
IMAGE = 47
NEW = 7
# Every way of decoding that expands, reorders or reads the rows in a way of its own.
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "temperature": 0.8, "top_k": 9, "top_p": 0.9},
    "several samples": {"do_sample": True, "num_return_sequences": 3},
    "beams": {"do_sample": False, "num_beams": 3},
    "all beams": {"do_sample": False, "num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.5},
    "sampled beams": {"do_sample": True, "num_beams": 2},
    "no repeats": {"do_sample": False, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3, "min_new_tokens": 4},
    "ends": {"do_sample": False, "num_beams": 3, "eos_token_id": list(range(10, 24)), "early_stopping": True},
}


def generate(model: Any, batch: Any, **how: Any) -> Any:
    torch.manual_seed(0)
    settings = {"max_new_tokens": NEW, "pad_token_id": 0, "eos_token_id": None, "suppress_tokens": [IMAGE]} | how
    return model.generate(**{name: value for name, value in batch.inputs.items() if value is not None}, **settings)


def spread(llm: Any) -> Any:
    """Random weights far enough apart that no two tokens tie."""
    torch.manual_seed(1)
    for parameter in llm.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.15)
    return llm.eval()


def text_rows(kit: Any, model: Any) -> Any:
    return kit.collate([kit.make_row(model, "t" * count, count) for count in (9, 4, 12)], "left")


# ---------------------------------------------------------------- text, against transformers' own decoder


@pytest.fixture(scope="module", params=BACKBONES)
def pair(request: pytest.FixtureRequest, kit: Any) -> tuple[Any, Any]:
    """(plain decoder, fresh Wings over it): learners that were not trained yet add exactly nothing."""
    llm = spread(AutoModelForCausalLM.from_config(kit.text_config(request.param)))
    tower = AutoModel.from_config(kit.vision_config("siglip"))
    config = WingsConfig(text_config=llm.config, vision_config=tower.config, lora_dim=4, image_token_id=IMAGE, image_size=8)
    return llm, WingsForConditionalGeneration.from_base(llm, tower, config).eval()


def test_a_fresh_model_generates_exactly_what_its_base_generates(kit: Any, pair: tuple[Any, Any]) -> None:
    llm, model = pair
    batch = text_rows(kit, model)
    with torch.no_grad():
        expected = llm(batch.input_ids, attention_mask=batch.attention_mask, position_ids=(batch.attention_mask.cumsum(1) - 1).clamp(min=0))
        found = model(**batch.inputs)
    real = batch.attention_mask.bool()
    torch.testing.assert_close(found.logits[real], expected.logits[real], atol=3e-5, rtol=1e-4)
    batch.image_features = None
    for name in ("greedy", "beams"):
        assert generate(model, batch, **WAYS[name]).tolist() == _base_generate(llm, batch, **WAYS[name]).tolist()


@pytest.mark.parametrize("way", WAYS)
def test_without_learners_every_way_of_decoding_is_the_decoders(kit: Any, way: str) -> None:
    llm = spread(AutoModelForCausalLM.from_config(kit.text_config("llama")))
    model = WingsForConditionalGeneration.from_base(
        llm, None, WingsConfig(text_config=llm.config, learners=[], image_token_id=IMAGE)
    ).eval()
    batch = kit.collate([kit.row(list(range(3, 3 + count)), torch.empty(0, 1, 1)) for count in (9, 4, 12)], "left")
    assert generate(model, batch, **WAYS[way]).tolist() == _base_generate(llm, batch, **WAYS[way]).tolist()


def _base_generate(llm: Any, batch: Any, **how: Any) -> torch.Tensor:
    torch.manual_seed(0)
    settings = {"max_new_tokens": NEW, "pad_token_id": 0, "eos_token_id": None, "suppress_tokens": [IMAGE]} | how
    return llm.generate(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **settings)


# ---------------------------------------------------------------- images, against a slow loop


def slow_beams(model: Any, kit: Any, row: Any, beams: int) -> list[int]:
    """The best of `beams` continuations of NEW tokens: every one scored anew as a whole row of its own, nothing ends early."""
    kept: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(NEW):
        grown = []
        for total, said in kept:
            (logits,) = kit.logits_by_row(model, kit.collate([kit.row(row.ids + said, row.features)]))
            logprobs = logits[-1].log_softmax(-1)
            grown += [(total + float(logprobs[token]), [*said, token]) for token in range(len(logprobs)) if token != IMAGE]
        kept = sorted(grown, reverse=True)[:beams]
    return kept[0][1]


LAYOUTS = ["ttItt", "tt", "ItItt"]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral", "smollm3"])
def test_greedy_replies_to_images_equal_a_slow_loop(kit: Any, kind: str) -> None:
    model = kit.build(kind)
    rows = [kit.make_row(model, layout, seed) for seed, layout in enumerate(LAYOUTS)]
    for found, row in zip(generate(model, kit.collate(rows, "left"), do_sample=False), rows, strict=True):
        assert found[-NEW:].tolist() == slow_beams(model, kit, row, 1)


@pytest.mark.parametrize("layouts", [["ttItt"], ["ttItt", "Itt"], LAYOUTS], ids=str)
def test_beams_over_images_equal_a_slow_beam_search(kit: Any, layouts: list[str]) -> None:
    model = kit.build("qwen2")
    rows = [kit.make_row(model, layout, seed) for seed, layout in enumerate(layouts)]
    for found, row in zip(generate(model, kit.collate(rows, "left"), do_sample=False, num_beams=3), rows, strict=True):
        assert found[-NEW:].tolist() == slow_beams(model, kit, row, 3)


@pytest.mark.parametrize("copies", [{"num_return_sequences": 3, "do_sample": True}, {"num_beams": 2, "do_sample": False}], ids=str)
def test_every_copy_of_a_row_sees_the_rows_own_images(kit: Any, copies: dict[str, Any]) -> None:
    model = kit.build()
    rows = [kit.make_row(model, layout, seed) for seed, layout in enumerate(["tt", *LAYOUTS])]
    out = generate(model, kit.collate(rows, "left"), return_dict_in_generate=True, output_logits=True, **copies)
    first = out.logits[0].unflatten(0, (len(rows), -1))
    for copied, row in zip(first, rows, strict=True):
        (logits,) = kit.logits_by_row(model, kit.collate([row]))
        torch.testing.assert_close(copied, logits[-1].expand_as(copied), atol=3e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["strict", "released"])
@pytest.mark.parametrize("way", WAYS)
def test_the_cache_changes_no_token(kit: Any, way: str, mode: str) -> None:
    """One text row: mode `released` has a cache only for text, and without it pads on the right (docs/spec/wings.md#a2-input-assembly)."""
    model = kit.build("qwen2", mode=mode)
    layouts = ["ttItt", "tttIt"] if mode == "strict" else ["t" * 9]
    batch = kit.collate([kit.make_row(model, layout, seed) for seed, layout in enumerate(layouts)], "left")
    assert generate(model, batch, **WAYS[way]).tolist() == generate(model, batch, use_cache=False, **WAYS[way]).tolist()


@pytest.mark.parametrize("how", [{}, {"suppress_tokens": [3]}, {"use_cache": False}, {"num_beams": 2}], ids=str)
def test_a_placeholder_is_never_said(kit: Any, how: dict[str, Any]) -> None:
    """It would stand for an image that nobody gave, so the next pass could not be read."""
    model = kit.build()
    with torch.no_grad():  # towards the placeholder, whatever came before
        model.lm_head.weight[IMAGE] = 50 * model(torch.tensor([[1, 2, 3]]), output_hidden_states=True).hidden_states[-1][0, -1]
        assert int(model(torch.tensor([[1, 2, 3]])).logits[0, -1].argmax()) == IMAGE
    said = model.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0, **how)
    assert said.shape == (1, 3 + NEW)
    assert not {IMAGE, *how.get("suppress_tokens", ())} & set(said[0, 3:].tolist())


def test_a_models_own_generation_settings_come_along(kit: Any) -> None:
    llm = AutoModelForCausalLM.from_config(kit.text_config("llama"))
    llm.generation_config.max_new_tokens, llm.generation_config.eos_token_id = 2, None
    model = WingsForConditionalGeneration.from_base(llm, None, WingsConfig(text_config=llm.config, image_token_id=IMAGE))
    assert model.generate(torch.tensor([[1, 2, 3]]), pad_token_id=0).shape == (1, 5)
    model.generation_config.max_new_tokens = 9
    assert llm.generation_config.max_new_tokens == 2


def test_pixels_and_their_features_give_the_same_reply(kit: Any) -> None:
    model = kit.build()
    row = kit.make_row(model, "tItIt", 0)
    pixels = torch.randn(2, 3, 8, 8)
    ids = torch.tensor([row.ids])
    how = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, "suppress_tokens": [IMAGE]}
    features = model.encode_images(pixels)
    assert model.generate(ids, pixel_values=pixels, **how).tolist() == model.generate(ids, image_features=features, **how).tolist()


# ---------------------------------------------------------------- what hangs on


class Collector(BaseStreamer):
    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.tokens += value.flatten().tolist()

    def end(self) -> None:
        self.ended = True


class StopAt(StoppingCriteria):
    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return input_ids[:, -1] == self.token


class Forbid(LogitsProcessor):
    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        scores[:, self.token] = -torch.inf
        return scores


def test_streamer_stopping_criteria_and_logits_processors_are_obeyed(kit: Any) -> None:
    model = kit.build()
    batch = kit.collate([kit.make_row(model, "ttItt", 0)])
    streamer = Collector()
    whole = generate(model, batch, do_sample=False, streamer=streamer)[0].tolist()
    assert streamer.tokens == whole and streamer.ended
    said = whole[-NEW:]
    stopped = generate(model, batch, do_sample=False, stopping_criteria=StoppingCriteriaList([StopAt(said[2])]))[0].tolist()
    assert stopped == whole[: len(whole) - NEW + said.index(said[2]) + 1]
    other = generate(model, batch, do_sample=False, logits_processor=LogitsProcessorList([Forbid(said[0])]))[0].tolist()
    assert said[0] not in other[-NEW:]
    alike = generate(model, batch, do_sample=False, suppress_tokens=[IMAGE, said[0]])[0].tolist()
    assert other == alike


def test_scores_and_caches_come_back_on_request(kit: Any) -> None:
    model = kit.build()
    batch = kit.collate([kit.make_row(model, layout, seed) for seed, layout in enumerate(LAYOUTS)], "left")
    out = generate(model, batch, do_sample=False, return_dict_in_generate=True, output_logits=True)
    assert len(out.logits) == NEW
    with torch.no_grad():
        ids = out.sequences[:, :-1]
        mask = torch.cat((batch.attention_mask, torch.ones(3, NEW - 1, dtype=torch.long)), dim=1)
        logits = model(ids, attention_mask=mask, image_features=batch.image_features, logits_to_keep=NEW).logits
    torch.testing.assert_close(torch.stack(out.logits, dim=1), logits, atol=3e-5, rtol=1e-4)
    ids = torch.cat((out.sequences, torch.full((3, 1), 5)), dim=1)
    longer = kit.batch(ids, torch.cat((mask, torch.ones(3, 2, dtype=torch.long)), dim=1), None)
    grown = generate(model, longer, do_sample=False, past_key_values=out.past_key_values)  # the cache continues where it stopped
    longer.image_features = batch.image_features
    assert grown.tolist() == generate(model, longer, do_sample=False).tolist()


def test_bfloat16_generates(kit: Any) -> None:
    model = kit.build().to(torch.bfloat16)
    batch = kit.collate([kit.make_row(model, layout, seed) for seed, layout in enumerate(["ttItt", "tt"])], "left")
    for way in ("greedy", "beams"):
        assert generate(model, batch, **WAYS[way]).shape == (2, batch.input_ids.shape[1] + NEW)
