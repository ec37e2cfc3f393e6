"""What transformers would report of loading a checkpoint, from the names and shapes of its weights: nothing is read, and nothing made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.utils.loading_report import LoadStateDictInfo


def loading_report(outline: PreTrainedModel, stored: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """What `from_pretrained(output_loading_info=True, ignore_mismatched_sizes=True)` would return beside the model.

    Of a weight that is made of others (a layer's experts, a projection cut in three) only the names are compared.

    Args:
        outline: the model, on device "meta".
        stored: names and shapes of the checkpoint's weights.

    Returns:
        "missing_keys" and "unexpected_keys" (sets of names), and "mismatched_keys" ((name, stored shape, needed shape) each).
    """
    needed = outline.state_dict(keep_vars=True)
    reached: set[int] = set()  # tied weights are one tensor, stored under one of its names
    unlike: set[tuple[str, Any, Any]] = set()
    unknown: set[str] = set()
    for name, target, is_made in _targets(outline, stored, needed):
        if target not in needed:
            unknown.add(target)
            continue
        reached.add(id(needed[target]))
        if not is_made and tuple(stored[name]) != tuple(needed[target].shape):
            unlike.add((target, tuple(stored[name]), tuple(needed[target].shape)))
    lacking = {name for name, tensor in needed.items() if id(tensor) not in reached}
    report = LoadStateDictInfo(
        missing_keys=lacking, unexpected_keys=unknown, mismatched_keys=unlike, error_msgs=[], conversion_errors={}, skipped_pp_keys=set()
    )
    outline._adjust_missing_and_unexpected_keys(report)  # those that the class lists as to be ignored
    return {"missing_keys": report.missing_keys, "unexpected_keys": report.unexpected_keys, "mismatched_keys": report.mismatched_keys}


def _targets(outline: PreTrainedModel, stored: Mapping[str, Any], needed: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """(stored name, name in the model, whether the weight is made of others), as transformers decides it when it loads."""
    mapping = get_model_conversion_mapping(outline)
    renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
    converters = [one for one in mapping if isinstance(one, WeightConverter)]
    made_by = {pattern: one for one in converters for pattern in one.source_patterns}
    for name in stored:
        target, pattern = rename_source_key(name, renamings, converters, outline.base_model_prefix, needed)
        if target not in needed and name in needed:
            target, pattern = rename_source_key(name, [], [], outline.base_model_prefix, needed)
        if pattern is None:
            yield name, target, False
        else:
            first, *others = made_by[pattern].target_patterns
            yield from ((name, target.replace(first, one), True) for one in (first, *others))
