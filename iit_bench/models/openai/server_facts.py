"""What a server says of itself that determines the bits of its answers: version, parallel sizes, kernels, batch invariance.

Only the fields named here are read: a server's own record may hold keys. What it does not say is not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iit_bench.models.openai.client import Client
from iit_bench.visible import clipped

# Of SGLang's /get_server_info (newer: /server_info).
SGLANG = (
    "version",
    "tp_size",
    "pp_size",
    "dp_size",
    "ep_size",
    "dtype",
    "quantization",
    "kv_cache_dtype",
    "attention_backend",
    "sampling_backend",
    "enable_deterministic_inference",
    "disable_radix_cache",
    "chunked_prefill_size",
    "speculative_algorithm",
    "random_seed",
)
# Of vLLM's /server_info, which it has in development mode only (VLLM_SERVER_DEV_MODE=1): part → fields.
VLLM = {
    "model_config": ("dtype", "quantization", "max_model_len", "seed", "enforce_eager"),
    "parallel_config": ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "enable_expert_parallel"),
    "cache_config": ("cache_dtype", "enable_prefix_caching"),
}
VLLM_ENVIRONMENT = ("VLLM_BATCH_INVARIANT", "VLLM_ATTENTION_BACKEND", "VLLM_USE_FLASHINFER_SAMPLER")
MOST_CHARACTERS = 300  # of a fact
LARGEST = 2**53  # number, which any reader of JSON holds exactly
Plain = str | int | float | bool


def server_facts(client: Client) -> dict[str, Any]:
    """The facts by name, and `software`: "vllm", "sglang" or "" for others. Empty where the address does not end in /v1.

    Nothing that a server answers, or does not answer, is an error.
    """
    if not client.root:
        return {}
    info = _mapping(client.get("/server_info?config_format=json")) or _mapping(client.get("/get_server_info"))
    if "tp_size" in info:
        return {"software": "sglang"} | plain(info, SGLANG)
    facts: dict[str, Any] = {}
    for part, names in VLLM.items():
        facts |= plain(_mapping(_mapping(info.get("vllm_config")).get(part)), names)
    facts |= plain(_mapping(info.get("vllm_env")), VLLM_ENVIRONMENT)
    facts |= plain(_mapping(client.get("/version")), ("version",))
    return ({"software": "vllm"} if info.get("vllm_config") else {}) | facts


def plain(record: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The fields of these names that hold a text, which is cut, or a number that a file can hold."""
    found = {name: record[name] for name in names if isinstance(record.get(name), Plain)}
    texts = {name: clipped(value, MOST_CHARACTERS) for name, value in found.items() if isinstance(value, str)}
    return {name: value for name, value in found.items() if not isinstance(value, str) and -LARGEST <= value <= LARGEST} | texts


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
