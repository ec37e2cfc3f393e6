"""Tiny random models of many families with working processors, made offline in seconds: what tests of `hf:` models need.

    python tests/data/tiny_vlms OUT TOKENIZER_FOLDER [NAME ...]

Every model has 2 layers of width 64. Image sizes are small; image tokens per image are fixed (LLaVA, Gemma 3, PaliGemma, tiles of InternVL)
or depend on the size (Qwen-VL, SmolVLM, Mistral 3, LLaVA-OneVision).
"""

from __future__ import annotations

from tiny_vlms import images, more, qwen
from tiny_vlms.common import Family, Maker

__all__ = ["FAMILIES", "REFUSED", "Family", "Maker"]

FAMILIES = (
    Family(name="llava", title="LLaVA 1.5", make=images.llava),
    Family(name="llava_next", title="LLaVA-NeXT", make=images.llava_next),
    Family(name="llava_onevision", title="LLaVA-OneVision", make=images.llava_onevision),
    Family(name="qwen2_vl", title="Qwen2-VL", make=qwen.qwen2_vl),
    Family(name="qwen2_5_vl", title="Qwen2.5-VL", make=qwen.qwen2_5_vl),
    Family(name="qwen3_vl", title="Qwen3-VL", make=qwen.qwen3_vl),
    Family(name="smolvlm", title="SmolVLM", make=images.smolvlm, needs=("num2words",)),
    Family(name="idefics3", title="Idefics 3", make=images.idefics3),
    Family(name="internvl", title="InternVL 3", make=images.internvl),
    Family(name="gemma3", title="Gemma 3", make=images.gemma3),
    Family(name="mistral3", title="Mistral Small 3, Pixtral", make=images.mistral3),
    Family(
        name="paligemma", title="PaliGemma", make=more.paligemma, tree=False, histories=False, note="no chat: one question, images first"
    ),
    Family(name="mllama", title="Llama 3.2 Vision", make=more.mllama, tree=False, note="cross-attention; a mask row per token"),
    Family(name="llama4", title="Llama 4", make=more.llama4, tree=False),
    Family(name="ovis2", title="Ovis 2", make=more.ovis2),
    Family(name="phi4_multimodal", title="Phi-4-multimodal", make=more.phi4_multimodal, tree=False, note="images only, no audio"),
    Family(name="qwen3", title="Qwen 3", make=more.qwen3, images=False),
    Family(name="gemma3_text", title="Gemma 3, 1B", make=more.gemma3_text, images=False, note="sliding windows"),
    Family(name="qwen3_next", title="Qwen3-Next", make=more.qwen3_next, tree=False, images=False, note="recurrent layers"),
)
REFUSED = (Family(name="idefics", title="Idefics", make=more.idefics, note="its processor puts all images behind the text"),)
