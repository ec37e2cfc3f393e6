"""A peft adapter loaded onto a model of transformers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError, one_line
from iit_bench.models.checkpoint_check import MOST_LAYERS, read_object
from iit_bench.models.trials import BYTES, SECONDS, tried

REPEATS = frozenset("*+?{")  # a regular expression without these is matched at once
MOST_ROUNDS = 100  # of a decomposition of the base's weights, which init_lora_weights "pissa_niter_N" asks for


def load_adapter(model: Any, folder: Path) -> Any:
    """The model with the adapter's layers in it, not merged, so that its own class and `generate` stay.

    Raises:
        UserError: peft is not installed, the adapter does not fit the model, it is of a kind that lengthens prompts, or matching its
            patterns or making its layers takes too long.
    """
    try:
        from peft import PeftConfig
    except ImportError as error:
        raise UserError(f"adapter {str(folder)!r} needs peft, which cannot be imported ({one_line(error)}); pip install peft") from error
    if any(weight.is_meta for weight in model.parameters()):
        raise UserError(
            f"adapter {str(folder)!r} cannot be loaded onto weights that wait on the disk or in the machine's memory; use a --device-map "
            "with all of them on devices, or a checkpoint with the adapter merged into it"
        )
    fields = read_object(folder / "adapter_config.json")
    _check_work(fields, folder)
    _check_patterns(fields, [name for name, _ in model.named_modules()], folder)
    try:
        config = PeftConfig.from_pretrained(str(folder))
        if config.is_prompt_learning:
            raise UserError(
                f"adapter {str(folder)!r} is of type {config.peft_type.value}, which puts learned vectors before each prompt; adapters of "
                "weights, such as LORA, are loaded"
            )
        adapted = wrapped(model, config)
        result = adapted.load_adapter(str(folder), "default", torch_device=str(model.device), autocast_adapter_dtype=False)
    except UserError:
        raise
    except Exception as error:  # adapter_config.json is a stranger's file
        raise UserError(f"adapter {str(folder)!r} does not fit the checkpoint: {one_line(error)}; name the base it was made for") from error
    if wrong := sorted([*result.missing_keys, *result.unexpected_keys]):  # peft would go on with random or unused numbers
        raise UserError(
            f"adapter {str(folder)!r} does not fit the checkpoint: {len(wrong)} of its weights have no place or no number, {wrong[0]!r} "
            "first; name the base it was made for"
        )
    return adapted.get_base_model().eval()


def wrapped(model: Any, config: Any) -> Any:
    """peft's model around one of transformers, with new layers as its configuration says."""
    from peft import PeftModel

    with warnings.catch_warnings():  # peft 0.21 reads a name that transformers 5.23 has renamed: nothing that a user can mend
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return PeftModel(model, config, autocast_adapter_dtype=False)


def _check_work(fields: dict[str, Any], folder: Path) -> None:
    """Refuse an adapter whose base would be decomposed in so many rounds, or have so many layers, that loading does not end."""
    start, copies = fields.get("init_lora_weights"), fields.get("layer_replication") or []
    rounds = start.rpartition("_niter_")[2] if isinstance(start, str) and "_niter_" in start else ""
    if len(rounds) > 9 or (rounds.isdecimal() and int(rounds) > MOST_ROUNDS):
        fault = f"init_lora_weights of adapter_config.json asks for more than {MOST_ROUNDS} rounds of decomposition"
    elif not isinstance(copies, list) or not all(_is_range(one) for one in copies):
        fault = "layer_replication of adapter_config.json is no list of pairs of layers"
    elif sum(last - first for first, last in copies) > MOST_LAYERS or len(copies) > MOST_LAYERS:
        fault = f"layer_replication of adapter_config.json asks for more than {MOST_LAYERS} layers"
    else:
        return
    raise UserError(f"adapter {str(folder)!r}: {fault}; get the file again")


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(end) is int for end in value) and 0 <= value[0] <= value[1]


def _check_patterns(fields: dict[str, Any], names: list[str], folder: Path) -> None:
    """Refuse an adapter whose texts, where peft takes them as regular expressions for names of modules, would be matched without end."""
    patterns = sorted({text for text in _texts(fields) if REPEATS & set(text)})
    if not patterns:
        return
    _, fault = tried("pattern_trial.py", {"patterns": patterns, "names": names}, SECONDS, BYTES)
    if fault:
        raise UserError(
            f"adapter {str(folder)!r}: matching {patterns[0]!r} of adapter_config.json with the names of the model's modules {fault}; "
            "give target_modules as a list of names"
        )


def _texts(value: Any) -> Iterator[str]:
    """All texts of a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    for part in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(part)
