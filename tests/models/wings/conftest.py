"""Tiny Wings models of every kind, random rows of text and images, and a slow reference of mode `strict` in plain loops."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from transformers import (
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    ResNetConfig,
    SiglipVisionConfig,
    SmolLM3Config,
)

from iit_bench.models.wings.cache import WingsCache
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.models.wings.processor import WingsProcessor
from iit_bench.types import Image

IMAGE_ID = 47
VOCABULARY = 48
HIDDEN = 32


def text_config(kind: str, **fields: Any) -> PreTrainedConfig:
    """A tiny decoder of a kind; `fields` override its shape."""
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        **fields,
    }
    if kind == "llama":
        return LlamaConfig(**shape)
    if kind == "smollm":  # SmolLM2 is a Llama with tied embeddings
        return LlamaConfig(**shape, tie_word_embeddings=True)
    if kind == "smollm3":  # some of its layers know no positions
        special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
        return SmolLM3Config(**shape, **special, no_rope_layers=[index % 2 for index in range(shape["num_hidden_layers"])])
    if kind == "qwen2":
        return Qwen2Config(**shape)
    if kind == "qwen2-window":  # only its later layers have one
        return Qwen2Config(**shape, use_sliding_window=True, sliding_window=6, max_window_layers=1)
    if kind == "qwen3":  # its heads are not hidden_size / num_attention_heads
        return Qwen3Config(**shape, head_dim=12)
    if kind == "mistral":
        return MistralConfig(**shape, sliding_window=7)
    raise ValueError(kind)


def vision_config(kind: str) -> PreTrainedConfig:
    if kind == "siglip":
        return SiglipVisionConfig(
            hidden_size=12,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=8,
            patch_size=4,
            vision_use_head=False,
        )
    return ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 10], depths=[1, 1], layer_type="basic", downsample_in_first_stage=False
    )  # 16 px -> 2 x 2 of 10 channels


def build(text: str = "llama", vision: str = "siglip", seed: int = 0, **fields: Any) -> WingsForConditionalGeneration:
    """A tiny model in evaluation mode whose every weight is random: nothing is zero, so nothing hides."""
    torch.manual_seed(seed)
    config = WingsConfig(
        **{
            "text_config": text_config(text),
            "vision_config": vision_config(vision),
            "lora_dim": 4,
            "router_width": 128,
            "image_token_id": IMAGE_ID,
            "image_token_length": 4,
            "vision_hidden_size": 12 if vision == "siglip" else 10,
            "image_size": 8 if vision == "siglip" else 16,
            **fields,
        }
    )
    model = WingsForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.2 if parameter.ndim > 1 else 0.1
            parameter.add_(torch.randn(parameter.shape) * spread)
            if ".o_proj.1." in name:
                parameter.mul_(3)  # learners that matter
    return model


@dataclass
class Row:
    """One row without padding: token ids with placeholders, and its images' tower features [n, T, D_v]."""

    ids: list[int]
    features: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)


def make_row(model: WingsForConditionalGeneration, layout: str, seed: int) -> Row:
    """A row from letters: "t" a text token, "I" an image, e.g. "ttItttIIt"."""
    generator = torch.Generator().manual_seed(seed)
    length, width = model.config.image_token_length, model.config.vision_hidden_size
    ids: list[int] = []
    for letter in layout:
        ids += [IMAGE_ID] * length if letter == "I" else [int(torch.randint(0, VOCABULARY - 1, (1,), generator=generator))]
    return Row(ids, torch.randn(layout.count("I"), length, width, generator=generator))


@dataclass
class Batch:
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    image_features: torch.Tensor | None
    columns: list[list[int]] = field(default_factory=list)  # of every row's tokens

    @property
    def inputs(self) -> dict[str, Any]:
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask, "image_features": self.image_features}


def collate(rows: list[Row], side: str = "right", extra: int = 0) -> Batch:
    """Pad rows on the left or right, or scatter padding inside them ("inside")."""
    width = max(len(row) for row in rows) + extra
    ids = torch.full((len(rows), width), 5)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    columns = []
    for index, row in enumerate(rows):
        gap = width - len(row)
        if side == "inside":
            chosen = sorted(torch.randperm(width, generator=torch.Generator().manual_seed(index))[: len(row)].tolist())
        else:
            start = gap if side == "left" else 0
            chosen = list(range(start, start + len(row)))
        ids[index, chosen] = torch.tensor(row.ids)
        mask[index, chosen] = 1
        columns.append(chosen)
    features = torch.cat([row.features for row in rows])
    return Batch(ids, mask, features if features.shape[0] else None, columns)


def logits_by_row(model: WingsForConditionalGeneration, batch: Batch) -> list[torch.Tensor]:
    with torch.no_grad():
        logits = model(**batch.inputs).logits
    return [logits[index, columns] for index, columns in enumerate(batch.columns)]


def in_chunks(model: WingsForConditionalGeneration, batch: Batch, cuts: list[int]) -> torch.Tensor:
    """Logits [B, N, V], fed to one cache in chunks that end before the columns `cuts`; each chunk brings the images that begin in it."""
    mark, length = model.config.image_token_id, model.config.image_token_length
    placeholders = (batch.input_ids == mark) & batch.attention_mask.bool()
    nth = placeholders.long().cumsum(1) - 1
    begins = placeholders & (nth % length == 0)
    number = begins.flatten().cumsum(0).view_as(begins) - 1
    cache, parts = WingsCache(), []
    for start, end in itertools.pairwise([0, *cuts, batch.input_ids.shape[1]]):
        chosen = number[:, start:end][begins[:, start:end]]
        with torch.no_grad():
            out = model(
                batch.input_ids[:, start:end],
                attention_mask=batch.attention_mask[:, :end],
                image_features=batch.image_features[chosen] if len(chosen) else None,
                past_key_values=cache,
            )
        parts.append(out.logits)
    return torch.cat(parts, dim=1)


def reference_logits(
    model: WingsForConditionalGeneration, row: Row, with_graph: bool = False, silent: Mapping[str, Container[int]] | None = None
) -> torch.Tensor:
    """Logits [n, V] of one row (docs/spec/wings.md#part-b-strict), with one loop per query, in float64. `with_graph` keeps gradients.

    `silent`: learner -> positions at which it adds nothing where both learners are weighed.
    """
    weights = {name: tensor.double() for name, tensor in model.state_dict(keep_vars=with_graph).items()}
    config, text = model.config, model.config.text_config
    n_heads, n_kv = text.num_attention_heads, text.num_key_value_heads
    head_dim = getattr(text, "head_dim", None) or HIDDEN // n_heads
    own_dim = HIDDEN // n_heads
    theta = text.rope_parameters["rope_theta"]
    length = config.image_token_length

    def linear(name: str, z: torch.Tensor) -> torch.Tensor:
        bias = weights.get(f"{name}.bias")
        out = weights[f"{name}.weight"] @ z
        return out if bias is None else out + bias

    def norm(name: str, z: torch.Tensor) -> torch.Tensor:
        return z / torch.sqrt((z * z).mean() + text.rms_norm_eps) * weights[f"{name}.weight"]

    def turn(z: torch.Tensor, position: int) -> torch.Tensor:
        half = z.shape[0] // 2
        angle = torch.tensor([position / theta ** (k / half) for k in range(half)], dtype=torch.float64)
        cos, sin = angle.cos(), angle.sin()
        return torch.cat((z[:half] * cos - z[half:] * sin, z[half:] * cos + z[:half] * sin))

    def project(image: torch.Tensor) -> torch.Tensor:
        return linear("model.mm_projector.2", torch.nn.functional.gelu(linear("model.mm_projector.0", image)))

    # Assemble the row: raw embeddings, kinds, and each image's first position.
    x, first = [], {}
    seen_vectors = 0
    for position, token in enumerate(row.ids):
        if token == IMAGE_ID:
            image, vector = divmod(seen_vectors, length)
            first.setdefault(image, position)
            x.append(project(row.features[image, vector].double()))
            seen_vectors += 1
        else:
            x.append(weights["model.embed_tokens.weight"][token])
    n = len(x)
    image_of = {start + k: start for start in first.values() for k in range(length)}  # position -> first position of its image

    def learner(prefix: str, h: torch.Tensor, i: int, keys: list[int]) -> torch.Tensor:
        def low_rank(part: str, z: torch.Tensor) -> torch.Tensor:
            return weights[f"{prefix}.{part}.1.weight"] @ (weights[f"{prefix}.{part}.0.weight"] @ z)

        if not keys:
            return torch.zeros(HIDDEN, dtype=torch.float64)
        q = (h + low_rank("q_proj", h)).view(n_heads, own_dim)
        heads = []
        for head in range(n_heads):
            scores, values = [], []
            for j in keys:
                k = (x[j] + low_rank("k_proj", x[j])).view(n_heads, own_dim)[head]
                scores.append(turn(q[head], i) @ turn(k, j) / math.sqrt(own_dim))
                values.append((x[j] + low_rank("v_proj", x[j])).view(n_heads, own_dim)[head])
            heads.append(torch.softmax(torch.stack(scores), 0) @ torch.stack(values))
        return low_rank("o_proj", torch.cat(heads))

    hidden = list(x)
    for layer in range(text.num_hidden_layers):
        base = f"model.layers.{layer}"
        slides = text.model_type == "mistral" or getattr(text, "layer_types", ["full_attention"] * 99)[layer] == "sliding_attention"
        window = text.sliding_window if slides else None
        has_positions = text.model_type != "smollm3" or text.no_rope_layers[layer]
        normed = [norm(f"{base}.input_layernorm", h) for h in hidden]
        q, k, v = ([linear(f"{base}.self_attn.{p}_proj", z).view(-1, head_dim) for z in normed] for p in "qkv")
        if text.model_type == "qwen3":
            q = [torch.stack([norm(f"{base}.self_attn.q_norm", head) for head in z]) for z in q]
            k = [torch.stack([norm(f"{base}.self_attn.k_norm", head) for head in z]) for z in k]
        after = []
        for i in range(n):
            heads, attended = [], torch.zeros(2, dtype=torch.float64)
            own = turn if has_positions else (lambda z, _: z)
            keys = [j for j in range(i + 1) if window is None or i - j < window]
            for head in range(n_heads):
                kv = head // (n_heads // n_kv)
                scores = torch.stack([own(q[i][head], i) @ own(k[j][kv], j) / math.sqrt(head_dim) for j in keys])
                probabilities = torch.softmax(scores, 0)
                heads.append(sum(p * v[j][kv] for p, j in zip(probabilities, keys, strict=True)))
                if config.has_router and layer in config.layers_with_learners:
                    table = weights[f"{base}.reweight_module.linear.weight"]
                    attended += sum(p * table[:, j] for p, j in zip(probabilities, keys, strict=True))
            h1 = hidden[i] + linear(f"{base}.self_attn.o_proj", torch.cat(heads))
            active = config.active_learners if layer in config.layers_with_learners else ()
            image_keys = [j for j in sorted(image_of) if image_of[j] <= i] if "visual" in active else []
            text_keys = [j for j in range(i + 1) if j not in image_of] if "textual" in active else []
            weight = {"visual": 1.0, "textual": 1.0}
            if image_keys and text_keys and config.has_router:
                z = attended + weights[f"{base}.reweight_module.linear.bias"]
                rho = torch.softmax(torch.nn.functional.silu(z), 0)
                weight = {"visual": config.learner_scale * rho[0], "textual": config.learner_scale * rho[1]}
                weight |= {name: torch.zeros(()) for name, positions in (silent or {}).items() if i in positions}
            h2 = h1
            if "visual" in active:
                h2 = h2 + weight["visual"] * learner(f"{base}.attn_pool", h1, i, image_keys)
            if "textual" in active:
                h2 = h2 + weight["textual"] * learner(f"{base}.attn_t_pool", h1, i, text_keys)
            z = norm(f"{base}.post_attention_layernorm", h2)
            gate = torch.nn.functional.silu(linear(f"{base}.mlp.gate_proj", z))
            after.append(h2 + linear(f"{base}.mlp.down_proj", gate * linear(f"{base}.mlp.up_proj", z)))
        hidden = after
    return torch.stack([linear("lm_head", norm("model.norm", h)) for h in hidden]).float()


def picture(seed: int) -> Image:
    """A PNG of random pixels."""
    file = io.BytesIO()
    PILImage.fromarray(np.random.default_rng(seed).integers(0, 256, (7 + seed, 11, 3), dtype=np.uint8)).save(file, "PNG")
    return Image(file.getvalue())


def save_tiny(folder: Path, tokenizer: Any, kind: str = "qwen2", **fields: Any) -> Path:
    """A model of the tokenizer's size, and its processor, in `folder`."""
    model = build(
        text_config=text_config(kind, vocab_size=len(tokenizer)), image_token_id=tokenizer.convert_tokens_to_ids("<image>"), **fields
    )
    model.save_pretrained(folder)
    WingsProcessor.from_config(model.config, tokenizer).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Kit:
    """The helpers above, handed to tests as one fixture."""

    build: Callable[..., WingsForConditionalGeneration] = build
    row: Callable[..., Row] = Row
    batch: Callable[..., Batch] = Batch
    make_row: Callable[..., Row] = make_row
    collate: Callable[..., Batch] = collate
    logits_by_row: Callable[..., list[torch.Tensor]] = logits_by_row
    in_chunks: Callable[..., torch.Tensor] = in_chunks
    reference_logits: Callable[..., torch.Tensor] = reference_logits
    text_config: Callable[..., PreTrainedConfig] = text_config
    save_tiny: Callable[..., Path] = save_tiny
    picture: Callable[[int], Image] = picture
    vision_config: Callable[[str], PreTrainedConfig] = vision_config


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()


CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A byte-level BPE with chat marks and `<image>`, whose template keeps the reply's delimiter out of the reply."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    marks = ["<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<image>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=marks, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(
        ["What is the capital of France? Paris or Berlin?", "Which colour is it? red blue a circle yes no"] * 3, trainer
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=marks[0],
        eos_token="<|end|>",
        additional_special_tokens=[marks[1], marks[2], marks[3], marks[5]],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def folder(kit: Kit, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with its processor, as `save_pretrained` writes them."""
    return save_tiny(tmp_path_factory.mktemp("wings"), tokenizer)
