"""Every family listed as one that runs rows of a tree, against plain passes of transformers over each path.

The tree is nested, its paths and the row are longer than the windows, and replies are prefixes of others. Each family is tried with both
ways to compute attention that it has, in float32.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from iit_bench.models.huggingface.tree_families import FAMILIES, why_not
from iit_bench.models.huggingface.tree_rows import TreeRows
from iit_bench.token_trees import TokenPath, build_row, token_path

pytestmark = pytest.mark.oracle

WORDS = 97
WINDOW = 8
SMALL = {"vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.4}
SMALL |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
HEAD = {"head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1}
ROUTED |= {"first_k_dense_replace": 1, "n_shared_experts": 1}
LATENT = ROUTED | {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
LATENT |= {"num_key_value_heads": 4}
OLD_NAMES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
MIXED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
SWITCHED = MIXED | {"use_sliding_window": True}
ALL = {"sliding_window": WINDOW}
NO_WINDOW = {"sliding_window": None}
# per family what its tiny configuration needs; with a window where the family has one
CONFIGURATIONS: dict[str, list[dict[str, Any]]] = {
    "afmoe": [HEAD | EXPERTS | MIXED | {"num_dense_layers": 1, "num_shared_experts": 1}],
    "bert": [{"is_decoder": True}],
    "codegen": [OLD_NAMES | {"rotary_dim": 4}],
    "cohere2": [HEAD | MIXED],
    "ctrl": [OLD_NAMES | {"dff": 48}],
    "deepseek_v2": [LATENT | {"topk_method": "greedy"}],
    "deepseek_v3": [LATENT],
    "doge": [HEAD, HEAD | ALL],
    "dots1": [ROUTED, ROUTED | MIXED],
    "ernie4_5": [HEAD],
    "ernie4_5_moe": [{"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16}],
    "exaone4": [HEAD | MIXED],
    "exaone_moe": [
        HEAD | EXPERTS | MIXED | {"n_group": 1, "topk_group": 1, "num_shared_experts": 1, "mlp_layer_types": ["dense", "sparse"]}
    ],
    "flex_olmo": [EXPERTS],
    "gemma": [HEAD],
    "gemma2": [HEAD | MIXED],
    "gemma3_text": [HEAD | MIXED],
    "gemma3n_text": [
        HEAD
        | MIXED
        | {"vocab_size_per_layer_input": WORDS, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0, "laurel_rank": 8}
        | {"intermediate_size": [48, 48], "activation_sparsity_pattern": [0.0, 0.0]}
    ],
    "glm": [HEAD],
    "glm4": [HEAD],
    "glm4_moe": [HEAD | ROUTED],
    "gpt_oss": [HEAD | LOCAL_EXPERTS | MIXED],
    "gptj": [OLD_NAMES | {"rotary_dim": 4}],
    "granitemoe": [LOCAL_EXPERTS],
    "helium": [HEAD],
    "hunyuan_v1_dense": [HEAD],
    "jetmoe": [LOCAL_EXPERTS | {"kv_channels": 8}],
    "llama4_text": [
        HEAD
        | {"attention_chunk_size": WINDOW, "attn_temperature_tuning": False, "intermediate_size_mlp": 48, "num_local_experts": 2}
        | {"num_experts_per_tok": 1, "layer_types": ["chunked_attention", "full_attention"]}
    ],
    "minimax_m2": [HEAD | LOCAL_EXPERTS],
    "ministral": [HEAD | MIXED],
    "mistral": [NO_WINDOW, ALL],
    "mixtral": [LOCAL_EXPERTS | NO_WINDOW, LOCAL_EXPERTS | ALL],
    "modernbert-decoder": [MIXED | {"local_attention": WINDOW, "bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 3}],
    "moshi": [HEAD | {"ffn_dim": 48}],
    "olmo3": [HEAD | MIXED],
    "olmoe": [EXPERTS],
    "phi3": [NO_WINDOW, ALL],
    "phimoe": [LOCAL_EXPERTS | NO_WINDOW, LOCAL_EXPERTS | ALL],
    "qwen2": [{}, SWITCHED],
    "qwen2_moe": [EXPERTS, EXPERTS | SWITCHED],
    "qwen3": [HEAD, HEAD | SWITCHED],
    "qwen3_moe": [HEAD | EXPERTS, HEAD | EXPERTS | ALL | {"use_sliding_window": True}],
    "roberta": [{"is_decoder": True, "type_vocab_size": 1}],
    "seed_oss": [HEAD],
    "smollm3": [{}, SWITCHED],
    "starcoder2": [NO_WINDOW, ALL],
    "vaultgemma": [HEAD | MIXED],
    "xglm": [{"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4}],
}
CASES = [(name, place) for name in FAMILIES for place in range(len(CONFIGURATIONS.get(name, [{}])))]


def nested_job() -> list[TokenPath]:
    """Prompts that begin alike at several depths, later turns after replies, replies of one to five tokens."""
    draw = random.Random(0)
    words = lambda count: [draw.randrange(2, WORDS) for _ in range(count)]  # noqa: E731
    prompts = [words(16)]
    job = []
    for _ in range(7):
        prompt = draw.choice(prompts) + words(draw.randrange(3, 12))
        replies = [words(draw.randrange(1, 6)) for _ in range(2)]
        replies.append(replies[0][:-1] or words(1))
        job.append(token_path(prompt, replies))
        prompts += [prompt, prompt + replies[0], prompt + replies[1]]
    return job


JOB = nested_job()
ROW = build_row(JOB)


@torch.no_grad()
def plain_logprobs(model: Any, path: TokenPath, reply: list[int]) -> list[float]:
    ids = [*path.prompt, *reply]
    logprobs = model(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
    return [float(logprobs[i - 1, ids[i]]) for i in range(len(path.prompt), len(ids))]


def test_the_tree_is_longer_than_the_windows() -> None:
    assert min(len(path.prompt) for path in JOB) > 2 * WINDOW and len(ROW) > 4 * WINDOW
    assert len(ROW) < 0.6 * sum(map(len, (branch for path in JOB for branch in path.branches())))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "place"), CASES, ids=[f"{name}-{place}" for name, place in CASES])
def test_tokens_of_a_tree_have_the_log_probabilities_of_plain_passes(name: str, place: int) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **SMALL | CONFIGURATIONS.get(name, [{}])[place])
    eager = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    models = [eager]
    if eager._supports_sdpa:
        models.append(AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval())
        models[1].load_state_dict(eager.state_dict())
    expected = [plain_logprobs(eager, path, list(reply)) for path in JOB for reply in path.replies]
    for model in models:
        rows = TreeRows(model, "cpu")
        assert rows.refused() == ""
        found, _ = rows.run(ROW)
        for edges, right in zip((one for own in ROW.edges for one in own), expected, strict=True):
            assert [found[edge] for edge in edges] == pytest.approx(right, abs=1e-4)


@pytest.mark.parametrize(("family", "more"), [("falcon", {"alibi": True}), ("llama4_text", {"attn_temperature_tuning": True}), ("mpt", {})])
def test_families_that_count_places_in_a_row_are_refused(family: str, more: dict[str, Any]) -> None:
    assert why_not(AutoConfig.for_model(family, **more))
