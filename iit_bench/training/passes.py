"""How a step's rows are cut into passes and shared among processes, so that little of what is computed is padding.

A pass is a batch that is computed at once; the gradients of a step's passes add up (gradient accumulation). All is a function of the rows'
lengths, so every process knows the plan of all without asking.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from iit_bench.training.records import Running

# What a pass costs beyond its tokens, in tokens: starting the kernels of every layer. A GPU computes thousands of tokens in that time.
FIXED_COST = {"cpu": 60}
FIXED_COST_OF_ACCELERATORS = 16384

# Where rows of a pass are not padded to one length: the tokens of a pass at most unless a recipe says so (more are not computed faster),
# and what each block of rows of one length costs beyond its tokens, in tokens: the kernels of its attention.
PACKED = 2048
BLOCK_COST = 3

Passes = list[list[int]]  # of one process: the rows of each pass, as indices


def plan(lengths: Sequence[int], of: int, most: int, fixed_cost: int) -> list[Passes]:
    """The passes of each of `of` processes.

    All processes have equally many, because they exchange weights or gradients during a pass: one that has too few gets empty passes.

    Args:
        lengths: tokens of each row.
        of: processes.
        most: see `cut`.
        fixed_cost: see `cut`.
    """
    plans = []
    for mine in share(lengths, of):
        passes = cut([lengths[row] for row in mine], most, fixed_cost)
        plans.append([[mine[place] for place in one] for one in passes])
    longest = max(len(passes) for passes in plans)
    return [passes + [[] for _ in range(longest - len(passes))] for passes in plans]


def packed(task: Any, run: Running, processes: int) -> bool:
    """Whether `task` computes the rows of a pass without padding, on a processor and with its layers kept."""
    sharded = processes > 1 and run.parallel == "fsdp"
    return bool(run.device == "cpu" and run.precision == "float32" and not sharded and task.packs())


def most(run: Running, packs: bool) -> int:
    """`most` of `plan`."""
    return run.accumulate or (PACKED if packs else 0)


def fixed_cost(device: str, packs: bool) -> int:
    """The last argument of `plan`: of passes whose rows are packed, more than all padding that it could save, so that they are few."""
    return PACKED if packs else FIXED_COST.get(device, FIXED_COST_OF_ACCELERATORS)


def blocks(lengths: Sequence[int]) -> Passes:
    """The rows of a packed pass by blocks, each padded to its longest row."""
    return cut(lengths, 0, BLOCK_COST)


def share(lengths: Sequence[int], of: int) -> Passes:
    """Rows of each process: the longest row left goes to the process with the fewest tokens so far."""
    if of == 1:
        return [list(range(len(lengths)))]
    rows: Passes = [[] for _ in range(of)]
    tokens = [0] * of
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        process = tokens.index(min(tokens))
        rows[process].append(row)
        tokens[process] += lengths[row]
    return [sorted(mine) for mine in rows]


def cut(lengths: Sequence[int], most: int, fixed_cost: int) -> Passes:
    """Cut rows into passes at the lowest cost: rows of a pass are padded to its longest, and each pass costs `fixed_cost` tokens more.

    Args:
        lengths: tokens of each row.
        most: tokens of a pass, padding counted; 0 = no limit. A longer row is a pass of its own.
        fixed_cost: in tokens.

    Returns:
        Rows by pass, the longest pass first, so that memory is largest at the start.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    best, begin = [0.0], [0]  # of the first n rows in that order: the lowest cost, and where their last pass begins
    for end in range(1, len(order) + 1):
        cheapest, chosen = float("inf"), end - 1
        for start in range(end - 1, -1, -1):
            tokens = lengths[order[start]] * (end - start)
            if most and tokens > most and start < end - 1:
                break
            cost = best[start] + tokens + fixed_cost
            if cost < cheapest:
                cheapest, chosen = cost, start
        best.append(cheapest)
        begin.append(chosen)
    passes, end = [], len(order)
    while end:
        passes.append(sorted(order[begin[end] : end]))
        end = begin[end]
    return passes[::-1]


def tokens(lengths: Sequence[int], packs: bool = False) -> int:
    """Tokens of one pass over rows of these lengths, padding counted."""
    parts = blocks(lengths) if packs else [range(len(lengths))]
    return sum(len(part) * max(lengths[row] for row in part) for part in parts)


def padding(lengths: Sequence[int], passes: Passes, packs: bool = False) -> int:
    """Padded tokens of passes."""
    return sum(tokens(own, packs) - sum(own) for own in ([lengths[row] for row in one] for one in passes if one))
