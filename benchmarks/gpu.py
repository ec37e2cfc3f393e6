"""Measures what can only be measured on a GPU, in one run of at most six minutes on one large GPU; nothing is downloaded.

    python benchmarks/gpu.py [--only limits parity …] [--minutes 6] [--json]      on a GPU
    python benchmarks/gpu.py --dry-run                                            tiny shapes on a CPU, to see that it runs

Sections, in this order; one that would start after the time is up is left out and said to be:

limits      copy bandwidth and matrix products of this device: what the others are to be read beside
parity      mode `released` beside the golden vectors of the authors' code, float32 and bfloat16 (largest differences of logits)
wings       prefill and decode of Wings over its backbone, fused attention, then compiled, then compiled with CUDA graphs
tree        rows of a tree beside plain padded passes: seconds, positions, largest difference of a reply's log-probability
growth      positions of a row of a tree: seconds per position as rows double, up to out of memory or the largest size
throughput  an IIT-like job through rows of a tree: dialogues and tokens a second, and the share of the device's matrix limit

Weights are random, in the shape of an 8 B model; speed does not depend on them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from printed import as_table
from transformers import LlamaConfig, LlamaForCausalLM, SiglipVisionConfig

from iit_bench.engine.plan import ROW_TOKENS, ROW_TOKENS_ACCELERATOR
from iit_bench.models.huggingface.tree_rows import TreeRows
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.token_trees import TokenPath, build_row, cut_rows, token_path

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "data" / "wings_golden"
LARGE = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
TINY = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
IMAGE = {"side": 126, "patch": 14, "width": 64}  # a tower of 81 tokens; encoding images is not what is measured


@dataclass(frozen=True)
class Scale:
    """Sizes of everything that is measured."""

    device: str
    dtype: torch.dtype
    shape: dict[str, int]
    copy_bytes: int
    matrix: int  # side of the matrices that are multiplied
    prompt: int  # tokens of the prefill
    decoded: int
    groups: int  # of the job
    largest_row: int
    repeats: int


def scale(dry_run: bool) -> Scale:
    """The sizes for a large GPU, or for a dry run."""
    if dry_run:
        return Scale("cpu", torch.float32, TINY, 2**20, 64, 128, 2, 3, 512, 1)
    return Scale("cuda", torch.bfloat16, LARGE, 4 * 2**30, 8192, 2048, 64, 64, 65_536, 5)


# ---------------------------------------------------------------- time and models


def seconds(work: Callable[[], Any], sizes: Scale, warm_up: int = 1) -> float:
    """Median seconds of `work` after `warm_up` calls, the device's queue waited for."""
    times = []
    for i in range(warm_up + sizes.repeats):
        _wait(sizes)
        started = time.perf_counter()
        work()
        _wait(sizes)
        if i >= warm_up:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _wait(sizes: Scale) -> None:
    if sizes.device == "cuda":
        torch.cuda.synchronize()


def made(make: Callable[[], Any], sizes: Scale) -> Any:
    """A model with random weights, made on the device itself and in its dtype."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(sizes.dtype)
    try:
        with torch.device(sizes.device):
            model = make()
    finally:
        torch.set_default_dtype(before)
    for name, weight in model.named_parameters():
        if "attn_pool" in name or "attn_t_pool" in name:  # fresh learners add zero; these do not
            torch.nn.init.normal_(weight, std=0.02)
    return model.eval()


def backbone(sizes: Scale) -> Any:
    """The language model alone."""
    config = LlamaConfig(**sizes.shape, max_position_embeddings=2 * sizes.largest_row)
    return made(lambda: LlamaForCausalLM(config), sizes)


def wings_model(sizes: Scale) -> Any:
    """Wings on the same shape."""
    vision = SiglipVisionConfig(
        hidden_size=IMAGE["width"],
        intermediate_size=2 * IMAGE["width"],
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=IMAGE["side"],
        patch_size=IMAGE["patch"],
        vision_use_head=False,
    )
    config = WingsConfig(
        text_config=LlamaConfig(**sizes.shape, max_position_embeddings=8192),
        vision_config=vision,
        lora_dim=16,
        image_size=IMAGE["side"],
        image_token_id=sizes.shape["vocab_size"] - 1,
        image_token_length=(IMAGE["side"] // IMAGE["patch"]) ** 2,
        vision_hidden_size=IMAGE["width"],
        router_width=8192,
    )
    return made(lambda: WingsForConditionalGeneration(config), sizes)


# ---------------------------------------------------------------- sections


def limits(sizes: Scale) -> dict[str, Any]:
    """What the device can do at most: reading and writing its memory, and multiplying matrices."""
    source = torch.empty(sizes.copy_bytes, dtype=torch.uint8, device=sizes.device)
    target = torch.empty_like(source)
    copied = 2 * sizes.copy_bytes / seconds(lambda: target.copy_(source), sizes)
    result: dict[str, Any] = {"copy GB/s": copied / 1e9}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.randn(sizes.matrix, sizes.matrix, device=sizes.device).to(dtype)
        flops = 2 * sizes.matrix**3 / seconds(lambda matrix=matrix: matrix @ matrix, sizes)  # type: ignore[misc]
        result[f"matrix TFLOP/s {str(dtype).removeprefix('torch.')}"] = flops / 1e12
    return result


def parity(sizes: Scale) -> dict[str, Any]:
    """Logits of the golden folders on this device. The stored numbers are the authors' code on a CPU in float32."""
    golden = _golden_reader()
    worst: dict[str, float] = {}
    for path in sorted(GOLDEN.iterdir()):
        if not (path / "logits.safetensors").is_file():
            continue
        folder = golden.Folder(path)
        expected = folder.read("logits")["logits"]
        call = golden._call(folder, folder.read("inputs"))
        for dtype in (torch.float32, torch.bfloat16):
            model = golden.golden_model(folder).to(sizes.device, dtype)
            given = {name: value.to(sizes.device) for name, value in call.items() if value is not None}
            found = model(**given, return_logits=True).logits.float().cpu()
            name = str(dtype).removeprefix("torch.")
            worst[name] = max(worst.get(name, 0.0), float((found - expected).abs().max()))
    return {"folders": sum((path / "logits.safetensors").is_file() for path in GOLDEN.iterdir())} | {
        f"largest difference of logits {name}": value for name, value in worst.items()
    }


def _golden_reader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wings_golden_reader", ROOT / "tests" / "models" / "wings" / "golden.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wings(sizes: Scale) -> dict[str, Any]:
    """Seconds and ratios (Wings / backbone) of prefill and of decoding after it, in three ways of running both."""
    llm, own = backbone(sizes), wings_model(sizes)
    ids = torch.randint(0, sizes.shape["vocab_size"] - 1, (1, sizes.prompt), device=sizes.device)
    with_image = ids.clone()
    length = own.config.image_token_length
    with_image[:, 8 : 8 + length] = own.config.image_token_id
    features = torch.randn(1, length, IMAGE["width"], device=sizes.device, dtype=sizes.dtype)
    ways: dict[str, str | None] = {"fused": None, "compiled": "default", "CUDA graphs": "reduce-overhead"}
    result: dict[str, Any] = {}
    for way, mode in ways.items():
        if mode is not None and sizes.device != "cuda":
            continue
        try:
            run_llm, run_own = (model if mode is None else torch.compile(model, mode=mode) for model in (llm, own))
            times = {
                "backbone prefill s": seconds(lambda run=run_llm: run(ids, use_cache=True, logits_to_keep=1), sizes),  # type: ignore[misc]
                "wings prefill s": seconds(
                    lambda run=run_own: run(with_image, image_features=features, use_cache=True, logits_to_keep=1),  # type: ignore[misc]
                    sizes,
                ),
                "backbone decode s": _decode(run_llm, ids, {}, sizes),
                "wings decode s": _decode(run_own, with_image, {"image_features": features}, sizes),
            }
        except Exception as error:  # noqa: BLE001 - one way that a compiler refuses must not cost the others their figures
            result[way] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
            continue
        ratios = {f"{kind} ratio": times[f"wings {kind} s"] / times[f"backbone {kind} s"] for kind in ("prefill", "decode")}
        result[way] = times | ratios
    return result


def _decode(model: Any, ids: torch.Tensor, images: dict[str, torch.Tensor], sizes: Scale) -> float:
    """Seconds per token of greedy decoding after a prompt."""
    token = torch.zeros(1, 1, dtype=torch.long, device=sizes.device)
    times = []
    for _ in range(1 + sizes.repeats):
        cache = model(ids, use_cache=True, logits_to_keep=1, **images).past_key_values
        _wait(sizes)
        started = time.perf_counter()
        for _ in range(sizes.decoded):
            model(token, past_key_values=cache, use_cache=True, logits_to_keep=1)
        _wait(sizes)
        times.append((time.perf_counter() - started) / sizes.decoded)
    return statistics.median(times[1:])


def job(sizes: Scale) -> list[list[TokenPath]]:
    """Dialogues as IIT has them: per group one target after seven histories of one or two turns, four replies of two to five tokens."""
    draw = random.Random(0)
    last = sizes.shape["vocab_size"] - 1

    def tokens(count: int) -> list[int]:
        return [draw.randrange(last) for _ in range(count)]

    system = tokens(20)
    requests = []
    for _ in range(sizes.groups):
        target, replies = tokens(40), [tokens(draw.randrange(2, 6)) for _ in range(4)]
        turns = [tokens(60) for _ in range(3)]
        histories: list[list[int]] = [[], turns[0], turns[1], turns[2], turns[0] + turns[1], turns[0] + turns[2], turns[1] + turns[2]]
        requests += [[token_path([*system, *history, *target], replies)] for history in histories]
    return requests


def tree(sizes: Scale) -> dict[str, Any]:
    """The job through rows of a tree, and through padded passes of prompt and reply as a plain harness makes them."""
    llm, requests = backbone(sizes), job(sizes)
    rows = TreeRows(llm, sizes.device)
    limit = ROW_TOKENS.get(sizes.device, ROW_TOKENS_ACCELERATOR)
    cut = cut_rows(requests, limit).rows
    built = [(row, build_row([path for i in row for path in requests[i]])) for row in cut]
    results: list[tuple[list[float], list[bool]]] = []

    def run_tree() -> None:
        results[:] = [rows.run(one) for _, one in built]

    tree_seconds = seconds(run_tree, sizes)
    found: dict[tuple[int, int], float] = {}
    for (members, row), (logprobs, _) in zip(built, results, strict=True):
        for request, edges in zip(members, row.edges, strict=True):
            found |= {(request, place): sum(logprobs[edge] for edge in edge_list) for place, edge_list in enumerate(edges)}
    plain: dict[tuple[int, int], float] = {}
    plain_seconds = seconds(lambda: plain.update(_plain(llm, requests, sizes)), sizes)
    positions = sum(len(row) for _, row in built)
    read = sum(len(path.prompt) + len(reply) - 1 for (path,) in requests for reply in path.replies)
    return {
        "rows": len(built),
        "positions / nodes": positions / len(build_row([path for own in requests for path in own])),
        "positions of plain passes / of the tree": read / positions,
        "tree s": tree_seconds,
        "plain s": plain_seconds,
        "times as fast": plain_seconds / tree_seconds,
        "largest difference of a reply": max(abs(found[key] - plain[key]) for key in found),
    }


def _plain(llm: Any, requests: Sequence[Sequence[TokenPath]], sizes: Scale) -> dict[tuple[int, int], float]:
    """One padded row per prompt and reply, 64 at a time."""
    flat = [
        (i, place, [*path.prompt, *reply], len(reply)) for i, (path,) in enumerate(requests) for place, reply in enumerate(path.replies)
    ]
    flat.sort(key=lambda item: len(item[2]))
    scores = {}
    with torch.inference_mode():
        for start in range(0, len(flat), 64):
            part = flat[start : start + 64]
            width = max(len(row) for _, _, row, _ in part) - 1
            ids = torch.tensor([row[:-1] + [0] * (width - len(row) + 1) for _, _, row, _ in part], device=sizes.device)
            mask = torch.tensor([[1] * (len(row) - 1) + [0] * (width - len(row) + 1) for _, _, row, _ in part], device=sizes.device)
            logits = llm(input_ids=ids, attention_mask=mask, use_cache=False).logits
            for at, (request, place, row, count) in enumerate(part):
                logprobs = logits[at, len(row) - 1 - count : len(row) - 1].float().log_softmax(-1)
                target = torch.tensor(row[-count:], device=sizes.device)[:, None]
                scores[request, place] = logprobs.gather(1, target).sum()
        return {key: float(value) for key, value in scores.items()}


def growth(sizes: Scale) -> dict[str, Any]:
    """Seconds per position of rows that double, until memory ends. Paths of a row share nothing here."""
    llm = backbone(sizes)
    rows, first, length = TreeRows(llm, sizes.device), job(sizes)[0][0], 250
    prompt = (list(first.prompt) * length)[: length - 1]
    result: dict[str, Any] = {}
    size = 256
    while size <= sizes.largest_row:
        row = build_row([token_path([number, *prompt], [first.replies[0]]) for number in range(max(1, size // length))])
        try:
            taken = 1000 * seconds(lambda row=row: rows.run(row), sizes) / len(row)  # type: ignore[misc]
        except torch.OutOfMemoryError:
            result[f"{len(row)} positions"] = "out of memory"
            break
        result[f"{len(row)} positions"] = {"s per 1,000": taken}
        size *= 2
    return result


def throughput(sizes: Scale, matrix_limit: float | None) -> dict[str, Any]:
    """Dialogues and tokens a second of the whole job, planning and packing included."""
    llm, requests = backbone(sizes), job(sizes)
    rows = TreeRows(llm, sizes.device)
    limit = ROW_TOKENS.get(sizes.device, ROW_TOKENS_ACCELERATOR)
    positions = [0]

    def run() -> None:
        positions[0] = 0
        for members in cut_rows(requests, limit).rows:
            row = build_row([path for i in members for path in requests[i]])
            positions[0] += len(row)
            rows.run(row)

    taken = seconds(run, sizes)
    parameters = sum(weight.numel() for name, weight in llm.named_parameters() if "embed_tokens" not in name)
    flops = 2 * parameters * positions[0] / taken / 1e12
    result = {"dialogues/s": len(requests) / taken, "positions/s": positions[0] / taken, "TFLOP/s": flops}
    read = sum(len(path.prompt) + len(reply) for own in requests for path in own for reply in path.replies)
    result["tokens of prompts and replies/s"] = read / taken
    return result | ({"share of the matrix limit": flops / matrix_limit} if matrix_limit else {})


# ---------------------------------------------------------------- command

SECTIONS = ("limits", "parity", "wings", "tree", "growth", "throughput")


def main() -> None:
    """Run the sections that fit the time, and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--minutes", type=float, default=6.0, help="no section starts later than this")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.dry_run and not torch.cuda.is_available():
        parser.error("no CUDA device is visible; use --dry-run to try the script on a CPU")
    sizes, started = scale(arguments.dry_run), time.perf_counter()
    results: dict[str, Any] = {"device": "cpu" if arguments.dry_run else torch.cuda.get_device_name(), "torch": torch.__version__}
    run: dict[str, Callable[[], dict[str, Any]]] = {
        "limits": lambda: limits(sizes),
        "parity": lambda: parity(sizes),
        "wings": lambda: wings(sizes),
        "tree": lambda: tree(sizes),
        "growth": lambda: growth(sizes),
        "throughput": lambda: throughput(sizes, results.get("limits", {}).get("matrix TFLOP/s bfloat16")),
    }
    for name in SECTIONS:
        if name not in arguments.only:
            continue
        begun = time.perf_counter()
        if begun - started > 60 * arguments.minutes:
            results[name] = {"left out": "the time is up"}
            continue
        with torch.inference_mode():
            results[name] = run[name]() | {"section s": time.perf_counter() - begun}
        if sizes.device == "cuda":
            torch.cuda.empty_cache()
    print(json.dumps(results, indent=2) if arguments.json else as_table(results))


if __name__ == "__main__":
    main()
