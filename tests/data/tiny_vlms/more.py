"""Recipes of families with inputs of their own: prefix LMs, cross-attention, visual vocabularies, experts; and text families."""

from __future__ import annotations

import transformers as hf

from tiny_vlms.common import BARS, CHATML, COLON, HEADERS, SIGLIP, THINKING, TURNS, VISION, Maker
from tiny_vlms.images import sliding_and_full


def paligemma(maker: Maker) -> None:
    tokenizer = maker.tokenizer(bos=True, image_token="<image>")
    images = hf.SiglipImageProcessor(size={"height": 56, "width": 56})
    images.image_seq_length = 16
    processor = hf.PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer)  # adds its own tokens to the tokenizer
    text = maker.text(tokenizer, model_type="gemma", head_dim=16, num_image_tokens=16)
    config = hf.PaliGemmaConfig(
        text_config=text,
        vision_config={**SIGLIP, "projection_dim": 64},
        image_token_index=tokenizer.image_token_id,
        projection_dim=64,
        hidden_size=64,
    )
    maker.save("paligemma", hf.PaliGemmaForConditionalGeneration, config, processor)


def mllama(maker: Maker) -> None:
    tokenizer = maker.tokenizer("<|header_start|>", "<|header_end|>", "<|eot|>", "<|python_tag|>", bos=True, image_token="<|image|>")
    text = maker.text(tokenizer, cross_attention_layers=[1], num_hidden_layers=3)
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "attention_heads": 2, "num_global_layers": 1}
    tower |= {"image_size": 56, "patch_size": 14, "max_num_tiles": 4, "vision_output_dim": 64, "intermediate_layers_indices": [0]}
    config = hf.MllamaConfig(text_config=text, vision_config=tower, image_token_index=tokenizer.image_token_id)
    processor = hf.MllamaProcessor(
        image_processor=hf.MllamaImageProcessor(size={"height": 56, "width": 56}, max_image_tiles=4),
        tokenizer=tokenizer,
        chat_template=HEADERS.replace("IMAGE", "<|image|>"),
    )
    maker.save("mllama", hf.MllamaForConditionalGeneration, config, processor)


def llama4(maker: Maker) -> None:
    marks = ["<|image_start|>", "<|image_end|>", "<|image|>", "<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>"]
    tokenizer = maker.tokenizer(*marks, "<|header_start|>", "<|header_end|>", "<|eot|>", bos=True)
    text = maker.text(tokenizer, head_dim=16, intermediate_size_mlp=96, num_local_experts=4, attention_chunk_size=8192)
    tower = {**VISION, "image_size": 56, "patch_size": 14, "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}
    tower |= {"intermediate_size": 128}  # of the pixel shuffle: hidden_size / ratio²
    config = hf.Llama4Config(
        text_config=text,
        vision_config=tower,
        boi_token_index=tokenizer.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<|image_end|>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<|patch|>"),
    )
    processor = hf.Llama4Processor(
        image_processor=hf.Llama4ImageProcessor(size={"height": 56, "width": 56}, max_patches=4, resize_to_max_canvas=False),
        tokenizer=tokenizer,
        patch_size=14,
        chat_template=HEADERS.replace("IMAGE", "<|image|>"),
    )
    maker.save("llama4", hf.Llama4ForConditionalGeneration, config, processor)


def ovis2(maker: Maker) -> None:
    marks = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    tokenizer = maker.tokenizer("<image>", "<IMG_ATOM>", *marks)
    tower = {**VISION, "image_size": 56, "patch_size": 14, "vocab_size": 40, "hidden_stride": 2, "num_visual_indicator_tokens": 5}
    config = hf.Ovis2Config(
        text_config=maker.text(tokenizer, model_type="qwen2"),
        vision_config=tower,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(marks),
        vocab_size=len(tokenizer),
        hidden_size=64,
    )
    processor = hf.Ovis2Processor(
        image_processor=hf.Ovis2ImageProcessor(size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=4),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=CHATML.replace("IMAGE", "<image>\n"),
    )
    maker.save("ovis2", hf.Ovis2ForConditionalGeneration, config, processor)


def phi4_multimodal(maker: Maker) -> None:
    marks = {"image_token": "<|endoftext10|>", "audio_token": "<|endoftext11|>"}
    tokenizer = maker.tokenizer("<|user|>", "<|assistant|>", "<|system|>", "<|end|>", **marks)
    image, audio = tokenizer.image_token_id, tokenizer.audio_token_id
    tower = {
        **VISION,
        "image_size": 64,
        "crop_size": 64,
        "patch_size": 2,
        "image_token_id": image,
    }  # 256 tokens and more per image, as ever
    ears = {"hidden_size": 32, "intermediate_size": 32, "num_blocks": 1, "num_attention_heads": 2, "audio_token_id": audio}
    ears |= {"ext_pw_out_channel": 32, "depthwise_separable_out_channel": 32, "nemo_conv_channels": 32}
    config = hf.Phi4MultimodalConfig(**maker.text(tokenizer), vision_config=tower, audio_config=ears)
    tokenizer.chat_template = BARS.replace("IMAGE", "<|endoftext10|>")  # where the real checkpoint has it
    processor = hf.Phi4MultimodalProcessor(
        image_processor=hf.Phi4MultimodalImageProcessor(size={"height": 64, "width": 64}, patch_size=2, dynamic_hd=1),
        audio_processor=hf.Phi4MultimodalFeatureExtractor(),
        tokenizer=tokenizer,
    )
    maker.save("phi4_multimodal", hf.Phi4MultimodalForCausalLM, config, processor)


def idefics(maker: Maker) -> None:
    tokenizer = maker.tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>")
    tower = {"embed_dim": 32, "image_size": 56, "patch_size": 14, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes = {name: value for name, value in maker.text(tokenizer).items() if name != "num_key_value_heads"}
    config = hf.IdeficsConfig(
        **sizes,
        vision_config=tower,
        perceiver_config={"resampler_depth": 1, "resampler_n_heads": 2, "resampler_head_dim": 16, "resampler_n_latents": 4},
        use_resampler=True,
        additional_vocab_size=0,
        cross_layer_interval=1,
        alpha_initializer="random",
        alpha_type="vector",  # of one number, transformers 5.23 cannot draw it
        alphas_initializer_range=0.5,
    )
    mark = "<fake_token_around_image><image><fake_token_around_image>"
    tokenizer.chat_template = COLON.replace("IMAGE", mark).replace("END", "<end_of_utterance>\n")
    processor = hf.IdeficsProcessor(image_processor=hf.IdeficsImageProcessor(image_size=56), tokenizer=tokenizer, image_size=56)
    maker.save("idefics", hf.IdeficsForVisionText2Text, config, processor)


# ---------------------------------------------------------------- text


def qwen3(maker: Maker) -> None:
    tokenizer = maker.tokenizer("<think>", "</think>")
    tokenizer.chat_template = THINKING.replace("IMAGE", "")
    maker.save("qwen3", hf.Qwen3ForCausalLM, hf.Qwen3Config(**maker.text(tokenizer, head_dim=16)), tokenizer)


def gemma3_text(maker: Maker) -> None:
    tokenizer = maker.tokenizer("<start_of_turn>", "<end_of_turn>", bos=True)
    tokenizer.chat_template = TURNS.replace("IMAGE", "")
    maker.save("gemma3_text", hf.Gemma3ForCausalLM, hf.Gemma3TextConfig(**maker.text(tokenizer, **sliding_and_full())), tokenizer)


def qwen3_next(maker: Maker) -> None:
    tokenizer = maker.tokenizer("<think>")
    tokenizer.chat_template = CHATML.replace("IMAGE", "")
    linear = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}
    layers = {"layer_types": ["linear_attention", "full_attention"], "head_dim": 16}
    config = hf.Qwen3NextConfig(**maker.text(tokenizer, **layers, **linear, **experts))
    maker.save("qwen3_next", hf.Qwen3NextForCausalLM, config, tokenizer)
