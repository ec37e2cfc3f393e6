"""Greedy decoding of transformers models, whatever generation_config.json says: what is set aside, what is kept, where a reply ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iit_bench.errors import UserError, one_line

FILE = "generation_config.json"
# Entries that change the form of what `generate` returns, need further arguments or other code, or make the checkpoint unloadable beside
# greedy decoding. They are never used, in no suite.
FORM = frozenset(
    [
        "assistant_early_exit",
        "cache_config",
        "cache_implementation",
        "compile_config",
        "constraints",
        "continuous_batching_config",
        "custom_generate",
        "diversity_penalty",
        "dola_layers",
        "force_words_ids",
        "is_assistant",
        "low_memory",
        "max_length",
        "max_new_tokens",
        "max_time",
        "num_beam_groups",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "output_logits",
        "output_scores",
        "penalty_alpha",
        "prefill_chunk_size",
        "prompt_lookup_num_tokens",
        "return_dict_in_generate",
        "speculation_type",
        "stop_strings",
        "token_healing",
        "use_cache",
        "use_mtp",
    ]
)
# Entries that greedy decoding keeps: which tokens begin, pad and end, and which are no text (marks of images, for example).
KEPT = frozenset(
    ["bad_words_ids", "begin_suppress_tokens", "bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id", "suppress_tokens"]
)
TOKENS = KEPT - {"bad_words_ids"}
MOST_TOKENS = 2**31  # no vocabulary has as many; a tensor of larger ids cannot be made
BOOKKEEPING = frozenset({"_from_model_config", "transformers_version"})
LENGTHS = frozenset({"max_length", "max_new_tokens", "use_cache"})  # not worth a record: every request has its own limit


def loading_settings(folder: Path) -> dict[str, Any]:
    """Arguments of `from_pretrained`: the folder's generation config without the entries of FORM, some of which make loading fail.

    Raises:
        UserError: the file is damaged.
    """
    from transformers import GenerationConfig

    if not (folder / FILE).is_file():
        return {}
    entries = _entries(folder)
    try:
        return {"generation_config": GenerationConfig(**{name: value for name, value in entries.items() if name not in FORM})}
    except (TypeError, ValueError) as error:
        raise UserError(f"{str(folder / FILE)!r} is refused by transformers: {one_line(error)}; mend or delete the file") from error


def greedy_settings(model: Any) -> dict[str, Any]:
    """Arguments of the model's `generate` that make it greedy: each step takes the most likely token of the model's own logits.

    Penalties, guidance, sampling, beams and lengths of the generation config are set to what leaves the logits alone; the entries in KEPT
    stay. The text suite does not use this: there lm-eval's rule holds, which obeys penalties.
    """
    neutral = model.generation_config._get_default_generation_params()
    entries = {name for name, value in model.generation_config.to_dict().items() if value is not None}
    changed = entries - KEPT - BOOKKEEPING - {"max_new_tokens"}  # which every caller gives
    return {name: neutral.get(name) for name in sorted(changed)} | {"do_sample": False, "num_beams": 1, "use_cache": True}


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """Ids of all tokens that end a reply: those of the generation config and the tokenizer's end of text."""
    ends = model.generation_config.eos_token_id
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    return list(dict.fromkeys([*ends, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])]))


def generation_record(folder: Path, model: Any, tokenizer: Any) -> dict[str, Any]:
    """What a run records of this, for `ModelInfo.settings`: entries that greedy decoding sets aside, and end tokens beside the tokenizer's.

    Empty where the checkpoint asks for greedy decoding up to the tokenizer's end of text.
    """
    aside = {name: value for name, value in _entries(folder).items() if _set_aside(name, value, model)}
    ends = end_tokens(model, tokenizer)
    return ({"greedy_without": aside} if aside else {}) | ({"end_tokens": ends} if ends != [tokenizer.eos_token_id] else {})


def _set_aside(name: str, value: Any, model: Any) -> bool:
    if name in KEPT | BOOKKEEPING or value in (None, False) or name in LENGTHS:
        return False
    return bool(value != model.generation_config._get_default_generation_params().get(name))


def _entries(folder: Path) -> Mapping[str, Any]:
    if not (folder / FILE).is_file():
        return {}
    try:
        entries = json.loads((folder / FILE).read_text(encoding="utf-8"), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{str(folder / FILE)!r} cannot be read ({one_line(error)}); get the file again, or delete it") from error
    if not isinstance(entries, dict):
        raise UserError(f"{str(folder / FILE)!r} holds no JSON object; get the file again, or delete it")
    for name in sorted(TOKENS & set(entries)):
        value = entries[name]
        if not all(
            type(one) is int and abs(one) < MOST_TOKENS for one in (value if isinstance(value, list) else [] if value is None else [value])
        ):
            raise UserError(
                f"{str(folder / FILE)!r} has {name} {str(value)[:60]!r}, which is no token id; get the file again, or delete it"
            )
    return entries


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
