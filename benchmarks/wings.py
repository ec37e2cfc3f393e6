"""Measures speed and memory of Wings beside its own backbone in transformers (SDPA, KV cache), with the same weights, in one run.

    python benchmarks/wings.py [--shape 31m smollm2] [--threads 1 2] [--dtype float32 bfloat16] [--smollm2 FOLDER] [--json]

Prints for each shape, dtype and number of threads: seconds and ratios (Wings / backbone; below 1, Wings is faster) of prefill, and of
decoding after 1,024 tokens with an image; tokens per second of 300 + 64 tokens, beside mode `released` without a cache and the measured
speed of the released code; peak memory by length with a linear fit; FLOPs for the 8B shape. Backbone and Wings are timed alternately, and
the ratio is the median over the pairs. Weights are random (speed does not depend on them) unless a folder of SmolLM2-135M is given.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from printed import as_table

SHAPES: dict[str, dict[str, Any]] = {
    "31m": {
        "vocab_size": 16_000,
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 10,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
    },
    "smollm2": {
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
}
RANK = 16
SIDE, PATCH, VISION = 126, 14, 64  # a tower of 81 tokens; encoding images is not what is measured
IMAGE_TOKENS = (SIDE // PATCH) ** 2
LENGTH, DECODED = 1024, 32
# The authors' code, one thread, the 31m shape, 300 + 64 tokens: 3.7 to 3.9 were measured (docs/spec/wings.md#c5-cost).
RELEASED_TOKENS_PER_SECOND = 3.8
LENGTHS = (512, 1024, 2048, 3072, 4096)


# ---------------------------------------------------------------- models and inputs


def build(shape: str, dtype: str, folder: str | None = None, learners: bool = True) -> tuple[Any, Any, Any]:
    """(backbone, the same with learners or None, image features to project [1, T, D_v])."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, SiglipVisionConfig, SiglipVisionModel

    from iit_bench.models.wings.configuration import WingsConfig
    from iit_bench.models.wings.modeling import WingsForConditionalGeneration

    torch.manual_seed(0)
    if folder:
        llm = AutoModelForCausalLM.from_pretrained(folder)
    else:
        llm = LlamaForCausalLM(LlamaConfig(**SHAPES[shape], max_position_embeddings=2 * LENGTHS[-1]))
    llm = llm.to(getattr(torch, dtype)).eval()
    features = torch.randn(1, IMAGE_TOKENS, VISION, dtype=llm.dtype)
    if not learners:
        return llm, None, features
    vision = SiglipVisionConfig(
        hidden_size=VISION,
        intermediate_size=2 * VISION,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=SIDE,
        patch_size=PATCH,
        vision_use_head=False,
    )
    config = WingsConfig(
        text_config=llm.config,
        vision_config=vision,
        lora_dim=RANK,
        image_size=SIDE,
        image_token_id=llm.config.vocab_size - 1,
        router_width=2 * LENGTHS[-1],
    )
    wings = WingsForConditionalGeneration.from_base(llm, SiglipVisionModel(vision).to(llm.dtype), config).eval()
    for name, weight in wings.named_parameters():
        if "attn_pool" in name or "attn_t_pool" in name:  # fresh learners add zero; these do not
            torch.nn.init.normal_(weight, std=0.02)
    return llm, wings, features


def make_ids(model: Any, length: int) -> tuple[Any, Any]:
    """Random tokens [1, length], and the same with an image after the first 30% of them."""
    import torch

    last = model.config.get_text_config().vocab_size - 1
    plain = torch.randint(0, last, (1, length), generator=torch.Generator().manual_seed(0))
    with_image = plain.clone()
    start = 3 * length // 10
    with_image[:, start : start + IMAGE_TOKENS] = last
    return plain, with_image


def prefill(model: Any, ids: Any, **images: Any) -> Any:
    """The KV cache after one forward pass over `ids`."""
    return model(ids, use_cache=True, logits_to_keep=1, **images).past_key_values


def decode(model: Any, cache: Any, tokens: int) -> None:
    """Decode as transformers' generate does: one forward pass per token, keeping only the cache."""
    import torch

    token = torch.zeros(1, 1, dtype=torch.long)
    for _ in range(tokens):
        model(token, past_key_values=cache, use_cache=True, logits_to_keep=1)


# ---------------------------------------------------------------- time


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds that `work` took, what it returned)."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def time_pairs(llm: Any, wings: Any, features: Any, pairs: int) -> dict[str, dict[str, float]]:
    """Times of prefilling 1,024 tokens with an image, and of decoding after it, alternately; the first pair is a warm-up."""
    plain, with_image = make_ids(llm, LENGTH)
    pairs_of: dict[str, list[tuple[float, float]]] = {"prefill": [], "decode": []}
    for _ in range(pairs + 1):
        theirs, cache = seconds(lambda: prefill(llm, plain))
        ours, own_cache = seconds(lambda: prefill(wings, with_image, image_features=features))
        pairs_of["prefill"].append((theirs, ours))
        theirs, _ = seconds(lambda cache=cache: decode(llm, cache, DECODED))  # type: ignore[misc]
        ours, _ = seconds(lambda cache=own_cache: decode(wings, cache, DECODED))  # type: ignore[misc]
        pairs_of["decode"].append((theirs / DECODED, ours / DECODED))
    return {
        kind: {
            "backbone s": statistics.median(a for a, _ in rows[1:]),
            "wings s": statistics.median(b for _, b in rows[1:]),
            "ratio": statistics.median(b / a for a, b in rows[1:]),
        }
        for kind, rows in pairs_of.items()
    }


def time_generation(wings: Any, features: Any) -> dict[str, float]:
    """Speed of generating 64 tokens after 300: mode strict, and mode released, which recomputes everything for each token."""
    import torch

    from iit_bench.models.wings.configuration import WingsConfig
    from iit_bench.models.wings.modeling import WingsForConditionalGeneration

    _, ids = make_ids(wings, 300)
    settings = {"image_features": features, "max_new_tokens": 64, "min_new_tokens": 64, "do_sample": False, "pad_token_id": 0}
    mask = torch.ones_like(ids)
    runs = [seconds(lambda: wings.generate(ids, attention_mask=mask, **settings))[0] for _ in range(3)]
    fields = wings.config.to_dict() | {"mode": "released", "tokenizer_max_length": None}
    fields.pop("model_type")
    # With attention matrices, as in the authors' code.
    released = WingsForConditionalGeneration._from_config(WingsConfig(**fields), dtype=wings.dtype, attn_implementation="eager").eval()
    released.load_state_dict(wings.state_dict())
    mark = wings.config.image_token_id
    slot = torch.cat((ids[ids != mark][:90], torch.tensor([mark]), ids[ids != mark][90:])).unsqueeze(
        0
    )  # mode released has one slot per image
    uncached, _ = seconds(lambda: released.generate(slot, attention_mask=torch.ones_like(slot), use_cache=False, **settings))
    return {"strict tokens/s": 64 / min(runs), "released uncached tokens/s": 64 / uncached, "times released": uncached / min(runs)}


def run_timings(shape: str, dtype: str, threads: int, folder: str | None, pairs: int) -> dict[str, Any]:
    """All timings of one shape, dtype and number of threads."""
    import torch

    torch.set_num_threads(threads)
    llm, wings, features = build(shape, dtype, folder)
    with torch.inference_mode():
        timings: dict[str, Any] = time_pairs(llm, wings, features, pairs)
        timings["generate"] = time_generation(wings, features)
    if shape == "31m":
        timings["generate"]["times the released code"] = timings["generate"]["strict tokens/s"] / RELEASED_TOKENS_PER_SECOND
    timings["parameters"] = {"backbone": llm.num_parameters(), "wings": wings.num_parameters()}
    return timings


# ---------------------------------------------------------------- memory


def peak_of(shape: str, length: int, learners: bool) -> int:
    """Peak bytes of a prefill with a cache, in a process of its own, without those of its loaded libraries."""
    # Return freed blocks to the system at once, so that the peak is what was in use.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        return int(pool.apply(_peak, (shape, length, learners)))


def _peak(shape: str, length: int, learners: bool) -> int:
    import torch

    from iit_bench.models.wings import modeling  # noqa: F401 - loaded for both before memory is counted

    torch.set_num_threads(1)
    before = _resident()
    llm, wings, features = build(shape, "float32", learners=learners)
    plain, with_image = make_ids(llm, length)
    if wings is not None:
        llm = None  # its weights were copied: count only those of Wings
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the peak, which building the model has raised
    with torch.inference_mode():
        if wings is None:
            prefill(llm, plain)
        else:
            prefill(wings, with_image, image_features=features)
    return _resident("VmHWM") - before


def _resident(field: str = "VmRSS") -> int:
    """Bytes of memory that this process has now (VmRSS), or had at its peak (VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.findall(rf"{field}:\s+(\d+) kB", status)[0])


def measure_memory(shape: str) -> dict[str, Any]:
    """Peaks in MiB by length, a linear fit of those of Wings (with its worst residual as a share of the peak), and what the cache holds."""
    import numpy as np

    rows = {length: [peak_of(shape, length, learners) / 2**20 for learners in (False, True)] for length in LENGTHS}
    ours = np.array([row[1] for row in rows.values()])
    slope, start = np.polyfit(LENGTHS, ours, 1)
    residual = float(np.abs(ours - (start + slope * np.array(LENGTHS))).max() / ours.max())
    size = SHAPES[shape]
    layers, width, kv = size["num_hidden_layers"], size["hidden_size"], size["num_key_value_heads"]
    head = width // size["num_attention_heads"]
    token = 4 * layers / 1024  # KiB per token of one float32 number in every layer
    return {
        "MiB": {str(length): {"backbone": row[0], "wings": row[1], "ratio": row[1] / row[0]} for length, row in rows.items()},
        "fit": {"MiB at 0": float(start), "KiB per token": float(slope * 1024), "worst residual": residual},
        "cache KiB per token": {
            "backbone keys and values": token * 2 * kv * head,
            "room for the router's columns": token * 2 * kv * 8,
            "textual learner's keys and values": token * 2 * width,
        },
    }


# ---------------------------------------------------------------- FLOPs


def count_flops() -> dict[str, float]:
    """FLOPs of one pass of the 8B shape over 1,024 tokens, 729 of them an image, by torch's counter on the meta device and by hand.

    Both count a causal attention in full.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import Qwen2Config, SiglipVisionConfig

    from iit_bench.models.wings.configuration import WingsConfig
    from iit_bench.models.wings.modeling import WingsForConditionalGeneration
    from iit_bench.models.wings.released.names import BACKBONES

    table = {name: value for name, value in BACKBONES["qwen2"].items() if name not in ("rope_theta", "sliding_window")}
    vision = SiglipVisionConfig(
        hidden_size=1152, num_hidden_layers=1, num_attention_heads=16, image_size=384, patch_size=14, vision_use_head=False
    )
    totals = {}
    for name, learners in (("backbone", []), ("wings", ["visual", "textual"])):
        fields = {"lora_dim": 64, "image_token_length": 729, "vision_hidden_size": 1152, "image_token_id": 0, "learners": learners}
        config = WingsConfig(text_config=Qwen2Config(**table), vision_config=vision, **fields)
        with torch.device("meta"):
            model = WingsForConditionalGeneration(config)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            _meta_pass(model, 1024, 729)
        totals[name] = counter.get_total_flops()
    n, t, d, r, layers = 1024, 729, 4096, 64, 32
    low_rank = 4 * d * r * (n + t + n + t) + 4 * d * r * (n + n - t + n - t + n)  # q k v o of the visual, then of the textual learner
    attention = 4 * d * (n * t + n * (n - t))
    router = 4 * n * n * 8 * 32  # eight more columns in each of 32 heads, keys and values
    extra = layers * (low_rank + attention + router)
    return {
        "backbone GFLOP": totals["backbone"] / 1e9,
        "extra by torch's counter": totals["wings"] / totals["backbone"] - 1,
        "extra by hand": extra / totals["backbone"],
        "of it low-rank products": layers * low_rank / totals["backbone"],
        "of it learners' attention": layers * attention / totals["backbone"],
        "of it the router": layers * router / totals["backbone"],
    }


def _meta_pass(model: Any, n: int, t: int) -> None:
    """Run only the layers, over an image at the start of text: on the meta device no layout can be read from token ids."""
    import torch

    from iit_bench.models.wings.state import Images, Layout
    from iit_bench.models.wings.step import build_step

    device = torch.device("cpu")
    position = torch.arange(n, device=device)[None]
    mask = position < t
    zero = torch.zeros(1, dtype=torch.long)
    images = Images(mask=mask, image_index=torch.zeros(t, dtype=torch.long), vector_index=torch.arange(t), rows=zero, starts=zero)
    layout = Layout(attention_mask=torch.ones_like(mask), position_ids=position, images=images)
    width = model.config.text_config.hidden_size
    embeddings, features = torch.zeros(1, n, width), torch.zeros(1, t, width)
    rotary = type(model.model.rotary_emb)(model.config.text_config)
    step = build_step(model.config, rotary, windows=model._windows(), embeddings=embeddings, layout=layout, features=features, cache=None)
    model.model(embeddings.to("meta"), step.to(torch.device("meta")))


# ---------------------------------------------------------------- command


def main() -> None:
    """Run the measurements that the arguments choose, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["31m", "smollm2"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--dtype", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--pairs", type=int, default=5, help="timed pairs")
    parser.add_argument("--smollm2", help="folder of SmolLM2-135M, instead of random weights in its shape")
    parser.add_argument("--skip", nargs="*", choices=["time", "memory", "flops"], default=[])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    for shape in arguments.shape if "time" not in arguments.skip else ():
        folder = arguments.smollm2 if shape == "smollm2" else None
        for dtype in arguments.dtype:
            for threads in arguments.threads:
                results[f"{shape} {dtype} {threads} thread(s)"] = run_timings(shape, dtype, threads, folder, arguments.pairs)
    if "memory" not in arguments.skip:
        results["memory 31m float32"] = measure_memory("31m")
    if "flops" not in arguments.skip:
        results["flops 8B"] = count_flops()
    print(json.dumps(results, indent=2) if arguments.json else as_table(results))


if __name__ == "__main__":
    main()
