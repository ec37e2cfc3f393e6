"""Mode `released` against its spec in plain loops, on random batches that no golden folder holds (docs/spec/wings.md#part-a-released)."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, Qwen2Config

from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.modeling import WingsForConditionalGeneration

pytestmark = pytest.mark.slow

SLOT = -200
VOCABULARY = 30
HIDDEN = 16


def build(kind: str = "qwen2", seed: int = 0, **fields: Any) -> WingsForConditionalGeneration:
    """A tiny model whose every weight is random; an image has 4 vectors, the system prompt 3 tokens."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": 20,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
        "eos_token_id": None,
        "bos_token_id": None,
    }
    config = WingsConfig(
        **{
            "text_config": Qwen2Config(**shape) if kind == "qwen2" else LlamaConfig(**shape),
            "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 1},
            "mode": "released",
            "lora_dim": 3,
            "router_width": 64,
            "image_token_id": SLOT,
            "image_token_length": 4,
            "vision_hidden_size": 12,
            "system_prompt_length": 3,
            **fields,
        }
    )
    model = WingsForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


class NoTextKeysError(Exception):
    """A row has none but other rows have: the released code fails."""


class CutImageError(Exception):
    """A row ends inside its image: the released code fails."""


def reference(
    model: WingsForConditionalGeneration,
    rows: list[list[int]],
    kept: list[list[int]] | None,
    features: torch.Tensor | None,
    labels: list[list[int]] | None,
) -> tuple[torch.Tensor, float | None]:
    """Logits [B, N, V] and loss, written from docs/spec/wings.md#part-a-released with one loop per query, in float64."""
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    config, text = model.config, model.config.text_config
    heads, kv = text.num_attention_heads, text.num_key_value_heads
    size, theta = HIDDEN // heads, text.rope_parameters["rope_theta"]

    def linear(name: str, z: torch.Tensor) -> torch.Tensor:
        return z @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)

    def norm(name: str, z: torch.Tensor) -> torch.Tensor:
        return z / torch.sqrt((z * z).mean(-1, keepdim=True) + text.rms_norm_eps) * weights[f"{name}.weight"]

    def turn(z: torch.Tensor, position: int) -> torch.Tensor:
        half = size // 2
        angle = torch.tensor([position / theta ** (k / half) for k in range(half)], dtype=torch.float64)
        first, second = z[..., :half], z[..., half:]
        return torch.cat((first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()), -1)

    def softmax_visible(scores: torch.Tensor, visible: list[bool]) -> torch.Tensor:
        """Of [..., K]; where nothing is visible all weigh the same."""
        if not any(visible):
            return torch.full_like(scores, 1 / scores.shape[-1])
        return torch.softmax(scores.masked_fill(~torch.tensor(visible), -math.inf), -1)

    # A.2, points 1 to 3
    images = (
        None
        if features is None
        else linear("model.mm_projector.2", torch.nn.functional.gelu(linear("model.mm_projector.0", features.double())))
    )
    vectors, targets, begins, cursor = [], [], [], 0
    for b, row in enumerate(rows):
        row_vectors, row_targets, begin, used = [], [], 0, 0
        for i, token in enumerate(row):
            if kept is not None and not kept[b][i]:
                continue
            if token != SLOT:
                row_vectors.append(weights["model.embed_tokens.weight"][token])
                row_targets.append(-100 if labels is None else labels[b][i])
            elif images is not None and cursor + used < images.shape[0]:
                begin = len(row_vectors) if not used else begin
                row_vectors += list(images[cursor + used])
                row_targets += [-100] * images.shape[1]
                used += 1
        cursor += max(used, 1)
        vectors.append(row_vectors[: config.tokenizer_max_length])
        targets.append(row_targets[: config.tokenizer_max_length])
        begins.append(begin)
    n, batch = max(map(len, vectors)), len(rows)
    left = config.tokenizer_padding_side == "left"
    x, valid, gold = [], [], []
    for row_vectors, row_targets in zip(vectors, targets, strict=True):
        gap = n - len(row_vectors)
        pads = [torch.zeros(HIDDEN, dtype=torch.float64)] * gap
        x.append(torch.stack(pads + row_vectors if left else row_vectors + pads))
        valid.append([False] * gap + [True] * (n - gap) if left else [True] * (n - gap) + [False] * gap)
        gold.append([-100] * gap + row_targets if left else row_targets + [-100] * gap)
    length = 0 if images is None else images.shape[1]
    keys = [
        list(range(n)) if not begin else list(range(config.system_prompt_length, begin)) + list(range(begin + length, n))
        for begin in begins
    ]
    width = max(map(len, keys))
    copies = [width - len(row) for row in keys]
    if any(copy and not row for row, copy in zip(keys, copies, strict=True)):
        raise NoTextKeysError
    keys = [row + row[-1:] * copy for row, copy in zip(keys, copies, strict=True)]
    if any(begin and begin + length > n for begin in begins):
        raise CutImageError
    forgotten = n < length
    window = config.released_window

    def sees(b: int, i: int, j: int) -> bool:
        return j <= i and (kept is None or valid[b][j]) and (window is None or i - j < window)

    def learner(prefix: str, h: torch.Tensor, i: int, source: torch.Tensor, positions: list[int], visible: list[bool]) -> torch.Tensor:
        def low(part: str, z: torch.Tensor) -> torch.Tensor:
            return z @ weights[f"{prefix}.{part}.0.weight"].T @ weights[f"{prefix}.{part}.1.weight"].T

        if not positions:
            return torch.zeros(HIDDEN, dtype=torch.float64)
        q = turn((h + low("q_proj", h)).view(heads, size), i)
        k = torch.stack([turn(row, p) for row, p in zip((source + low("k_proj", source)).view(-1, heads, size), positions, strict=True)], 1)
        v = (source + low("v_proj", source)).view(-1, heads, size).transpose(0, 1)
        p = softmax_visible((q[:, None] * k).sum(-1) / math.sqrt(size), visible)
        return low("o_proj", (p[:, :, None] * v).sum(1).reshape(-1))

    logits = []
    for b in range(batch):
        hidden = list(x[b])
        for layer in range(text.num_hidden_layers):
            base = f"model.layers.{layer}"
            normed = [norm(f"{base}.input_layernorm", h) for h in hidden]
            q = [turn(linear(f"{base}.self_attn.q_proj", z).view(heads, size), i) for i, z in enumerate(normed)]
            k = torch.stack([turn(linear(f"{base}.self_attn.k_proj", z).view(kv, size), i) for i, z in enumerate(normed)], 1)
            v = torch.stack([linear(f"{base}.self_attn.v_proj", z).view(kv, size) for z in normed], 1)
            k, v = k.repeat_interleave(heads // kv, 0), v.repeat_interleave(heads // kv, 0)
            after = []
            for i in range(n):
                p = softmax_visible((q[i][:, None] * k).sum(-1) / math.sqrt(size), [sees(b, i, j) for j in range(n)])
                h1 = hidden[i] + linear(f"{base}.self_attn.o_proj", (p[:, :, None] * v).sum(1).reshape(-1))
                h2, found = h1, {}
                if images is not None:
                    source = images[b][: min(n, length)]
                    found["image"] = learner(
                        f"{base}.attn_pool", h1, i, source, [begins[b] + t for t in range(len(source))], [True] * len(source)
                    )
                if config.router:
                    late = not forgotten and i >= n - copies[b]
                    visible = [not late and sees(b, i, j) for j in range(width)]
                    found["text"] = learner(f"{base}.attn_t_pool", h1, i, x[b][keys[b]], keys[b], visible)
                if len(found) == 2:
                    router = f"{base}.reweight_module.linear"
                    z = p.sum(0) @ weights[f"{router}.weight"][:, :n].T + weights[f"{router}.bias"]
                    rho = torch.softmax(torch.nn.functional.silu(z), 0)
                    none = not any(copies) and not forgotten
                    c = 2 if none else 1 if forgotten or not copies[b] else 2
                    h2 = h1 + c * rho[0] * found["image"] + 2 * rho[1] * found["text"]
                elif found:
                    h2 = h1 + next(iter(found.values()))
                z = norm(f"{base}.post_attention_layernorm", h2)
                gate = torch.nn.functional.silu(linear(f"{base}.mlp.gate_proj", z))
                after.append(h2 + linear(f"{base}.mlp.down_proj", gate * linear(f"{base}.mlp.up_proj", z)))
            hidden = after
        logits.append(linear("lm_head", torch.stack([norm("model.norm", h) for h in hidden])))
    found_logits = torch.stack(logits)
    scored = [-found_logits[b, i].log_softmax(-1)[gold[b][i + 1]] for b in range(batch) for i in range(n - 1) if gold[b][i + 1] != -100]
    return found_logits, float(torch.stack(scored).mean()) if labels is not None and scored else None


@pytest.mark.parametrize("seed", range(40))
def test_random_batches_equal_part_a_in_plain_loops(seed: int) -> None:
    """Rows with and without images, slots anywhere, padding and deleted tokens, both sides, windows, cuts, both stages, both decoders."""
    dice = random.Random(seed)
    model = build(
        dice.choice(["qwen2", "llama"]),
        seed,
        router=dice.random() < 0.8,
        tokenizer_padding_side=dice.choice(["right", "left"]),
        released_window=dice.choice([None, None, 3, 6]),
        tokenizer_max_length=dice.choice([None, 9]),
    )
    with_images, masked = dice.random() < 0.75, dice.random() < 0.7
    rows, kept = [], []
    width = dice.choice([3, 5, 8])
    for _ in range(dice.choice([1, 1, 2, 3])):
        row = [dice.randrange(VOCABULARY) for _ in range(width)]
        keep = [1] * width
        if masked:
            keep = [int(i < width - dice.choice([0, 0, 1, 2])) for i in range(width)]
            keep[1] = dice.choice([1, 1, 0])
        if with_images and dice.random() < 0.7:
            row[dice.choice([0, 1, min(4, width - 1)])] = SLOT
        rows.append(row)
        kept.append(keep)
    features = torch.randn(len(rows), 4, 12, generator=torch.Generator().manual_seed(seed)) if with_images else None
    labels = [[token if token != SLOT and dice.random() < 0.7 else -100 for token in row] for row in rows]
    call = {"attention_mask": torch.tensor(kept) if masked else None, "image_features": features}
    try:
        expected = reference(model, rows, kept if masked else None, features, labels)
    except (NoTextKeysError, CutImageError) as error:
        with pytest.raises(ValueError, match="run it by itself" if isinstance(error, NoTextKeysError) else "inside its image"):
            model(torch.tensor(rows), **call)
        return
    with torch.no_grad():
        output = model(torch.tensor(rows), labels=torch.tensor(labels), return_logits=True, **call)
    torch.testing.assert_close(output.logits.double(), expected[0], atol=5e-5, rtol=1e-4)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        torch.testing.assert_close(model(torch.tensor(rows), **call).logits, output.logits, atol=5e-5, rtol=1e-4)
    if expected[1] is not None:
        assert float(output.loss) == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.parametrize("lengths", [(8, 8), (8, 5)], ids=["every query sees keys", "some see none"])
def test_fused_attention_has_the_gradients_of_attention_matrices(lengths: tuple[int, int]) -> None:
    found = []
    for attention in ("sdpa", "eager"):
        model = build()
        model.set_attn_implementation(attention)
        rows = torch.tensor([[1, 2, 3, 4, SLOT, 5, 6, 7], [9, 8, 7, 6, 5, 4, 3, 2]])
        mask = (torch.arange(8) < torch.tensor(lengths)[:, None]).long()
        model(rows, attention_mask=mask, image_features=picture(images=2), labels=rows.masked_fill(rows == SLOT, -100)).loss.backward()
        found.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=1e-5, rtol=1e-4, msg=name)


# ---------------------------------------------------------------- docs/spec/wings.md#what-that-means-per-situation


def picture(seed: int = 0, images: int = 1) -> torch.Tensor:
    return torch.randn(images, 4, 12, generator=torch.Generator().manual_seed(seed))


def test_later_text_is_seen_as_early_as_part_a_measured() -> None:
    """A.5: with S = 3, T = 4 and the image at 5, text before it is seen 3 positions early, text after it 7, the system prompt never."""
    model = build()
    row = [*range(1, 6), SLOT, *range(10, 22)]
    with torch.no_grad():
        base = model(torch.tensor([row]), image_features=picture()).logits[0]
    for column, token in enumerate(row):
        if token == SLOT:
            continue
        changed = torch.tensor([[*row[:column], 29, *row[column + 1 :]]])
        with torch.no_grad():
            logits = model(changed, image_features=picture()).logits[0]
        first = int((logits - base).abs().amax(-1).gt(1e-6).nonzero()[0])
        position = column if column < 5 else column + 3
        lead = 0 if column < 3 else 3 if column < 5 else 7
        assert position - first == min(lead, position), (column, first)


def test_text_without_images_is_causal_cached_exactly_and_equal_to_mode_strict() -> None:
    model, strict = build(), build(mode="strict", image_token_id=29)
    ids = torch.randint(0, 28, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, :4] = 0
    with torch.no_grad():
        whole = model(ids[:1]).logits
        torch.testing.assert_close(strict(ids[:1]).logits, whole, atol=1e-5, rtol=1e-5)
        first = model(ids, attention_mask=mask, use_cache=True)
        second = model(ids[:, :3], attention_mask=torch.cat((mask, mask[:, -3:]), 1), past_key_values=first.past_key_values)
        longer = model(torch.cat((ids[1:, 4:], ids[1:, :3]), 1)).logits
    torch.testing.assert_close(first.logits[:1], whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(second.logits[1], longer[0, -3:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("features", [None, picture()], ids=["text", "image"])
def test_generate_equals_recomputing_everything(features: torch.Tensor | None) -> None:
    model = build()
    start = ids = torch.tensor([[4, 5, 6, 7, SLOT if features is not None else 8, 9]])
    for _ in range(8):
        with torch.no_grad():
            chosen = model(ids, image_features=features).logits[:, -1].argmax(-1)
        ids = torch.cat((ids, chosen[:, None]), 1)
    assert model.generate(start, image_features=features, max_new_tokens=8, do_sample=False).tolist() == ids.tolist()


@pytest.mark.parametrize("features", [None, picture()], ids=["text", "image"])
def test_past_the_maximum_the_same_token_is_said_for_ever(features: torch.Tensor | None) -> None:
    model = build(tokenizer_max_length=12)
    start = torch.tensor([[4, 5, 6, 7, SLOT if features is not None else 8, 9]])
    said = model.generate(start, image_features=features, max_new_tokens=12, do_sample=False)[0, 6:].tolist()
    cut = 12 - (6 if features is None else 9)  # tokens until the row is full; what is said at its end is said again and again
    assert len(set(said[cut:])) == 1


def test_neighbours_and_padding_change_a_row() -> None:
    """A.6, the reason why this mode answers dialogues with images one at a time."""
    model = build()
    row = [1, 2, 3, 4, SLOT, 6, 7]
    with torch.no_grad():
        alone = model(torch.tensor([row]), attention_mask=torch.ones(1, 7), image_features=picture()).logits[0]
        padded = torch.tensor([[*row, 0, 0], [9, 8, 7, 6, 5, SLOT, 3, 2, 1]])
        mask = torch.tensor([[1] * 7 + [0] * 2, [1] * 9])
        beside = model(padded, attention_mask=mask, image_features=picture(images=2)).logits[0, :10]
    assert (alone - beside).abs().max() > 1e-2


def test_what_the_released_code_fails_at_is_refused() -> None:
    model = build(router_width=12, tokenizer_max_length=30)
    row = torch.tensor([[1, 2, 3, SLOT, 5]])
    with pytest.raises(ValueError, match="slots but no images"):
        model(row)
    with pytest.raises(ValueError, match="one image per row: 2 images were given for 1 rows"):
        model(row, image_features=picture(images=2))
    with pytest.raises(ValueError, match="took every image"):
        model(torch.tensor([[1, SLOT, SLOT], [2, SLOT, 3]]), image_features=picture(images=2))
    with pytest.raises(ValueError, match="13 tokens but the router is 12 wide"):
        model(torch.tensor([[1, 2, 3, SLOT, *range(9)][:10]]), image_features=picture())
    assert model(torch.arange(20)[None]).logits.shape == (1, 20, VOCABULARY)  # without an image no router is asked
    with pytest.raises(ValueError, match="no cache for images"):
        model(row, image_features=picture(), use_cache=True)
    with pytest.raises(ValueError, match="cache for 30 tokens but 31 were given"):
        model(torch.ones(1, 31, dtype=torch.long), use_cache=True)
    with pytest.raises(ValueError, match="tokenizer_padding_side 'middle'"):
        build(tokenizer_padding_side="middle")
    with pytest.raises(ValueError, match="conversation 'mistral' is unknown"):
        build(conversation="mistral")


def test_a_decoder_the_released_code_does_not_know_is_refused(kit: Any) -> None:
    with pytest.raises(ValueError, match="mode 'released' has no decoder of type 'qwen3'"):
        kit.build("qwen3", mode="released")
