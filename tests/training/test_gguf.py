"""A stage that starts from a GGUF file has the decoder that was written into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from iit_bench.training.dry_run import plan
from iit_bench.training.recipe import load_recipe
from iit_bench.training.train import make_task

gguf = pytest.importorskip("gguf")
pytestmark = [pytest.mark.slow, pytest.mark.oracle]
NAMES = {  # of a layer: transformers' -> GGUF's
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
ROTATED = ("attn_q", "attn_k")  # whose rows GGUF has in pairs


def write(folder: Path, target: Path) -> None:
    """A Llama of transformers with a byte-level BPE, as llama.cpp converts it; products in 8 bits where their rows allow it."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config, tokenizer = model.config, json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    special = {token["content"] for token in tokenizer["added_tokens"]}
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in tokenizer["model"]["merges"]]
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word in words])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_pad_token_id(config.pad_token_id)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())
    for name, tensor in tensors(model, config.num_attention_heads):
        kind = gguf.GGMLQuantizationType.Q8_0 if tensor.ndim == 2 and not tensor.shape[-1] % 32 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(model: Any, heads: int) -> Any:
    """Names and values in GGUF's order of rows."""
    yield "token_embd.weight", model.model.embed_tokens.weight.detach().numpy()
    yield "output_norm.weight", model.model.norm.weight.detach().numpy()
    for number, layer in enumerate(model.model.layers):
        for theirs, name in NAMES.items():
            value = layer.get_submodule(theirs).weight.detach().numpy()
            if name in ROTATED:
                value = np.ascontiguousarray(value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape))
            yield f"blk.{number}.{name}.weight", value


@pytest.fixture(scope="module")
def file(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write(inputs["llm"], target)
    return target


def test_the_decoder_and_tokenizer_of_a_stage_are_those_of_the_file(file: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    overrides = [f"inputs.llm={file}", f"inputs.tower={inputs['tower']}", "inputs.context=512", "model.rank=4"]
    task = make_task(load_recipe("lab-wings-stage1", overrides).recipe)
    tokenizer = AutoTokenizer.from_pretrained(inputs["llm"])
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "What is the capital of France?"}], tokenize=False)
    assert task.tokenizer(chat)["input_ids"] == tokenizer(chat)["input_ids"]
    assert task.tokenizer.chat_template == tokenizer.chat_template
    ids = torch.tensor([tokenizer(chat)["input_ids"]])
    expected = AutoModelForCausalLM.from_pretrained(inputs["llm"], dtype=torch.float32)(ids).logits
    torch.testing.assert_close(
        task.module(ids, torch.ones_like(ids)).logits, expected, rtol=0, atol=0.02 * float(expected.detach().abs().max())
    )
    task.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").is_file()


def test_a_dry_run_counts_it(file: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    overrides = [f"inputs.tower={inputs['tower']}", "inputs.context=512", "model.rank=4"]
    (of_file,) = plan("lab-wings-stage1", [f"inputs.llm={file}", *overrides], tmp_path / "out")
    (of_folder,) = plan("lab-wings-stage1", [f"inputs.llm={inputs['llm']}", *overrides], tmp_path / "out")
    assert of_file.parts == of_folder.parts and of_file.rows.measured
