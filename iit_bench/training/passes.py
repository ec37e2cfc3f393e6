"""How a step's rows are cut into passes and shared among processes, so that little of what is computed is padding.

A pass is a batch that is computed at once; the gradients of a step's passes add up (gradient accumulation). All is a function of the rows'
lengths, so every process knows the plan of all without asking.
"""

from __future__ import annotations

from collections.abc import Sequence

# What a pass costs beyond its tokens, in tokens: starting the kernels of every layer. A GPU computes thousands of tokens in that time.
FIXED_COST = {"cpu": 60}
FIXED_COST_OF_ACCELERATORS = 16384

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


def padding(lengths: Sequence[int], passes: Passes) -> int:
    """Padded tokens of passes."""
    return sum(len(one) * max(lengths[row] for row in one) - sum(lengths[row] for row in one) for one in passes if one)
