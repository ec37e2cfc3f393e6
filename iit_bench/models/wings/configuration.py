"""The configuration of a Wings model, saved beside its weights as config.json."""

from __future__ import annotations

import copy
import math
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

import iit_bench.models.wings.efficientnet_configuration  # noqa: F401  (a tower that transformers does not have is known from here on)
from iit_bench.images import MOST_PIXELS
from iit_bench.models.huggingface.processor_limits import LONGEST, MOST_TOKENS

MODES = ("strict", "released")
LEARNERS = ("visual", "textual")
# Decoders whose layer is exactly h + attention(norm(h)), h + mlp(norm(h)). Others (Gemma's extra norms, Granite's residual
# multipliers, Cohere's parallel blocks) would load without an error and compute something else.
CARRIERS = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
RELEASED_CARRIERS = ("llama", "qwen2")
MAX_IMAGE_PIXELS = 64_000_000
CONVERSATIONS = ("qwen", "llama")


class WingsConfig(PreTrainedConfig):
    """Configuration of `WingsForConditionalGeneration`.

    Fields:
        text_config: configuration of the decoder, one of `CARRIERS` (dict or PreTrainedConfig).
        vision_config: configuration of the vision tower, any that AutoModel builds (dict or PreTrainedConfig).
        mode: "strict" (docs/spec/wings.md#part-b-strict) or "released", the equations of the authors' code, quirks included
            (docs/spec/wings.md#part-a-released, see `released/`).
        learners: which learners the layers carry: both, one, or none (none = LLaVA-style).
        learner_layers: layers that carry them; None = all.
        lora_dim: rank r of every low-rank product of a learner.
        learner_scale: s in h2 = h1 + s (ρ0 img + ρ1 txt) where both learners are visible (docs/spec/wings.md#b5-router-weights).
        router: whether layers with both learners have a router. Without one the textual learner adds nothing (stage 1).
        equal_weights: without a router, both learners have weight 1 (docs/spec/wings.md#b5-router-weights) in place of that; mode "strict".
        router_width: longest context the router can weigh, in tokens.
        prefix_length: learned keys and values before every row, as many per layer (docs/spec/wings.md#b11-learned-prefix); 0 = none. Mode
            "strict" without learners.
        image_token_id: placeholder id; an image occupies `image_token_length` of them.
        image_token_length: T, vectors per image; None = measured when the model is built (`from_base`).
        vision_hidden_size: width of the tower's features; None = measured likewise.
        vision_feature_layer: index into the tower's hidden_states; None = its last_hidden_state.
        image_size, image_mean, image_std, image_background: preprocessing: pad to a square with the background colour (0–255),
            resize to image_size × image_size bicubically, divide by 255, subtract the mean, divide by the standard deviation.
        max_image_pixels: an image that has more, padded to a square, is refused before it is padded. Above twice
            PIL.Image.MAX_IMAGE_PIXELS (179 million), PIL refuses.
        conversation: prompts by a script of the released code, "qwen" or "llama" (`released/scripts.py`); None = by the tokenizer's chat
            template.

    Only mode "released" reads:
        system_prompt_length: S, leading tokens that are not text keys in a row with an image.
        tokenizer_max_length: rows are cut to this many vectors after their images are in place; None = never.
        tokenizer_padding_side: "left" or "right", where rows are padded after their images are in place.
        released_window: keys this many or more positions back are hidden, also from the textual learner; None = none are. The released
            Qwen2 code hides them even if its configuration has use_sliding_window=False.
    """

    model_type = "wings"
    sub_configs_defaults = {  # noqa: RUF012
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="siglip_vision_model"),
    }

    text_config: Any = None
    vision_config: Any = None
    mode: str = "strict"
    learners: list[str] | tuple[str, ...] = ("visual", "textual")
    learner_layers: list[int] | None = None
    lora_dim: int = 64
    learner_scale: float = 2.0
    router: bool = True
    equal_weights: bool = False
    router_width: int = 4096
    prefix_length: int = 0
    image_token_id: int = -1
    image_token_length: int | None = None
    vision_hidden_size: int | None = None
    vision_feature_layer: int | None = None
    image_size: int = 384
    image_mean: list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)
    image_std: list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)
    image_background: list[int] | tuple[int, ...] = (127, 127, 127)
    max_image_pixels: int = MAX_IMAGE_PIXELS
    conversation: str | None = None
    system_prompt_length: int = 14
    tokenizer_max_length: int | None = None
    tokenizer_padding_side: str = "right"
    released_window: int | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        # Copies, because the model changes its decoder's attention function, which must not reach the caller's object.
        self.text_config = copy.deepcopy(self.text_config)
        self.vision_config = copy.deepcopy(self.vision_config)
        super().__post_init__(**kwargs)
        self.learners = list(self.learners)
        self.tie_word_embeddings = bool(self.text_config.tie_word_embeddings)
        self._check()
        self._check_numbers()

    @property
    def layers_with_learners(self) -> tuple[int, ...]:
        """Indices of the layers that carry learners."""
        if not self.learners:
            return ()
        layers = self.learner_layers
        return tuple(range(self.text_config.num_hidden_layers)) if layers is None else tuple(layers)

    @property
    def has_router(self) -> bool:
        """Whether layers with learners have a router: only with both learners is there something to weigh."""
        return self.router and len(self.learners) == 2

    @property
    def active_learners(self) -> tuple[str, ...]:
        """Learners that add to the residual stream: with both and no router (stage 1 of the released recipe) only the visual one.

        With `equal_weights` both.
        """
        if len(self.learners) == 2 and not self.router and not self.equal_weights:
            return ("visual",)
        return tuple(self.learners)

    def _check(self) -> None:
        text = self.text_config
        if self.mode not in MODES:
            raise ValueError(f"mode {self.mode!r} is unknown: use one of {', '.join(MODES)}")
        if self.mode == "released" and text.model_type not in RELEASED_CARRIERS:
            raise ValueError(f"mode 'released' has no decoder of type {text.model_type!r}: use one of {', '.join(RELEASED_CARRIERS)}")
        if self.equal_weights and (self.router or self.mode == "released"):
            raise ValueError("equal_weights is for mode 'strict' without a router: set router to false, or equal_weights to false")
        if self.prefix_length and (self.learners or self.mode == "released"):
            raise ValueError("a learned prefix is for mode 'strict' without learners: set learners to [], or prefix_length to 0")
        if self.conversation is not None and self.conversation not in CONVERSATIONS:
            raise ValueError(f"conversation {self.conversation!r} is unknown: use one of {', '.join(CONVERSATIONS)} or null")
        if self.tokenizer_padding_side not in ("left", "right"):
            raise ValueError(f"tokenizer_padding_side {self.tokenizer_padding_side!r} is unknown: use left or right")
        if text.model_type not in CARRIERS:
            raise ValueError(f"a decoder of type {text.model_type!r} cannot carry learners: use one of {', '.join(CARRIERS)}")
        unknown = [name for name in self.learners if name not in LEARNERS]
        if unknown or len(set(self.learners)) != len(self.learners):
            raise ValueError(f"learners {self.learners} must be distinct names out of {', '.join(LEARNERS)}")
        absent = [layer for layer in self.learner_layers or () if not 0 <= layer < text.num_hidden_layers]
        if absent:
            raise ValueError(f"learner_layers {absent} do not exist: the decoder has layers 0 to {text.num_hidden_layers - 1}")
        if self.learners and text.hidden_size % (2 * text.num_attention_heads):
            raise ValueError(
                f"hidden_size {text.hidden_size} must be divisible by twice num_attention_heads ({text.num_attention_heads}): "
                "a learner's heads have size hidden_size / num_attention_heads and are rotated in halves"
            )

    def _check_numbers(self) -> None:
        """Refuse what would allocate without bounds, or make numbers that are not finite."""
        ranges = {"image_size": (1, LONGEST), "max_image_pixels": (1, 2 * MOST_PIXELS), "prefix_length": (0, MOST_TOKENS)}
        ranges |= {"image_token_length": (1, MOST_TOKENS)} if self.image_token_length is not None else {}
        for name, (low, high) in ranges.items():
            if type(value := getattr(self, name)) is not int or not low <= value <= high:
                raise ValueError(f"{name} {value!r} must be a whole number from {low} to {high}")
        whole = ("lora_dim", "router_width", "image_token_id", "system_prompt_length")
        optional = ("vision_hidden_size", "vision_feature_layer", "tokenizer_max_length", "released_window")
        for name in (*whole, *(one for one in optional if getattr(self, one) is not None)):
            if type(value := getattr(self, name)) is not int:
                raise ValueError(f"{name} {value!r} must be a whole number" + (" or null" if name in optional else ""))
        lists = {"image_mean": -math.inf, "image_std": 0.0, "image_background": -1.0}
        for name, above in lists.items():
            values = getattr(self, name)
            if not (isinstance(values, list | tuple) and len(values) == 3 and all(_is_finite(one) and one > above for one in values)):
                raise ValueError(f"{name} {values!r} must be three numbers" + (f" above {above:g}" if above > -math.inf else ""))
        if not _is_finite(self.learner_scale):
            raise ValueError(f"learner_scale {self.learner_scale!r} must be a number")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
