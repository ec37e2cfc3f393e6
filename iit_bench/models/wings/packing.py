"""Several steps as that of one row of tokens, so that a pass that is trained on has no padding but within each step's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from iit_bench.models.wings.configuration import LEARNERS
from iit_bench.models.wings.state import LearnerStep, Read, Rotary, Rows, Step


def joined(steps: Sequence[Step], spare: int) -> Step:
    """The step of the tokens of all `steps`, each step's row by row.

    Args:
        steps: of `build_step` with `keep` and `whole`, of rows that are padded on the right, without a cache and without sliding windows.
        spare: tokens behind them that nothing reads.
    """
    lasts, reads = [], []
    for step in steps:
        assert step.last is not None and step.last.read is not None, "steps say what is read"
        lasts.append(step.last)
        reads.append(step.last.read)
    sizes = [(step.position_ids.shape[0], step.position_ids.shape[1]) for step in steps]
    read_sizes = [(read.columns.shape[0], read.columns.shape[1]) for read in reads]
    of_all = Step(
        position_embeddings=_rotary([step.position_embeddings for step in steps], spare),
        attention_masks={None: None},
        position_ids=_flat([step.position_ids for step in steps], spare),
        use_router=any(step.use_router for step in steps),
        query_rotary=_rotary([step.query_rotary for step in steps if step.query_rotary is not None], spare),
        learners={name: _learner(name, steps, sizes, spare) for name in LEARNERS if any(name in step.learners for step in steps)},
        sees_both=_sees_both(steps, sizes, spare),
        begins=True,
        rows=tuple(Rows(rows=rows, queries=width, keys=width, causal=True) for rows, width in sizes),
    )
    firsts = [sum(rows * width for rows, width in sizes[:number]) for number in range(len(sizes))]
    of_all.last = replace(
        of_all,
        query_rotary=_rotary([last.query_rotary for last in lasts if last.query_rotary is not None], 0),
        learners={
            name: replace(_learner(name, lasts, read_sizes, 0), projected=learner.projected) for name, learner in of_all.learners.items()
        },
        sees_both=_sees_both(lasts, read_sizes, 0),
        rows=tuple(
            Rows(rows=rows, queries=width, keys=keys, mask=read.mask)
            for (rows, width), (_, keys), read in zip(read_sizes, sizes, reads, strict=True)
        ),
        read=Read(
            keep=_flat([read.keep for read in reads], spare),
            columns=_flat([read.columns + first for first, read in zip(firsts, reads, strict=True)], 0),
            real=_flat([read.real for read in reads], 0),
            mask=reads[0].mask,  # not read: `rows` have the masks
        ),
        _elsewhere={},
    )
    return of_all


def _learner(name: str, steps: Sequence[Step], sizes: Sequence[tuple[int, int]], spare: int) -> LearnerStep:
    """What a learner sees; `sizes`: rows and queries of each step."""
    of_steps = [step.learners.get(name) for step in steps]
    arriving = [(of.key_embeddings, of.key_rotary) for of in of_steps if of is not None]
    embeddings = [keys for keys, _ in arriving if keys is not None]
    rows = []
    for of, (number, width) in zip(of_steps, sizes, strict=True):
        keys, mask = (0, None) if of is None or of.key_embeddings is None else (of.key_embeddings.shape[1], of.attention_mask)
        assert not isinstance(mask, tuple), "a loss has no trees"
        rows.append(Rows(rows=number, queries=width, keys=keys, mask=mask, causal=of is not None and of.is_causal))
    sees_key = None
    if any(of is not None and of.sees_key is not None for of in of_steps):
        parts = [None if of is None else of.sees_key for of in of_steps]
        sees_key = _flat([_all(size, embeddings[0]) if part is None else part for part, size in zip(parts, sizes, strict=True)], spare)
    return LearnerStep(
        key_embeddings=_flat(embeddings, 0),
        key_rotary=_rotary([rotary for _, rotary in arriving if rotary is not None], 0),
        sees_key=sees_key,
        rows=tuple(rows),
    )


def _sees_both(steps: Sequence[Step], sizes: Sequence[tuple[int, int]], spare: int) -> torch.Tensor | None:
    """As `Step.sees_both`: nothing of a step that does not use the router."""
    if all(step.use_router and step.sees_both is None for step in steps):
        return None
    parts = []
    for step, size in zip(steps, sizes, strict=True):
        everything = _all(size, step.position_ids)
        parts.append(~everything if not step.use_router else everything if step.sees_both is None else step.sees_both)
    return _flat(parts, spare)


def _all(size: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
    """[B, N, 1] bool, True."""
    return torch.ones(*size, 1, dtype=torch.bool, device=like.device)


def _rotary(tables: Sequence[Rotary], spare: int) -> Rotary:
    return _flat([cos for cos, _ in tables], spare), _flat([sin for _, sin in tables], spare)


def _flat(parts: Sequence[torch.Tensor], spare: int) -> torch.Tensor:
    """[B, N, …] each → [1, Σ B N + spare, …]."""
    flat = [part.flatten(0, 1) for part in parts]
    return torch.cat((*flat, flat[0].new_zeros(spare, *flat[0].shape[1:])))[None]
