"""Measures training steps side by side in one run: an older build's against this one's, Wings' against LLaVA-style full tuning's.

    python benchmarks/training.py [--against CHECKOUT] [--smol DIR] [--larger] [--steps 10] [--rounds 3] [--json]

Each figure is CPU seconds per step on one thread, the lowest of some rounds that take turns: other work on the machine only adds to it.
`--against` names a checkout of an older build: the ratio of its nano steps to this one's, and the largest difference between the losses of
the same steps, both from the models that came with the older build. `--smol` names a folder of SmolLM2-135M-Instruct: the peak memory of a
step of Wings over it, and of full tuning. `--larger` measures steps of both over a decoder of 31 million parameters, in turn. Every process
is new.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from costs import HERE, cost_of
from printed import as_table

STAGES = {
    "base LLM": ("lab-base", ()),
    "Wings, stage 2": ("lab-wings-stage2", ("inputs.model=shipped:wings",)),
    "LLaVA-style, stage 2": ("lab-llava-stage2", ("inputs.model=shipped:llava",)),
}

# Of any build: before rows and loss were separate things, `loss` took the step; `load_recipe` was `load`.
NANO = """
import json, sys, time
import torch
from iit_bench.training import loop, recipe as recipes
from iit_bench.training.train import make_task

torch.set_num_threads(1)
recipe = (recipes.load_recipe if hasattr(recipes, "load_recipe") else recipes.load)(sys.argv[2], sys.argv[3:]).recipe
task, optim = make_task(recipe), recipe.optim
if hasattr(task, "rows"):
    from iit_bench.training.parallel import Processes
    from iit_bench.training.steps import Stepper

    stepper = Stepper(task, optim, recipe.run, Processes(recipe.run))
    step = lambda number: stepper.step(number).loss
else:
    optimizer = loop.prepare(task, optim)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def step(number):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * loop.schedule(number, optim)
        loss = task.loss(number)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, optim.clip, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

losses = [step(number) for number in range(2)]
begun = time.process_time()
losses += [step(number) for number in range(2, 2 + int(sys.argv[1]))]
print(json.dumps({"seconds": (time.process_time() - begun) / int(sys.argv[1]), "losses": losses}))
"""

# One step with a small tower: 8 rows of an image of 16 tokens and 144 text tokens, 16 of them labelled.
OVER = """
import json, sys, time
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, RegNetConfig, RegNetModel
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.modeling import WingsForConditionalGeneration

torch.set_num_threads(1)

def trained(llm, method):
    tower = RegNetModel(RegNetConfig(embedding_size=8, hidden_sizes=[16, 32, 64], depths=[1, 1, 1], groups_width=16)).eval()
    wings = method == "wings"
    config = WingsConfig(text_config=llm.config, vision_config=tower.config, learners=["visual", "textual"] if wings else [],
                         router=wings, lora_dim=16, router_width=llm.config.max_position_embeddings, image_token_id=4, image_size=64)
    model = WingsForConditionalGeneration.from_base(llm, tower, config)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("vision_tower" not in name)
    return model.train(), torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)

def step(model, optimizer):
    length = model.config.image_token_length
    ids = torch.randint(10, 1000, (8, 160), generator=torch.Generator().manual_seed(0))
    ids[:, 10 : 10 + length] = 4
    labels = ids.clone()
    labels[:, :-16] = -100
    begun = time.process_time()
    features = model.encode_images(torch.zeros(8, 3, 64, 64)).detach()
    model(ids, torch.ones_like(ids), image_features=features, labels=labels).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.process_time() - begun
"""

# SmolLM2, for its peak memory.
SMOL = (
    OVER
    + """
llm = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
model, optimizer = trained(llm, sys.argv[2])
del llm
if sys.argv[3] == "checkpointing":
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
for _ in range(2):
    step(model, optimizer)
"""
)

# 31 million parameters, for CPU time: both methods in one process, a step each in turn.
LARGER = (
    OVER
    + """
llm = LlamaForCausalLM(LlamaConfig(hidden_size=512, intermediate_size=1376, num_hidden_layers=9, num_attention_heads=8,
                                   vocab_size=4000, max_position_embeddings=1024, tie_word_embeddings=True))
made = {method: trained(llm, method) for method in ("full", "wings")}
seconds = {method: [] for method in made}
for _ in range(1 + int(sys.argv[1])):
    for method, (model, optimizer) in made.items():
        seconds[method].append(step(model, optimizer))
best = {method: min(of[1:]) for method, of in seconds.items()}
print(json.dumps({"parameters": llm.num_parameters(), **best}))
"""
)


def measured(tree: Path, stage: str, steps: int, models: Path) -> dict[str, Any]:
    """Seconds per step and losses of one process; `models`: the checkout that shipped models are of."""
    recipe, overrides = STAGES[stage]
    overrides = tuple(item.replace("shipped:", f"{models}/iit_bench/assets/models/") for item in overrides)
    found: dict[str, Any] = json.loads(cost_of(NANO, [str(steps), recipe, *overrides], tree).output.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="a checkout of an older build")
    parser.add_argument("--smol", type=Path, help="a folder of SmolLM2-135M-Instruct")
    parser.add_argument("--larger", action="store_true", help="also steps over a decoder of 31 million parameters")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    trees = {"this build": HERE} | ({"older build": arguments.against.resolve()} if arguments.against else {})
    best: dict[str, dict[str, dict[str, Any]]] = {stage: {} for stage in STAGES}
    for _ in range(arguments.rounds):
        for stage, of_stage in best.items():
            for name, tree in trees.items():
                found = measured(tree, stage, arguments.steps, models=list(trees.values())[-1])
                if name not in of_stage or found["seconds"] < of_stage[name]["seconds"]:
                    of_stage[name] = found
    results: dict[str, Any] = {
        stage: {f"{name}, CPU s per step": found["seconds"] for name, found in of.items()} for stage, of in best.items()
    }
    for stage, of in best.items():
        if len(of) == 2:
            new, old = of["this build"], of["older build"]
            results[stage] |= {
                "older / this": old["seconds"] / new["seconds"],
                "largest difference of a loss": max(abs(a - b) for a, b in zip(new["losses"], old["losses"], strict=True)),
            }
    results["Wings / LLaVA-style"] = best["Wings, stage 2"]["this build"]["seconds"] / best["LLaVA-style, stage 2"]["this build"]["seconds"]
    if arguments.larger:
        found = json.loads(cost_of(LARGER, [str(arguments.rounds)]).output.splitlines()[-1])
        results["31 million parameters"] = {
            "full tuning, CPU s per step": found["full"],
            "Wings, CPU s per step": found["wings"],
            "Wings / full tuning": found["wings"] / found["full"],
        }
    if arguments.smol:
        results["SmolLM2, peak memory of a step"] = memory(arguments.smol)
    print(json.dumps(results, indent=2) if arguments.json else as_table(results))


def memory(smol: Path) -> dict[str, float]:
    """Peak memory in GB of a process that makes two steps, and the ratios."""
    found: dict[str, float] = {}
    for kept in ("whole", "checkpointing"):
        peaks = {method: cost_of(SMOL, [str(smol.resolve()), method, kept]).peak / 1e9 for method in ("full", "wings")}
        layers = "layers kept" if kept == "whole" else "layers recomputed"
        found |= {f"full tuning, {layers}, GB": peaks["full"], f"Wings, {layers}, GB": peaks["wings"]}
        found[f"Wings / full tuning, {layers}"] = peaks["wings"] / peaks["full"]
    return found


if __name__ == "__main__":
    main()
