"""Reads golden folders of the released code and compares this project's results with them, whatever their sizes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PILImage
from safetensors.torch import load_file
from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config, SiglipVisionConfig

from iit_bench.models.wings.attention import router_attention
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.lorra import LoRRA, rotary_table
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.models.wings.released.rows import additive_mask
from iit_bench.models.wings.released.scripts import IMAGE_SLOT, SCRIPTS, format_conversation, mark_image
from iit_bench.models.wings.router import Router
from iit_bench.models.wings.state import LearnerStep
from iit_bench.models.wings.vision import VisionTower, preprocess

Errors = dict[str, float]  # quantity -> largest absolute error
FORWARD = {"atol": 2e-5, "rtol": 1e-5}
GRADIENT = {"atol": 1e-5, "rtol": 1e-5}


def check_folder(folder: Path) -> Errors:
    """Compare everything a golden folder holds.

    Raises:
        AssertionError: something differs, or the folder holds nothing to compare.
    """
    names = set() if not (folder / "weights.safetensors").is_file() else set(read(folder, "weights"))
    kind: Callable[[Folder], None]
    if (folder / "cases.json").is_file():
        kind = check_prompts
    elif "linear.weight" in names:
        kind = check_router
    elif "q_proj.0.weight" in names:
        kind = check_learner
    elif any("patch_embedding" in name for name in names) and "model.norm.weight" not in names:
        kind = check_tower
    else:
        kind = check_model
    compared = Folder(folder)
    kind(compared)
    assert compared.errors, f"{folder} holds nothing to compare"
    return compared.errors


def read(folder: Path, part: str) -> dict[str, torch.Tensor]:
    return load_file(folder / f"{part}.safetensors")


class Folder:
    """A golden folder and what was found in comparing it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors: Errors = {}
        config = path / "config.json"
        self.about: dict[str, Any] = json.loads(config.read_text()) if config.is_file() else {}
        self.shape: dict[str, Any] = self.about.get("config", {})

    def read(self, part: str) -> dict[str, torch.Tensor]:
        return read(self.path, part) if (self.path / f"{part}.safetensors").is_file() else {}

    def close(self, quantity: str, found: torch.Tensor, expected: torch.Tensor, tolerance: dict[str, float] = FORWARD) -> None:
        torch.testing.assert_close(found, expected, **tolerance, msg=lambda text: f"{self.path.name}: {quantity}: {text}")
        error = float((found - expected).detach().abs().max()) if found.numel() else 0.0
        self.errors[quantity] = max(self.errors.get(quantity, 0.0), error)

    def equal(self, quantity: str, found: object, expected: object) -> None:
        assert found == expected, f"{self.path.name}: {quantity}: {found!r} != {expected!r}"
        self.errors[quantity] = 0.0


# ---------------------------------------------------------------- whole models


def golden_model(folder: Folder, attention: str = "sdpa", **fields: Any) -> WingsForConditionalGeneration:
    shape = folder.shape
    config = WingsConfig(
        **{
            "text_config": _text_config(shape),
            "vision_config": SiglipVisionConfig(hidden_size=shape["mm_hidden_size"], num_hidden_layers=1, num_attention_heads=1),
            "mode": "released",
            "learner_layers": shape["attn_layers_idx"],
            "lora_dim": shape["lora_dim"],
            "router": shape["router"] == "linear",
            "router_width": shape["router_width"],
            "image_token_id": IMAGE_SLOT,
            "image_token_length": shape["image_token_length"],
            "vision_hidden_size": shape["mm_hidden_size"],
            "system_prompt_length": shape["system_prompt_length"],
            "tokenizer_max_length": shape["tokenizer_max_length"],
            "tokenizer_padding_side": shape["tokenizer_padding_side"],
            "released_window": shape["sliding_window"] if shape["arch"] == "wings_qwen2" else None,
            **fields,
        }
    )
    model = WingsForConditionalGeneration._from_config(config, attn_implementation=attention).eval()
    missing, unexpected = model.load_state_dict(folder.read("weights"), strict=False)
    needless = ("model.vision_tower.", "lm_head.") if not folder.read("logits") else ("model.vision_tower.",)
    assert not unexpected and all(name.startswith(needless) for name in missing), (missing, unexpected)
    return model


def _text_config(shape: dict[str, Any]) -> PreTrainedConfig:
    kind = {"wings_llama": LlamaConfig, "wings_qwen2": Qwen2Config}[shape["arch"]]
    fields = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    # The released Qwen2 code knows no rope scaling.
    scaling = (shape["rope_scaling"] or {}) if shape["arch"] == "wings_llama" else {}
    return kind(
        **{name: shape[name] for name in (*fields, "max_position_embeddings", "rms_norm_eps")},
        rope_parameters={"rope_type": "default", "rope_theta": shape["rope_theta"], **scaling},
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )


def check_model(folder: Folder) -> None:
    """Logits, hidden states, intermediates, loss, gradients and greedy tokens, by fused attention and by attention matrices."""
    for attention in ("sdpa", "eager"):
        check_model_with(folder, attention)


def check_model_with(folder: Folder, attention: str) -> None:
    model, inputs = golden_model(folder, attention), folder.read("inputs")
    call = _call(folder, inputs)
    if "image_features" in inputs:
        _give_features(folder, model, inputs["image_features"])
    exact = _Exact(folder, call)
    seen = dict(_watch(model))
    gradients = folder.read("grads")
    with torch.set_grad_enabled(bool(gradients)):
        output = model(**call, labels=inputs.get("labels"), return_logits=True, output_hidden_states=True)
    expected = folder.read("logits")
    if "logits" in expected:
        # In another order of operations than the authors', logits too may differ by the stored numbers' own rounding.
        found = output.logits if attention == "eager" else exact.rounded("logits", output.logits, expected["logits"])
        folder.close("logits", found, expected["logits"])
    if "loss" in expected:
        folder.close("loss", output.loss.reshape(1), expected["loss"])
    for name, tensor in folder.read("hidden").items():
        found = output.hidden_states[int(name.removeprefix("hidden_"))]
        folder.close("hidden states", exact.rounded(name, found, tensor), tensor)
    intermediates = folder.read("intermediates")
    for name, tensor in intermediates.items():
        folder.close(name.partition(".")[2], exact.rounded(name, seen[name][0], tensor), tensor)
    if intermediates:
        folder.equal("which intermediates exist", sorted(name for name in seen if seen[name]), sorted(intermediates))
    if gradients:
        _check_gradients(folder, model, output.loss, gradients)
    generated = folder.read("generated").get("generated_ids")
    if generated is not None:
        _check_greedy(folder, model, call, generated)
    if "patch_features" not in inputs and "logits" in expected:
        # Text only: mode `strict` is the same model there (docs/spec/wings.md#b5-router-weights), if nothing is cut.
        strict = golden_model(folder, mode="strict")
        mask = inputs["attention_mask"].bool()
        if folder.shape["tokenizer_padding_side"] != "left" and mask.shape[1] <= _limit(folder):
            with torch.no_grad():
                folder.close("logits of mode strict", strict(**call).logits[mask], expected["logits"][mask])


class _Exact:
    """The same model in float64, asked only where float32 results differ by more than the tolerance.

    The residual stream's numbers are sums of much larger ones, so the stored ones can themselves be wrong by more than the tolerance. Ours
    may then differ from them by that error more, up to `LARGEST_ROUNDING`; anything further off is no rounding.
    """

    LARGEST_ROUNDING = 1e-4

    def __init__(self, folder: Folder, call: dict[str, Any]) -> None:
        self.folder, self.call = folder, call
        self.results: dict[str, torch.Tensor] = {}

    def rounded(self, name: str, found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
        """`found`, moved towards `expected` by no more than the stored number's own rounding error."""
        if found.shape != expected.shape or torch.allclose(found, expected, **FORWARD):
            return found
        if not self.results:
            self._compute()
        rounding = (expected.double() - self.results[name]).abs().clamp(max=self.LARGEST_ROUNDING).to(found.dtype)
        gap = expected - found.detach()
        return found + gap.clamp(min=-rounding, max=rounding)

    def _compute(self) -> None:
        model = golden_model(self.folder, "eager").double()
        inputs = self.folder.read("inputs")
        if "image_features" in inputs:
            model.model.mm_projector.register_forward_hook(lambda _module, _args, _out: inputs["image_features"].double())
        seen = dict(_watch(model))
        with torch.no_grad():
            output = model(**self.call, output_hidden_states=True)
        self.results = {name: values[0] for name, values in seen.items() if values} | {"logits": output.logits}
        self.results |= {f"hidden_{i}": state for i, state in enumerate(output.hidden_states)}


def _limit(folder: Folder) -> int:
    window = folder.shape["sliding_window"] if folder.shape["arch"] == "wings_qwen2" else None
    return min(limit for limit in (folder.shape["tokenizer_max_length"], window, 2**31) if limit is not None)


def _give_features(folder: Folder, model: WingsForConditionalGeneration, projected: torch.Tensor) -> None:
    """The stored features stand for tower and projector: compare the projector's with them, continue with theirs and its gradients."""

    def hook(_module: torch.nn.Module, _args: object, found: torch.Tensor) -> torch.Tensor:
        stored = next(
            rows for rows in (projected, *projected.split(1)) if rows.shape == found.shape and torch.allclose(rows, found, atol=1e-3)
        )
        folder.close("projected features", found, stored)
        return found + (stored - found).detach()

    model.model.mm_projector.register_forward_hook(hook)


def _call(folder: Folder, inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
    mask = inputs.get("attention_mask") if folder.about.get("attention_mask_given", True) else None
    return {"input_ids": inputs["input_ids"], "attention_mask": mask, "image_features": inputs.get("patch_features")}


@torch.no_grad()
def _own_output(module: torch.nn.Module, args: tuple[Any, ...], given: dict[str, Any], out: Any) -> torch.Tensor:
    """What a module computed; of a learner, which adds to what it is given, its output without that and without its weight.

    Not of passes with a cache, which would be extended twice; theirs are not compared.
    """
    if isinstance(module, LoRRA) and args[2].bank is None:
        out = module.forward(*args, onto=torch.zeros_like(given["onto"]))
    return (out[0] if isinstance(out, tuple) else out).detach()


def _watch(model: WingsForConditionalGeneration) -> Iterator[tuple[str, list[torch.Tensor]]]:
    """Under the name of every intermediate, the list that its value will be appended to."""
    for index, layer in enumerate(model.model.layers):
        modules = {
            "self_attn_out": layer.self_attn,
            "attn_pool_out": layer.attn_pool,
            "attn_t_pool_out": layer.attn_t_pool,
            "router_weights": layer.reweight_module,
            "out": layer,
        }
        for name, module in modules.items():
            values: list[torch.Tensor] = []
            if module is not None:
                module.register_forward_hook(
                    lambda module, args, given, out, values=values: values.append(_own_output(module, args, given, out)), with_kwargs=True
                )
            yield f"layer{index}.{name}", values


def _check_gradients(folder: Folder, model: WingsForConditionalGeneration, loss: torch.Tensor, expected: dict[str, torch.Tensor]) -> None:
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    for name, tensor in expected.items():
        gradient = found[name]
        assert gradient is not None, f"{name} has no gradient"
        # Of a router only the columns of positions that exist are stored.
        folder.close("gradients", gradient[tuple(slice(size) for size in tensor.shape)], tensor, GRADIENT)
    norms = json.loads((folder.path / "grads.json").read_text())
    folder.close("loss", loss.detach(), torch.tensor(norms["loss"]))
    for name, norm in norms["param_grad_norm"].items():
        gradient = found[name]
        assert gradient is not None, f"{name} has no gradient"
        folder.close("gradient norms", gradient.norm(), torch.tensor(norm), GRADIENT)
    for name in norms["no_grad_params"]:
        gradient = found[name]
        folder.equal("parameters without gradient", gradient is None or not bool(gradient.any()), True)


def _check_greedy(folder: Folder, model: WingsForConditionalGeneration, call: dict[str, Any], expected: torch.Tensor) -> None:
    """Every row alone, without padding: by recomputing everything for each token, and by transformers' generate (cached for text only)."""
    for row, tokens in enumerate(expected.tolist()):
        mask = call["attention_mask"]
        start = call["input_ids"][row : row + 1] if mask is None else call["input_ids"][row][mask[row].bool()][None]
        features = None if call["image_features"] is None else call["image_features"][row : row + 1]
        ids = start
        with torch.no_grad():
            for _ in tokens:
                chosen = model(ids, image_features=features).logits[:, -1].argmax(-1)
                ids = torch.cat((ids, chosen[:, None]), dim=1)
        folder.equal("greedy tokens", ids[0, start.shape[1] :].tolist(), tokens)
        if start.shape[1] > 1:
            ids = model.generate(start, image_features=features, max_new_tokens=len(tokens), do_sample=False)
            folder.equal("tokens of generate", ids[0, start.shape[1] :].tolist(), tokens)


# ---------------------------------------------------------------- parts


def check_learner(folder: Folder) -> None:
    shape, inputs, outputs = folder.shape, folder.read("inputs"), folder.read("outputs")
    learner = LoRRA(shape["hidden_size"], shape["num_attention_heads"], shape["lora_dim"])
    learner.load_state_dict(folder.read("weights"))
    query_table, key_table = (
        rotary_table(inputs[name], learner.head_dim, shape["rope_theta"], torch.float32) for name in ("position_ids_q", "position_ids_k")
    )
    n, keys = inputs["query"].shape[1], inputs["key_value"].shape[1]
    mask = inputs["mask_additive"][..., :keys]
    uniform = [int(count) for count in re.findall(r"\d+", re.findall(r"padding_length=\[(.*?)\]", folder.about["note"])[0])]
    late = torch.arange(n) >= n - torch.tensor(uniform)[:, None]
    masks = {"out_nomask": None, "out_mask": mask, "out_mask_pad": additive_mask((mask[:, 0] == 0) & ~late[:, :, None], mask.dtype)}
    for name, learner_mask in masks.items():
        for eager in (False, True):
            step = LearnerStep(key_embeddings=inputs["key_value"], key_rotary=key_table, attention_mask=learner_mask, eager=eager)
            with torch.no_grad():
                nothing = torch.zeros_like(inputs["query"])
                folder.close("learner alone", learner(inputs["query"], query_table, step, 0, onto=nothing), outputs[name])


def check_router(folder: Folder) -> None:
    """The given probabilities are put through the fused attention: softmax of their logarithm, as queries against unit keys."""
    probabilities, weights = folder.read("inputs")["self_attn_probs"], folder.read("weights")  # [B, H, N, K]
    router = Router(weights["linear.weight"].shape[1])
    router.load_state_dict(weights)
    batch, heads, n, keys = probabilities.shape
    units = torch.eye(keys).expand(batch, heads, -1, -1)
    with torch.no_grad():
        columns = router.columns(torch.arange(keys).expand(batch, -1))
        query = probabilities.clamp(min=1e-37).log()
        everywhere = torch.zeros(batch, 1, n, keys)
        output, router_logits = router_attention(torch.nn.Module(), query, units, units, everywhere, scaling=1.0, router_columns=columns)
        assert router_logits is not None
        folder.close("router alone", router(router_logits), folder.read("outputs")["router_weights"])
    folder.close("attention beside the router", output.transpose(1, 2), probabilities)


def check_tower(folder: Folder) -> None:
    shape = folder.shape | {"num_hidden_layers": folder.shape["num_hidden_layers"] - 1}  # the released tower deletes its last layer
    vision = SiglipVisionConfig(**shape, vision_use_head=False)
    config = WingsConfig(vision_config=vision, vision_feature_layer=-1, image_size=shape["image_size"])
    inputs, outputs = folder.read("inputs"), folder.read("outputs")
    order = re.findall(r"order ([\w,]+)", folder.about["note"])[0].split(",")
    images = [PILImage.fromarray(inputs[f"rgb_{name}"].numpy()) for name in order]
    pixels = torch.stack([preprocess(image, config) for image in images])
    folder.close("pixels", pixels, outputs["pixel_values"])
    tower = VisionTower(config)
    tower.vision_tower.load_state_dict({name.removeprefix("vision_model."): tensor for name, tensor in folder.read("weights").items()})
    folder.close("tower features", tower(pixels), outputs["patch_features"])
    states = tower.vision_tower(pixels, output_hidden_states=True).hidden_states
    for name in (name for name in outputs if name.startswith("hidden_")):
        folder.close("tower hidden states", states[int(name.removeprefix("hidden_"))], outputs[name])


def check_prompts(folder: Folder) -> None:
    cases = json.loads((folder.path / "cases.json").read_text())
    special = {
        name.replace("newline", "\n"): int(token) for name, token in re.findall(r"(<\|.*?\|>|newline)\((\d+)\)", cases["tokenizer_rule"])
    }
    shift = int(re.findall(r"ord\(c\)\+(\d+)", cases["tokenizer_rule"])[0])
    script = SCRIPTS["qwen" if "<|im_start|>" in special else "llama"]
    roles = {"system": "system", "human": "user", "gpt": "assistant"}

    def encode(text: str) -> list[int]:
        pieces = re.split("(" + "|".join(map(re.escape, special)) + ")", text)
        return [token for piece in pieces for token in ([special[piece]] if piece in special else [ord(c) + shift for c in piece])]

    for case in cases["format"]:
        prompt = format_conversation([(roles[turn["from"]], turn["value"]) for turn in case["conversations"]], script, encode)
        folder.equal("prompts", (prompt.text, prompt.input_ids), (case["prompt"], case["input_ids"]))
        folder.equal("labels", prompt.labels, case["labels"])
    for case in cases["format_query"]:
        prompt = format_conversation([("user", case["query"])], script, encode, preface="")
        folder.equal("queries", (prompt.text, prompt.input_ids), (case["prompt"], case["input_ids"]))
    for case in cases["replace_image_token"]:
        folder.equal("image marks", mark_image(case["instruction"]), case["result"])
