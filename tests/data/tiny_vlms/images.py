"""Recipes of image-text families whose chats have images anywhere: LLaVA and its heirs, tiles, Gemma 3, Mistral 3."""

from __future__ import annotations

from typing import Any

import transformers as hf

from tiny_vlms.common import CHATML, COLON, PARTS, SIGLIP, TURNS, VISION, Maker

GRID = [[56, 56], [56, 112], [112, 56], [112, 112]]


def llava(maker: Maker) -> None:
    tokenizer = maker.tokenizer("<image>")
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**VISION, image_size=56, patch_size=14),
        text_config=hf.LlamaConfig(**maker.text(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    processor = hf.LlavaProcessor(
        image_processor=hf.CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=COLON.replace("IMAGE", "<image>\n").replace("END", " "),
    )
    maker.save("llava", hf.LlavaForConditionalGeneration, config, processor)


def llava_next(maker: Maker) -> None:
    tokenizer = maker.tokenizer("<image>", bos=True)
    config = hf.LlavaNextConfig(
        vision_config=hf.CLIPVisionConfig(**VISION, image_size=56, patch_size=14),
        text_config=hf.MistralConfig(**maker.text(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=GRID,
    )
    processor = hf.LlavaNextProcessor(
        image_processor=hf.LlavaNextImageProcessor(
            size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, image_grid_pinpoints=GRID
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=instructions("<image>\n"),
    )
    maker.save("llava_next", hf.LlavaNextForConditionalGeneration, config, processor)


def instructions(mark: str) -> str:
    """Mistral's form: [INST] … [/INST] around what the user writes."""
    user = "[INST] " + PARTS.replace("IMAGE", mark) + " [/INST]"
    assistant = " " + PARTS + "{{ eos_token }}"
    return (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}" + assistant + "{% else %}" + user + "{% endif %}{% endfor %}"
    )


def llava_onevision(maker: Maker) -> None:
    tokenizer = maker.tokenizer("<image>", "<video>")
    config = hf.LlavaOnevisionConfig(
        vision_config=SIGLIP,
        text_config=maker.text(tokenizer, model_type="qwen2"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=GRID,
        vision_feature_layer=-1,
    )
    processor = hf.LlavaOnevisionProcessor(
        image_processor=hf.LlavaOnevisionImageProcessor(size={"height": 56, "width": 56}, image_grid_pinpoints=GRID),
        tokenizer=tokenizer,
        video_processor=hf.LlavaOnevisionVideoProcessor(),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=CHATML.replace("IMAGE", "<image>\n"),
    )
    maker.save("llava_onevision", hf.LlavaOnevisionForConditionalGeneration, config, processor)


def smolvlm(maker: Maker) -> None:
    def processor(**parts: Any) -> Any:
        return hf.SmolVLMProcessor(video_processor=hf.SmolVLMVideoProcessor(), **parts)

    _tiles(maker, "smolvlm", hf.SmolVLMConfig, hf.SmolVLMForConditionalGeneration, hf.SmolVLMImageProcessor, processor)


def idefics3(maker: Maker) -> None:
    processor = hf.Idefics3Processor
    _tiles(maker, "idefics3", hf.Idefics3Config, hf.Idefics3ForConditionalGeneration, hf.Idefics3ImageProcessor, processor)


def _tiles(maker: Maker, name: str, config_class: Any, model_class: Any, image_class: Any, processor_class: Any) -> None:
    marks = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    tokenizer = maker.tokenizer(*marks, *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)))
    config = config_class(
        text_config=maker.text(tokenizer, model_type="llama"),
        vision_config={**VISION, "image_size": 56, "patch_size": 14},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    images = image_class(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    template = COLON.replace("IMAGE", "<image>").replace("END", "<end_of_utterance>\n")
    processor = processor_class(image_processor=images, tokenizer=tokenizer, image_seq_len=4, chat_template=template)
    maker.save(name, model_class, config, processor)


def internvl(maker: Maker) -> None:
    marks = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    tokenizer = maker.tokenizer(**marks)
    config = hf.InternVLConfig(
        text_config=maker.text(tokenizer, model_type="qwen2"),
        vision_config={**VISION, "image_size": [56, 56], "patch_size": [14, 14]},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    processor = hf.InternVLProcessor(
        image_processor=hf.GotOcr2ImageProcessor(size={"height": 56, "width": 56}, crop_to_patches=True, min_patches=1, max_patches=4),
        tokenizer=tokenizer,
        video_processor=hf.InternVLVideoProcessor(),
        image_seq_length=4,
        chat_template=CHATML.replace("IMAGE", "<IMG_CONTEXT>\n"),
    )
    maker.save("internvl", hf.InternVLForConditionalGeneration, config, processor)


def gemma3(maker: Maker) -> None:
    marks = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = maker.tokenizer("<start_of_turn>", "<end_of_turn>", bos=True, **marks)
    begin, end, mark = (tokenizer.convert_tokens_to_ids(token) for token in marks.values())
    config = hf.Gemma3Config(
        text_config=maker.text(tokenizer, **sliding_and_full()),
        vision_config=SIGLIP,
        mm_tokens_per_image=4,
        image_token_index=mark,
        boi_token_index=begin,
        eoi_token_index=end,
    )
    processor = hf.Gemma3Processor(
        image_processor=hf.Gemma3ImageProcessor(size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=TURNS.replace("IMAGE", "<start_of_image>"),
    )
    maker.save("gemma3", hf.Gemma3ForConditionalGeneration, config, processor)


def sliding_and_full() -> dict[str, Any]:
    """Gemma 3's layers: one with a window shorter than the tests' chats, one without."""
    layers = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
    return {"head_dim": 16, "query_pre_attn_scalar": 16, **layers}


def mistral3(maker: Maker) -> None:
    tokenizer = maker.tokenizer(bos=True, a="[IMG]", b="[IMG_BREAK]", c="[IMG_END]")
    config = hf.Mistral3Config(
        text_config=maker.text(tokenizer, model_type="mistral"),
        vision_config={"model_type": "pixtral", **VISION, "image_size": 112, "patch_size": 14, "head_dim": 16},
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    user = "[INST]" + PARTS.replace("IMAGE", "[IMG]") + "[/INST]"
    assistant = "{% if m.role == 'assistant' %}" + PARTS + "{{ eos_token }}"
    processor = hf.PixtralProcessor(
        image_processor=hf.PixtralImageProcessor(size={"longest_edge": 112}, patch_size={"height": 14, "width": 14}),
        tokenizer=tokenizer,
        patch_size=14,
        spatial_merge_size=2,
        chat_template="{{ bos_token }}{% for m in messages %}" + assistant + "{% else %}" + user + "{% endif %}{% endfor %}",
    )
    maker.save("mistral3", hf.Mistral3ForConditionalGeneration, config, processor)
