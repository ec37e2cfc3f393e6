"""Recipes of the Qwen-VL families: image tokens by size, positions in three rows."""

from __future__ import annotations

from typing import Any

import transformers as hf

from tiny_vlms.common import CHATML, Maker

MARKS = {
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
}
TEMPLATE = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
ROPE = {"rope_type": "default", "rope_theta": 1e6}
SECTIONS = {"rope_parameters": {**ROPE, "mrope_section": [2, 3, 3]}}
TOWER = {"depth": 2, "num_heads": 2, "patch_size": 14}
PIXELS = {"min_pixels": 56 * 56, "max_pixels": 28 * 28 * 64}


def _tokens(maker: Maker) -> tuple[Any, dict[str, int]]:
    tokenizer = maker.tokenizer(*MARKS.values())
    return tokenizer, {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in MARKS.items() if name != "vision_end_token_id"}


def _processor(processor_class: Any, tokenizer: Any, videos: Any, **limits: int) -> Any:
    images = hf.Qwen2VLImageProcessor(**limits)
    return processor_class(image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=TEMPLATE)


def qwen2_vl(maker: Maker) -> None:
    tokenizer, ids = _tokens(maker)
    tower = {**TOWER, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    config = hf.Qwen2VLConfig(text_config=maker.text(tokenizer, **SECTIONS), vision_config=tower, **ids)
    processor = _processor(hf.Qwen2VLProcessor, tokenizer, hf.Qwen2VLVideoProcessor(), **PIXELS)
    maker.save("qwen2_vl", hf.Qwen2VLForConditionalGeneration, config, processor)


def qwen2_5_vl(maker: Maker) -> None:
    tokenizer, ids = _tokens(maker)
    tower = {**TOWER, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 64, "fullatt_block_indexes": [1], "window_size": 112}
    config = hf.Qwen2_5_VLConfig(text_config=maker.text(tokenizer, **SECTIONS), vision_config=tower, **ids)
    processor = _processor(hf.Qwen2_5_VLProcessor, tokenizer, hf.Qwen2VLVideoProcessor(), **PIXELS)
    maker.save("qwen2_5_vl", hf.Qwen2_5_VLForConditionalGeneration, config, processor)


def qwen3_vl(maker: Maker) -> None:
    tokenizer, ids = _tokens(maker)
    rope = {**ROPE, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    tower = {**TOWER, "patch_size": 16, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 64}
    tower |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
    config = hf.Qwen3VLConfig(text_config=maker.text(tokenizer, head_dim=16, rope_parameters=rope), vision_config=tower, **ids)
    limits = {"patch_size": 16, "min_pixels": 64 * 64, "max_pixels": 32 * 32 * 64}
    processor = _processor(hf.Qwen3VLProcessor, tokenizer, hf.Qwen3VLVideoProcessor(), **limits)
    maker.save("qwen3_vl", hf.Qwen3VLForConditionalGeneration, config, processor)
