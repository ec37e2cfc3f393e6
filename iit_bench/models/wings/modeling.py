"""Wings as a transformers model (docs/spec/wings.md#part-b-strict, #part-a-released).

Mode `strict` is over any decoder of the Llama shape, mode `released` over two.
"""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from iit_bench.models.wings.cache import WingsCache
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.decoder import WingsDecoder
from iit_bench.models.wings.decoding import use_stacked
from iit_bench.models.wings.labelled import labelled
from iit_bench.models.wings.layout import check_whole_images, read_layout, read_single_token, read_tree
from iit_bench.models.wings.lorra import SelfInitialised
from iit_bench.models.wings.prefix import Prefix, begun
from iit_bench.models.wings.projected_keys import project_keys
from iit_bench.models.wings.released.rows import build_released_step, expand
from iit_bench.models.wings.state import Layout, RowState, Step
from iit_bench.models.wings.step import build_step, splice
from iit_bench.models.wings.vision import VisionTower

# What `generate` calls a cache: transformers 5.24 has renamed it.
CACHE = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"


class WingsForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """A decoder that reads text and images. See `forward` for the input convention and `from_base` for building one."""

    config: WingsConfig
    config_class = WingsConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["WingsDecoderLayer"]  # noqa: RUF012
    # Learners are read stacked and the router as a table; by the usage of other models the projector, tower and head stay as they are too.
    _not_quantised = (r".*\.(attn_pool|attn_t_pool|reweight_module|mm_projector|vision_tower)", "lm_head")  # patterns of transformers
    _skip_keys_device_placement = ["past_key_values", "cache"]  # noqa: RUF012
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: WingsConfig) -> None:
        super().__init__(config)
        self.model = WingsDecoder(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    # ------------------------------------------------------------ building

    @classmethod
    def from_base(cls, llm: PreTrainedModel, tower: PreTrainedModel | None, config: WingsConfig) -> WingsForConditionalGeneration:
        """A pretrained decoder and vision tower (weights copied), with a fresh projector, learners that add exactly nothing, and router.

        Args:
            llm: a causal language model of a type in `CARRIERS`, e.g. LlamaForCausalLM.
            tower: any vision model of transformers, or None for a model that reads text only.
            config: its sub-configurations are replaced by those of `llm` and `tower`; `image_token_length` and `vision_hidden_size`
                are measured if they are None.
        """
        fields = config.to_dict() | {"text_config": llm.config}
        fields.pop("model_type", None)
        if tower is not None:
            fields["vision_config"] = tower.config
        config = cls.config_class(**fields)
        if tower is not None and config.image_token_length is None:
            config.image_token_length, config.vision_hidden_size = measure_tower(tower, config)
        model = cls._from_config(config, dtype=llm.dtype)
        if llm.generation_config is not None:
            model.generation_config = copy.deepcopy(llm.generation_config)
        weights = dict(llm.state_dict())
        if tower is not None:
            weights |= {f"model.vision_tower.vision_tower.{name}": tensor for name, tensor in tower.state_dict().items()}
        model._copy_weights(weights)
        return model

    @classmethod
    def from_stage(cls, previous: WingsForConditionalGeneration, config: WingsConfig) -> WingsForConditionalGeneration:
        """The next stage: every weight of `previous` that `config` still has; what is new (textual learner, router) is fresh."""
        model = cls._from_config(config, dtype=previous.dtype)
        known = set(model.state_dict())
        model._copy_weights({name: tensor for name, tensor in previous.state_dict().items() if name in known})
        return model

    def _copy_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Copy weights by name; only the parts that Wings adds may be missing."""
        missing, unexpected = self.load_state_dict(weights, strict=False)
        added = ("attn_pool.", "attn_t_pool.", "reweight_module.", "mm_projector.", ".prefix.")
        missing = [name for name in missing if not any(part in name for part in added)]
        if self.config.tie_word_embeddings:
            missing = [name for name in missing if name != "lm_head.weight"]
        if missing or unexpected:
            raise ValueError(f"the weights do not fit the configuration: missing {missing[:3]}, unexpected {unexpected[:3]}")

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, SelfInitialised | Prefix):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    # ------------------------------------------------------------ running

    def encode_images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Tower features, before the projector: [n, 3, size, size] → [n, T, D_v]. Worth caching: they do not depend on the text.

        Raises:
            ValueError: the model has no vision tower.
        """
        if not hasattr(self.model, "vision_tower"):
            raise ValueError("this model has no vision tower, so it cannot read images")
        return self.model.vision_tower(pixel_values)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        past_key_values: WingsCache | None = None,
        use_cache: bool | None = None,
        ends: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        return_logits: bool | None = None,
        output_hidden_states: bool = False,
        one_text_token: bool = False,
        position_ids: torch.Tensor | None = None,
        return_dict: bool | None = None,
        cache: WingsCache | None = None,
    ) -> CausalLMOutputWithPast:
        """One pass over whole rows, or over the next chunk of rows that `past_key_values` holds.

        In mode `released` an image is one `config.image_token_id`, every row has one image or none has, N in the outputs is the length
        after images are put in place and rows are cut and padded (A.2), and only text has a cache.

        Args:
            input_ids: [B, N] int64; each image is T copies of `config.image_token_id`.
            attention_mask: [B, N] or [B, past + N], 0 at padding, which may be anywhere (B.1); None = no padding.
            pixel_values: [n, 3, size, size], the images that begin in this chunk, row by row, in reading order; or instead
            image_features: [n, T, D_v] from `encode_images`.
            labels: [B, N] int64, -100 = not scored; the loss is the mean cross-entropy of token i + 1 given tokens to i. In mode `strict`
                [B, N + 1] too: nothing reads a token after a row's last label, so that it need not be among `input_ids`.
            past_key_values: cache of the chunks before.
            use_cache: return a cache; default: only if one was given.
            ends: [B, N] int64: rows are trees, depth first, and a token sees its ancestors only, which are at the columns j of its path:
                column i sees j if j <= i < ends[j]. An image in several branches is given for each. What a given cache holds comes
                before the tree; it is unchanged and none is returned. In mode `released` only text has trees.
            logits_to_keep: 0 = all positions, k = the last k, or a tensor of column indices.
            return_logits: default: only without labels (the loss needs only the labelled positions).
            output_hidden_states: also return every layer's input and the normalised last output.
            one_text_token: the caller knows that `input_ids` [B, 1] continue cached rows with text, so nothing is checked and the device
                is not waited for.
            position_ids: ignored, as positions follow from the mask (B.1); accepted because transformers passes it.
            return_dict: ignored likewise.
            cache: another name of past_key_values, since transformers 5.24.

        Returns:
            loss float32 or None; logits [B, kept, V] float32 or None; past_key_values or None; hidden_states, a tuple of [B, N, D].

        Raises:
            ValueError: images and placeholders do not match, or the context is longer than the router is wide.
        """
        cache = past_key_values if cache is None else cache
        if cache is None and use_cache:
            cache = WingsCache()
        if cache is not None and not isinstance(cache, WingsCache):
            raise ValueError(f"past_key_values must be a WingsCache, not {type(cache).__name__}")
        if ends is not None and cache is not None:
            cache = cache.fork()
        features = self._project_images(pixel_values, image_features)
        scored = None
        if self.config.mode == "released" and cache is None and ends is None:
            rows = expand(self.config, self.model.embed_tokens, input_ids, attention_mask=attention_mask, labels=labels, features=features)
            embeddings = rows.embeddings
            scored = None if rows.labels is None else labelled(rows.labels, None)
            step = build_released_step(self.config, self.model.rotary_emb, windows=self._windows(), rows=rows, features=features)
        else:
            self._check_released_cache(features, 0 if cache is None else cache.get_seq_length() + input_ids.shape[1])
            if one_text_token and cache is not None and cache.row_state is not None:
                layout = read_single_token(cache.row_state)
            else:
                layout = self._read_layout(input_ids, attention_mask, ends=ends, features=features, cache=cache)
                if ends is not None:
                    self._check_released_cache(features, int(layout.position_ids.max()) + 1)
            scored = None if labels is None else labelled(labels, layout.attention_mask, input_ids.shape[1])
            whole = return_logits or output_hidden_states or cache is not None or ends is not None
            keep = None if whole or scored is None or not len(scored.tokens) else scored.read
            embeddings, step = self._prepare(input_ids, layout, features, cache, keep)
        all_hidden_states: list[torch.Tensor] | None = [] if output_hidden_states else None
        last = self.model(embeddings, step, all_hidden_states)
        loss = None
        if scored is not None:
            loss = functional.cross_entropy(self.lm_head(scored.states(last)).float(), scored.tokens)
        logits = None
        if return_logits if return_logits is not None else labels is None:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(last[:, kept]).float()
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=None if all_hidden_states is None else tuple(all_hidden_states),
            **{CACHE: cache if ends is None else None},  # type: ignore[arg-type]
        )

    def _project_images(self, pixel_values: torch.Tensor | None, image_features: torch.Tensor | None) -> torch.Tensor | None:
        """Projected features [n, T, D] of this pass's images, None without images."""
        if pixel_values is not None and image_features is not None:
            raise ValueError("give pixel_values or image_features, not both")
        if pixel_values is not None:
            image_features = self.encode_images(pixel_values)
        if image_features is None or image_features.shape[0] == 0:
            return None
        length = self.config.image_token_length
        if length is None or image_features.shape[1] != length:
            raise ValueError(f"image features have {image_features.shape[1]} vectors per image but the model expects {length}")
        return self.model.mm_projector(image_features.to(next(self.model.mm_projector.parameters()).dtype))

    def _past(self, cache: WingsCache | None, input_ids: torch.Tensor) -> RowState | None:
        """State of the rows before this pass; None if they begin with it and nothing is before them."""
        if cache is not None and cache.row_state is not None:
            return cache.row_state
        length = self.config.prefix_length
        return begun(input_ids.shape[0], length, input_ids.device) if length else None

    def _read_layout(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        ends: torch.Tensor | None,
        features: torch.Tensor | None,
        cache: WingsCache | None,
    ) -> Layout:
        config = self.config
        if attention_mask is None:
            mask = torch.ones_like(input_ids, dtype=torch.bool)
        else:
            mask = attention_mask[:, -input_ids.shape[1] :].bool()
            if mask.shape != input_ids.shape:
                raise ValueError(f"attention_mask {tuple(attention_mask.shape)} does not cover input_ids {tuple(input_ids.shape)}")
        past = self._past(cache, input_ids)
        images: Any = {
            "image_token_id": config.image_token_id,
            "image_token_length": config.image_token_length,
            "n_images": 0 if features is None else features.shape[0],
        }
        if ends is None:
            layout = read_layout(input_ids, mask, past=past, **images)
        else:
            layout = read_tree(input_ids, mask, ends, past=past, **images)
        if cache is None:
            check_whole_images(layout, config.image_token_length)
        return layout

    def _prepare(
        self,
        input_ids: torch.Tensor,
        layout: Layout,
        features: torch.Tensor | None,
        cache: WingsCache | None,
        keep: torch.Tensor | None,
    ) -> tuple[torch.Tensor, Step]:
        """Input embeddings [B, N, D], images in place, and what the layers share; `keep` as of `build_step`."""
        past = self._past(cache, input_ids)
        ids = input_ids if layout.images is None else input_ids.masked_fill(layout.images.mask, 0)
        embeddings = self.model.embed_tokens(ids)
        if layout.images is not None:
            embeddings = splice(embeddings, layout.images, features, past)
        step = build_step(
            self.config,
            self.model.rotary_emb,
            windows=self._windows(),
            embeddings=embeddings,
            layout=layout,
            features=features,
            cache=cache,
            past=past,
            keep=keep,
            last_window=self.model.layers[-1].window,
        )
        if cache is not None and step.begins:
            cache.prefix_length = self.config.prefix_length
        project_keys(step, self.model.layers)
        if layout.images is None and layout.sees is None:
            use_stacked(step, cache, self.model.layers, embeddings, num_heads=self.config.text_config.num_attention_heads)
        return embeddings, step

    def _windows(self) -> set[int | None]:
        """The sliding windows of the layers' own attention."""
        return {layer.window for layer in self.model.layers}

    def _check_released_cache(self, features: torch.Tensor | None, length: int) -> None:
        """Refuse a cache or a tree of mode `released` where it is not exact (docs/spec/wings.md#c6-caching-in-released).

        Sharing a prefix is exact only for text, and only up to where rows are cut or a window is exceeded. `length`: tokens of the rows.
        """
        if self.config.mode != "released":
            return
        if features is not None:
            raise ValueError("mode 'released' has no cache for images, because their later tokens change earlier ones: use_cache=False")
        limit = self._released_limit()
        if limit is not None and length > limit:
            raise ValueError(f"mode 'released' has a cache for {limit} tokens but {length} were given: shorten the text or use_cache=False")

    def _released_limit(self) -> int | None:
        limits = [limit for limit in (self.config.tokenizer_max_length, self.config.released_window) if limit is not None]
        return min(limits, default=None)

    # ------------------------------------------------------------ transformers' generate

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict[str, Any], generation_mode: Any, batch_size: int, max_cache_length: int
    ) -> bool:
        if self.config.mode == "released":
            limit = self._released_limit()
            images = any(model_kwargs.get(name) is not None for name in ("image_features", "pixel_values"))
            if images or (limit is not None and max_cache_length > limit):
                generation_config.use_cache = model_kwargs["use_cache"] = False
        if generation_config.use_cache is not False and model_kwargs.get(CACHE) is None:
            static = generation_config.cache_implementation == "static"
            model_kwargs[CACHE] = WingsCache(reserve=max_cache_length + self.config.prefix_length if static else 0)
        placeholder = self.config.image_token_id
        if placeholder >= 0:  # the next pass would refuse a placeholder without an image
            generation_config.suppress_tokens = sorted({*(generation_config.suppress_tokens or ()), placeholder})
        return False

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Put copies of a row side by side, each with all of the row's images (transformers would repeat image by image)."""
        features = kwargs.pop("image_features", None)
        pixels = kwargs.pop("pixel_values", None)
        if expand_size > 1 and pixels is not None:
            features, pixels = self.encode_images(pixels), None  # once, not for every copy
        if expand_size > 1 and features is not None and input_ids is not None:
            features = features[self._copied_images(input_ids, kwargs.get("attention_mask"), expand_size)]
        input_ids, kwargs = super()._expand_inputs_for_generation(  # type: ignore[misc]
            expand_size, is_encoder_decoder, input_ids, **kwargs
        )
        return input_ids, kwargs | {"image_features": features, "pixel_values": pixels}

    def _copied_images(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, copies: int) -> torch.Tensor:
        """Indices of the images of every row's copies, row by row: [0, 1, 0, 1, 2, 2] for two copies of rows with 2 and 1 images."""
        placeholders = input_ids == self.config.image_token_id
        if attention_mask is not None:
            placeholders = placeholders & attention_mask.bool()
        length = 1 if self.config.mode == "released" else self.config.image_token_length or 1
        images = torch.arange(int(placeholders.sum()) // length, device=input_ids.device)
        by_row = images.split((placeholders.sum(dim=1) // length).tolist())
        return torch.cat([row.repeat(copies) for row in by_row])

    def prepare_inputs_for_generation(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(*args, **kwargs)  # type: ignore[misc]
        if not kwargs.get("is_first_iteration") and inputs.get(CACHE) is not None:
            inputs["image_features"] = inputs["pixel_values"] = None  # they came with the prompt
            inputs["one_text_token"] = inputs["input_ids"].shape[1] == 1
        return inputs


def measure_tower(tower: PreTrainedModel, config: WingsConfig) -> tuple[int, int]:
    """Tokens per image T and feature size D_v of a tower at the configuration's image size."""
    training = tower.training
    features = VisionTower(config, tower)(torch.zeros(1, 3, config.image_size, config.image_size, device=tower.device))
    tower.train(training)
    return features.shape[1], features.shape[2]


# As any model that is not part of transformers does: importing this module makes Wings folders load by the Auto classes.
AutoConfig.register(WingsConfig.model_type, WingsConfig, exist_ok=True)
AutoModelForImageTextToText.register(WingsConfig, WingsForConditionalGeneration, exist_ok=True)
