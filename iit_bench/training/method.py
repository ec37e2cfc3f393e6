"""A way to make a multimodal model of a decoder and a tower: the hooks that each one overrides (see `rivals`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from iit_bench.errors import UserError
from iit_bench.training.dialogues import Draw
from iit_bench.training.method_records import MethodOptions
from iit_bench.training.stages import VlmRecipe


class Method:
    """What Wings and its rivals have in common."""

    def __init__(self, recipe: VlmRecipe, options: MethodOptions) -> None:
        self.recipe = recipe
        self.options: Any = options  # the record of this method

    @property
    def name(self) -> str:
        """As recipes name it."""
        return str(self.options.name)

    def config_fields(self) -> dict[str, Any]:
        """The fields of `WingsConfig` that the method decides."""
        raise NotImplementedError

    def check_start(self, config: Any) -> None:
        """Refuse the configuration of an earlier stage that this method cannot continue from.

        Raises:
            UserError: in one sentence.
        """
        fields = self.config_fields()
        rank = fields["lora_dim"] if set(fields["learners"]) & set(config.learners) else config.lora_dim
        if rank != config.lora_dim:
            key = "method.rank" if self.recipe.method.name else "model.rank"
            raise UserError(f"recipe key {key}: it is {rank}, and the learners of inputs.model have rank {config.lora_dim}; set it to that")
        if lost := [name for name in parts_in(vars(config)) if name not in parts_in(fields)]:
            raise UserError(
                f"recipe key inputs.model: it has {' and '.join(lost)}, which this stage (method {self.name}) would leave out, while its "
                "LLM was trained with them; name a stage without them, or train by a method that has them"
            )

    def attach(self, model: Any) -> None:
        """Put onto a model what its configuration cannot say; learners and router are there by `config_fields`.

        Called for an outline too, so it reads neither weights nor files.

        Raises:
            UserError: the decoder is none that the method can be put on.
        """

    def begin(self, model: Any) -> None:
        """Give parts that were added the values that follow from the model's own weights; not called for an outline."""

    def groups(self, model: Any) -> dict[str, list[nn.Parameter]]:
        """What can be trained, by the names of `records.LearningRates`; a group that the model does not have is absent."""
        return groups_of(model)

    def fields(self) -> dict[str, Any]:
        """What training.json records of the method."""
        return asdict(self.options)

    def draw(self, draw: Draw) -> Draw:
        """How questions are drawn, given how the recipe's data draw them."""
        return draw

    def finished(self, model: Any) -> Any:
        """The trained model in the plain weights of a Wings folder."""
        return model

    def save(self, folder: Path) -> None:
        """Write what a folder has beside model, tokenizer and processor."""


def parts_in(fields: Mapping[str, Any]) -> list[str]:
    """What a model has beside tower, projector and LLM, in words, by fields of `WingsConfig`."""
    learners = fields["learners"]
    names = [f"a {name} learner" for name in learners]
    names += ["a router"] if fields["router"] and len(learners) == 2 else []
    return [*names, *(["a learned prefix"] if fields.get("prefix_length") else [])]


def groups_of(model: Any) -> dict[str, list[nn.Parameter]]:
    """Parameters of a Wings model by part: tower, projector, visual, textual, router, adapter (a prefix), and the rest, the LLM."""
    layers = model.model.layers
    modules: dict[str, list[nn.Module | None]] = {
        "tower": [getattr(model.model, "vision_tower", None)],
        "projector": [getattr(model.model, "mm_projector", None)],
        "visual": [layer.attn_pool for layer in layers],
        "textual": [layer.attn_t_pool for layer in layers],
        "router": [layer.reweight_module for layer in layers],
        "adapter": [layer.prefix for layer in layers],
    }
    groups = {name: parameters_of(of) for name, of in modules.items()}
    beside = {id(parameter) for parameters in groups.values() for parameter in parameters}
    groups["llm"] = [parameter for parameter in model.parameters() if id(parameter) not in beside]
    return {name: parameters for name, parameters in groups.items() if parameters}


def parameters_of(modules: list[nn.Module | None]) -> list[nn.Parameter]:
    """The parameters of some modules, in order, each once."""
    return list(dict.fromkeys(parameter for module in modules if module is not None for parameter in module.parameters()))
