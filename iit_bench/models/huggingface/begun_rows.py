"""Prompts that begin alike, continued from a cache: each beginning is read once, and its cache repeated for the rows that have it.

A row is then its beginning, padded on the left, and its rest, padded on the left as well: padding is in the middle, and hidden by the mask.
Positions follow from the mask in the model's own `generate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

# Fields of configurations with a number of columns within which tokens see each other: padding in the middle takes up some of them.
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size", "local_attention", "local_window_size", "attention_window")
# Settings of `generate` under which rows are not continued from a cache: they copy rows, call the model in other ways, or look for
# sequences of tokens that padding in the middle would tear apart. With the value that switches each off.
WHOLE_ROWS = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "guidance_scale": 1,
    "no_repeat_ngram_size": 0,
    "prompt_lookup_num_tokens": None,
    "cache_implementation": None,
    "bad_words_ids": None,
    "sequence_bias": None,
}


def decodes_plainly(model: Any, settings: Mapping[str, Any]) -> bool:
    """Whether `generate` with these settings treats a row token by token, so that it may be continued from a cache."""
    defaults = model.generation_config
    return all(settings.get(name, getattr(defaults, name, None)) in (None, off) for name, off in WHOLE_ROWS.items())


def widest_row(config: Any) -> int | None:
    """Columns of a row with padding in its middle up to which no window is reached; None if the model has none."""
    sizes = (getattr(config, name, None) for name in WINDOWS)
    return min((size for size in sizes if isinstance(size, int) and size > 0), default=None)


def read_beginnings(model: Any, inputs: Mapping[str, Any], rows: Sequence[int], **settings: Any) -> Any:
    """A cache of row `rows[i]` of `inputs` for each i; `settings` name the tokens that pad and end.

    It is made by the model's own `generate`, which knows the positions of its family. Offsets of them that a model keeps beside its cache
    (`rope_deltas` of Qwen-VL) are chosen alike; those of an earlier call would be added in silence.
    """
    holders = [module for module in model.modules() if "rope_deltas" in vars(module)]
    for holder in holders:
        holder.rope_deltas = None
    how = {"max_new_tokens": 1, "do_sample": False, "num_beams": 1, "use_cache": True, "return_dict_in_generate": True}
    cache = model.generate(**inputs, **settings, **how).past_key_values
    chosen = torch.tensor(rows)  # on the CPU: layers of the cache may be on several devices
    cache.batch_select_indices(chosen)
    for holder in holders:
        if holder.rope_deltas is not None:
            holder.rope_deltas = holder.rope_deltas[chosen]
    return cache
