"""A real Llama of transformers that writes a given script: each token's successor is a weight of its output layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.conftest import sizes, tiny_tokenizer

# As Qwen3's: the model opens its reasoning itself, unless an argument closes it in the prompt.
THINKING = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('</think>')[-1] }}<|end|>{% endfor %}{% if add_generation_prompt %}"
    "<|assistant|>{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
# As DeepSeek R1's: the prompt opens reasoning.
OPENING = THINKING.replace("{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}", "<think>")


def save_scripted(folder: Path, script: Sequence[str], template: str = THINKING, *, special: bool = False, context: int = 256) -> Path:
    """Write a Llama whose reply to any chat is these tokens; after the last it goes on with the first.

    Each token of the vocabulary has a dimension of its own, the layers add nothing, and the output layer is a table of successors.

    Args:
        folder: to write.
        script: distinct tokens of the tokenizer.
        template: of chats.
        special: whether the marks of reasoning are special tokens.
        context: tokens that the model takes.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(template)
    tokenizer.add_tokens(["<think>", "</think>"], special_tokens=special)
    size = len(tokenizer)
    shape = {"hidden_size": size, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": context}
    model = LlamaForCausalLM(LlamaConfig(**sizes(tokenizer, **shape)))
    start = "<think>" if template.endswith(OPENING[-40:]) else "<|assistant|>"
    ids = tokenizer.convert_tokens_to_ids([start, *script])
    assert len(set(ids)) == len(ids) and None not in ids
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.zero_()
        for token, successor in zip(ids, [*ids[1:], ids[1]], strict=True):
            model.lm_head.weight[successor, token] = 1.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
