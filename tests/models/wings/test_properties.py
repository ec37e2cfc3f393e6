"""Mode `strict`'s properties (docs/spec/wings.md#part-b-strict) over random configurations and dialogues."""

from __future__ import annotations

import itertools
import operator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iit_bench.models.wings.cache import WingsCache

TOLERANCE = {"atol": 1e-4, "rtol": 1e-3}
KINDS = ["llama", "smollm", "smollm3", "qwen2", "qwen2-window", "qwen3", "mistral"]
LAYERS = 2
# The same cases on every machine and in every run; a longer search: change `derandomize` and `max_examples`.
thorough = settings(deadline=None, database=None, derandomize=True, max_examples=30, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Case:
    """A random configuration; `build` makes its model with every weight random."""

    kind: str
    heads: int
    groups: int
    image_length: int
    theta: float
    seed: int
    fields: dict[str, Any]

    def build(self, kit: Any, dtype: torch.dtype = torch.float32, **fields: Any) -> Any:
        text = kit.text_config(
            self.kind,
            num_hidden_layers=LAYERS,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads // self.groups,
            rope_parameters={"rope_type": "default", "rope_theta": self.theta},
        )
        model = kit.build(text_config=text, seed=self.seed, image_token_length=self.image_length, **(self.fields | fields))
        return model.to(dtype)


def cases(both: bool = False) -> st.SearchStrategy[Case]:
    """Configurations; `both`: every layer has both learners and a router."""
    weighing = st.sampled_from([{"router": True}, {"router": True}, {"router": False}, {"router": False, "equal_weights": True}])
    carried = st.fixed_dictionaries(
        {
            "lora_dim": st.integers(1, 5),
            "learner_scale": st.sampled_from([0.5, 1.0, 2.0]),
            "learners": st.sampled_from([["visual", "textual"]] * 3 + [["textual", "visual"], ["visual"], ["textual"], []]),
            "learner_layers": st.sampled_from([None, None, [0], [1], []]),
        }
    )
    weighed = st.fixed_dictionaries({"lora_dim": st.integers(1, 5), "learner_scale": st.sampled_from([0.5, 1.0, 2.0])})
    return st.builds(
        Case,
        kind=st.sampled_from(KINDS),
        heads=st.sampled_from([4, 8]),
        groups=st.sampled_from([1, 2, 4]),
        image_length=st.sampled_from([1, 3, 4]),
        theta=st.sampled_from([100.0, 10000.0]),
        seed=st.integers(0, 2**16),
        fields=weighed if both else st.builds(operator.or_, carried, weighing),
    )


DTYPES = st.sampled_from([torch.float32, torch.bfloat16])
SIDES = st.sampled_from(["left", "right", "inside"])
TURNS = st.text("ttI", min_size=1, max_size=5)  # "t" a text token, "I" an image; several images a turn, in any turn, at either end
DIALOGUES = st.lists(TURNS, min_size=1, max_size=3).map("".join)


def make_rows(kit: Any, model: Any, layouts: list[str]) -> list[Any]:
    return [kit.make_row(model, layout, 100 + seed) for seed, layout in enumerate(layouts)]


def joined(kit: Any, first: Any, second: Any) -> Any:
    return kit.row(first.ids + second.ids, torch.cat((first.features, second.features)))


def alone(kit: Any, model: Any, row: Any) -> torch.Tensor:
    """Logits [n, V] of a row without padding, cache or company."""
    (logits,) = kit.logits_by_row(model, kit.collate([row]))
    return logits


# ---------------------------------------------------------------- what is computed


@pytest.mark.slow
@given(case=cases(), layout=DIALOGUES)
@thorough
def test_logits_equal_the_plain_loop_reference(kit: Any, case: Case, layout: str) -> None:
    model = case.build(kit)
    (row,) = make_rows(kit, model, [layout])
    torch.testing.assert_close(alone(kit, model, row), kit.reference_logits(model, row), **TOLERANCE)


@pytest.mark.slow
@given(case=cases(), layout=DIALOGUES)
@thorough
def test_bfloat16_stays_near_the_plain_loop_reference(kit: Any, case: Case, layout: str) -> None:
    model = case.build(kit, torch.bfloat16)
    (row,) = make_rows(kit, model, [layout])
    expected = kit.reference_logits(model, row)  # of the rounded weights, in float64
    assert (alone(kit, model, row) - expected).square().mean().sqrt() < 0.06 * expected.square().mean().sqrt()


# ---------------------------------------------------------------- who sees whom


@pytest.mark.slow
@given(case=cases(), dtype=DTYPES, layout=DIALOGUES, data=st.data())
@thorough
def test_what_comes_later_changes_no_bit_of_an_earlier_logit(kit: Any, case: Case, dtype: torch.dtype, layout: str, data: Any) -> None:
    model = case.build(kit, dtype)
    (row,) = make_rows(kit, model, [layout])
    cut = data.draw(st.integers(0, len(layout) - 1))
    start = sum(case.image_length if letter == "I" else 1 for letter in layout[:cut])
    images = layout[:cut].count("I")
    other = kit.row(list(row.ids), row.features.clone())
    other.ids[start:] = [token if token == 47 else (token + 1) % 47 for token in row.ids[start:]]
    other.features[images:] += 1.0
    before, after = alone(kit, model, row), alone(kit, model, other)
    assert torch.equal(after[:start], before[:start])
    assert not torch.equal(after[start:], before[start:])


@pytest.mark.slow
@given(case=cases(), first=DIALOGUES, second=DIALOGUES)
@thorough
def test_appending_text_and_images_changes_no_earlier_logit(kit: Any, case: Case, first: str, second: str) -> None:
    model = case.build(kit)
    rows = make_rows(kit, model, [first, second])
    whole = alone(kit, model, joined(kit, *rows))
    torch.testing.assert_close(whole[: len(rows[0])], alone(kit, model, rows[0]), **TOLERANCE)


@pytest.mark.slow
@given(case=cases(), layouts=st.lists(DIALOGUES, min_size=2, max_size=4), side=SIDES, extra=st.integers(0, 4))
@thorough
def test_batch_padding_and_neighbours_change_no_row(kit: Any, case: Case, layouts: list[str], side: str, extra: int) -> None:
    model = case.build(kit)
    rows = make_rows(kit, model, layouts)
    for row, logits in zip(rows, kit.logits_by_row(model, kit.collate(rows, side, extra)), strict=True):
        torch.testing.assert_close(logits, alone(kit, model, row), **TOLERANCE)


@pytest.mark.slow
@given(case=cases(both=True), dtype=DTYPES, layouts=st.lists(DIALOGUES, min_size=1, max_size=3), side=SIDES)
@thorough
def test_a_query_that_sees_nothing_gets_exactly_nothing(kit: Any, case: Case, dtype: torch.dtype, layouts: list[str], side: str) -> None:
    """Whatever a learner's weights are, not a bit changes where it sees no key, and no gradient comes from there."""
    model = case.build(kit, dtype)
    batch = kit.collate(make_rows(kit, model, ["tt", *layouts]), side, extra=1)
    before = kit.logits_by_row(model, batch)
    blind = [_columns_blind_to(batch, row, columns) for row, columns in enumerate(batch.columns)]
    for learner, which in (("attn_pool", 0), ("attn_t_pool", 1)):
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if f".{learner}." in name:
                    parameter.mul_(-50)
        for old, new, counts in zip(before, kit.logits_by_row(model, batch), blind, strict=True):
            count = counts[which]
            assert torch.equal(new[:count], old[:count])
            assert count == len(old) or not torch.equal(new[count:], old[count:])
        model.load_state_dict(weights)
    logits = model(**batch.inputs).logits
    sum(logits[row, columns[: counts[0]]].sum() for row, (columns, counts) in enumerate(zip(batch.columns, blind, strict=True))).backward()
    for name, parameter in model.named_parameters():
        if ".attn_pool." in name or "mm_projector" in name:
            assert parameter.grad is None or not parameter.grad.any(), name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def _columns_blind_to(batch: Any, row: int, columns: list[int]) -> tuple[int, int]:
    """How many of a row's first tokens see no image, and how many see no text."""
    is_image = (batch.input_ids[row, columns] == 47).tolist()
    return is_image.index(True) if True in is_image else len(columns), is_image.index(False) if False in is_image else len(columns)


# ---------------------------------------------------------------- cache


@pytest.mark.slow
@given(case=cases(), layouts=st.lists(DIALOGUES, min_size=1, max_size=3), side=SIDES, data=st.data())
@thorough
def test_cached_equals_uncached_over_any_split(kit: Any, case: Case, layouts: list[str], side: str, data: Any) -> None:
    model = case.build(kit)
    batch = kit.collate(make_rows(kit, model, layouts), side)
    width = batch.input_ids.shape[1]
    cuts = sorted(data.draw(st.sets(st.integers(1, width - 1), max_size=8))) if width > 1 else []  # inside images too
    with torch.no_grad():
        whole = model(**batch.inputs).logits
    parts = kit.in_chunks(model, batch, cuts)
    for index, columns in enumerate(batch.columns):
        torch.testing.assert_close(parts[index, columns], whole[index, columns], **TOLERANCE)


@pytest.mark.slow
@given(
    case=cases(),
    prefixes=st.lists(DIALOGUES, min_size=1, max_size=3),
    continuations=st.lists(st.tuples(st.integers(0, 2), DIALOGUES), min_size=1, max_size=4),
    side=SIDES,
    split=st.booleans(),
)
@thorough
def test_a_prefix_cached_once_serves_many_continuations(
    kit: Any, case: Case, prefixes: list[str], continuations: list[tuple[int, str]], side: str, split: bool
) -> None:
    """`split`: where a prefix ends with an image, its last vectors come with every continuation."""
    model = case.build(kit)
    wholes = make_rows(kit, model, prefixes)
    late = [case.image_length - 1 if split and layout[-1] == "I" else 0 for layout in prefixes]
    begun = [kit.row(row.ids[: len(row) - count], row.features) for row, count in zip(wholes, late, strict=True)]
    batch = kit.collate(begun, side)
    chosen = [number % len(begun) for number, _ in continuations]
    rows = make_rows(kit, model, [layout for _, layout in continuations])
    expected = [alone(kit, model, joined(kit, wholes[at], row))[len(begun[at]) :] for at, row in zip(chosen, rows, strict=True)]
    tail = kit.collate([kit.row(wholes[at].ids[len(begun[at]) :] + row.ids, row.features) for at, row in zip(chosen, rows, strict=True)])
    picked = torch.tensor(chosen)
    mask = torch.cat((batch.attention_mask[picked], tail.attention_mask), dim=1)
    with torch.no_grad():
        cache = _prefix(model, batch, split)
        for _ in range(2):  # the prefix's own cache stays as it was
            grown = cache.select(picked)
            out = model(tail.input_ids, attention_mask=mask, image_features=tail.image_features, past_key_values=grown)
            for logits, columns, wanted in zip(out.logits, tail.columns, expected, strict=True):
                torch.testing.assert_close(logits[columns], wanted, **TOLERANCE)


def _prefix(model: Any, batch: Any, split: bool) -> Any:
    """The cache after a prefix; one that ends inside an image is a chunk of a longer row, so it needs a cache to begin with."""
    cache = WingsCache() if split else None
    return model(**batch.inputs, past_key_values=cache, use_cache=True).past_key_values


@pytest.mark.slow
@given(case=cases(), prefixes=st.lists(DIALOGUES, min_size=1, max_size=2), lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4))
@thorough
def test_branches_side_by_side_equal_rows_of_their_own(kit: Any, case: Case, prefixes: list[str], lengths: list[int]) -> None:
    model = case.build(kit)
    begun = make_rows(kit, model, prefixes)
    batch = kit.collate(begun, "left")
    replies = [[kit.make_row(model, "t" * count, 10 * row + n) for n, count in enumerate(lengths)] for row in range(len(begun))]
    ids = torch.tensor([[token for reply in row for token in reply.ids] for row in replies])
    places = list(itertools.pairwise([0, *itertools.accumulate(lengths)]))
    ends = torch.tensor([[end for start, end in places for _ in range(start, end)]] * len(begun))
    with torch.no_grad():
        cache = model(**batch.inputs, use_cache=True).past_key_values
        logits = model(ids, ends=ends, past_key_values=cache).logits
    for row, (prefix, of_row) in enumerate(zip(begun, replies, strict=True)):
        for (start, end), reply in zip(places, of_row, strict=True):
            expected = alone(kit, model, joined(kit, prefix, reply))[len(prefix) :]
            torch.testing.assert_close(logits[row, start:end], expected, **TOLERANCE)


# ---------------------------------------------------------------- none


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_without_learners_it_is_transformers_own_decoder(kit: Any, kind: str) -> None:
    """Random dialogues through the plain decoder of the same weights, images spliced into its embeddings."""
    from transformers import AutoModelForCausalLM

    model = kit.build(text_config=kit.text_config(kind), learners=[])
    plain = AutoModelForCausalLM.from_config(kit.text_config(kind)).eval()
    plain.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if "vision_tower" not in name and "mm_" not in name})

    @given(layout=DIALOGUES)
    @settings(thorough, max_examples=4)
    def compare(layout: str) -> None:
        (row,) = make_rows(kit, model, [layout])
        ids = torch.tensor(row.ids)
        with torch.no_grad():
            embeddings = plain.get_input_embeddings()(ids)
            embeddings[ids == 47] = model.model.mm_projector(row.features).flatten(0, 1)
            torch.testing.assert_close(alone(kit, model, row), plain(inputs_embeds=embeddings[None]).logits[0], **TOLERANCE)

    compare()
