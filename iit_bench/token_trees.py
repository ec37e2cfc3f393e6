"""Requests as a tree of tokens: which share beginnings, how the tree is cut into rows, and one row with every token once.

A *symbol* is what one position of a model reads: a token id, or a negative number for one column of an image (equal numbers = equal
columns of equal images). A *path* is a request in symbols: its prompt, and replies after it. All paths of a job form a tree. A *row* is a
part of it that goes through the model in one pass: each node once, in depth-first order, a node seeing its ancestors and itself only, at
the position that it has in its path. The last token of a reply is scored but never read, so it is no node.

Everything here is a function of the paths, in whatever order they come: no clock, no device, no model.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

SYMBOL = "i"  # type code of arrays of symbols: 32 bits
IMAGE_SYMBOLS = 2**31 - 1  # negative ones
# What a pass costs beside its positions, for choosing where to cut, in the time of so many positions. Measured on SmolLM2-135M on a CPU
# core: 3.4 ms a position in rows of 270 and of 520, 4.3 in rows of 1,030, 5.3 in rows of 2,060.
PASS_OVERHEAD = 32  # a pass over one position
QUADRATIC = 3000  # positions at which attention and its mask cost as much as all else


@dataclass(frozen=True, kw_only=True)
class TokenPath:
    """A request in symbols.

    Attributes:
        prompt: symbols [N], at least one.
        replies: tokens of each reply to it, at least one each.
        merged: how many replies were tokenised by themselves (`ScoreResult.merged`); only reported.
    """

    prompt: array[int]
    replies: tuple[array[int], ...]
    merged: int = 0

    @property
    def longest(self) -> int:
        """Positions of the prompt and its longest reply."""
        return len(self.prompt) + max(map(len, self.replies))

    def branches(self) -> list[np.ndarray]:
        """What is read for each reply: the prompt and the reply without its last token, int64 [M]."""
        prompt = np.frombuffer(self.prompt, dtype=np.int32).astype(np.int64)
        return [np.concatenate((prompt, np.frombuffer(reply, dtype=np.int32)[:-1])) for reply in self.replies]


def symbols(values: Iterable[int]) -> array[int]:
    """Symbols as `TokenPath` holds them."""
    return array(SYMBOL, values)


def token_path(prompt: Iterable[int], replies: Iterable[Iterable[int]], merged: int = 0) -> TokenPath:
    """A `TokenPath` of any sequences of symbols."""
    return TokenPath(prompt=symbols(prompt), replies=tuple(symbols(reply) for reply in replies), merged=merged)


class ImageSymbols:
    """Symbols of images' columns: the same for the same image; those of different images differ from the first column on.

    They follow from the image's hash, so that they do not depend on what else was seen; only where another image has the same first symbol,
    the one that is seen later takes the next free one.
    """

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._taken: dict[int, str] = {}

    def of(self, key: str, count: int) -> list[int]:
        """Symbols [count] of the image, or images, that `key` stands for."""
        if key not in self._first:
            number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % IMAGE_SYMBOLS
            while self._taken.setdefault(number, key) != key:  # one in 2³¹ pairs
                number = (number + 1) % IMAGE_SYMBOLS
            self._first[key] = number
        return [-1 - (self._first[key] + column) % IMAGE_SYMBOLS for column in range(count)]


# ---------------------------------------------------------------- one row


@dataclass(frozen=True, kw_only=True)
class TreeRow:
    """One row of a tree. Nodes are in depth-first order, so a node's descendants are the nodes after it up to `ends`.

    Attributes:
        symbols: int64 [N].
        depth: int64 [N], the node's place in its path, from 0.
        ends: int64 [N], one past the node's last descendant: i sees j if j <= i < ends[j].
        path: int64 [N], index of a path (in the order given) that the node is on; position data of a path is looked up with it.
        nodes: int64 [W], nodes after which some reply's token is scored, ascending.
        edge_node: int64 [E], index into `nodes` of each scored token.
        edge_token: int64 [E], the scored token.
        edges: per path and reply, its scored tokens: indices [length of the reply] into `edge_node`.
    """

    symbols: np.ndarray
    depth: np.ndarray
    ends: np.ndarray
    path: np.ndarray
    nodes: np.ndarray
    edge_node: np.ndarray
    edge_token: np.ndarray
    edges: tuple[tuple[np.ndarray, ...], ...]

    def __len__(self) -> int:
        return len(self.symbols)

    def visible(self) -> np.ndarray:
        """[N, N] bool: node i (row) sees node j (column), which is an ancestor of i or i itself."""
        index = np.arange(len(self))
        return (index[None, :] <= index[:, None]) & (index[:, None] < self.ends[None, :])


def build_row(paths: Sequence[TokenPath]) -> TreeRow:
    """The row of these paths, each of their tokens once."""
    branches = [(number, place, one) for number, own in enumerate(paths) for place, one in enumerate(own.branches())]
    branches.sort(key=lambda item: _sortable(item[2]))
    on_path = np.zeros(max(len(one) for _, _, one in branches), dtype=np.int64)  # by depth, the node of the branch that was added last
    symbol_parts, depth_parts, path_parts, ends_parts = [], [], [], []
    ends = np.zeros(sum(len(one) for _, _, one in branches), dtype=np.int64)
    nodes_of: dict[tuple[int, int], np.ndarray] = {}
    count, before = 0, np.empty(0, dtype=np.int64)
    for number, place, one in branches:
        shared = common_length(before, one)
        new = len(one) - shared
        ends[on_path[shared : len(before)]] = count
        on_path[shared : len(one)] = np.arange(count, count + new)
        symbol_parts.append(one[shared:])
        depth_parts.append(np.arange(shared, len(one)))
        path_parts.append(np.full(new, number))
        nodes_of[number, place] = on_path[len(paths[number].prompt) - 1 : len(one)].copy()
        count, before = count + new, one
    ends[on_path[: len(before)]] = count
    ends_parts.append(ends[:count])
    edges, edge_node, edge_token, done = [], [], [], 0
    for number, own in enumerate(paths):
        of_path = []
        for place, reply in enumerate(own.replies):
            edge_node.append(nodes_of[number, place])
            edge_token.append(np.frombuffer(reply, dtype=np.int32).astype(np.int64))
            of_path.append(np.arange(done, done + len(reply)))
            done += len(reply)
        edges.append(tuple(of_path))
    nodes, index = np.unique(np.concatenate(edge_node), return_inverse=True)
    return TreeRow(
        symbols=np.concatenate(symbol_parts),
        depth=np.concatenate(depth_parts),
        ends=np.concatenate(ends_parts),
        path=np.concatenate(path_parts),
        nodes=nodes,
        edge_node=index,
        edge_token=np.concatenate(edge_token),
        edges=tuple(edges),
    )


def common_length(one: np.ndarray, other: np.ndarray) -> int:
    """Number of equal symbols at the beginning of both."""
    short = min(len(one), len(other))
    different = np.flatnonzero(one[:short] != other[:short])
    return int(different[0]) if len(different) else short


def _sortable(one: np.ndarray) -> bytes:
    """Bytes that are ordered as the symbols are."""
    return (one + 2**31).astype(">u4").tobytes()


# ---------------------------------------------------------------- where to cut


@dataclass(frozen=True)
class Cut:
    """Requests in rows.

    Attributes:
        rows: indices of the requests in each row.
        nodes: nodes of the whole tree: what the rows would read without any repetition.
    """

    rows: list[list[int]]
    nodes: int


def cut_rows(requests: Sequence[Sequence[TokenPath]], tokens: int, most: int | None = None) -> Cut:
    """Cut the tree of `requests` (the paths of each) into rows.

    Requests are put in the order of their first prompts, in which neighbours share most, and the order is cut where that costs least:
    the beginning that a row shares with the one before it is read again, and longer rows cost more attention.

    Args:
        requests: paths of each, at least one.
        tokens: positions of a row at most; a longer request has a row of its own.
        most: requests of a row at most; None = any number.
    """
    order = sorted(range(len(requests)), key=lambda i: (_sortable(requests[i][0].branches()[0]), i))
    alone, more = _sizes([requests[i] for i in order])
    starts = _cheapest_cuts(alone, more, tokens, most or len(order))
    bounds = [*starts, len(order)]
    rows = [order[first:last] for first, last in itertools.pairwise(bounds)]
    return Cut(rows, int(more.sum()))


def _sizes(requests: Sequence[Sequence[TokenPath]]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of each request by itself, and those it adds to a row that holds the request before it; int64 [n] each."""
    alone, more = np.zeros(len(requests), dtype=np.int64), np.zeros(len(requests), dtype=np.int64)
    earlier: list[np.ndarray] = []
    for place, paths in enumerate(requests):
        own = sorted((one for each in paths for one in each.branches()), key=_sortable)
        before = np.empty(0, dtype=np.int64)
        for one in own:
            shared = common_length(before, one)
            known = max((common_length(other, one) for other in earlier), default=0)
            alone[place] += len(one) - shared
            more[place] += len(one) - max(shared, known)
            before = one
        earlier = own
    return alone, more


def _cheapest_cuts(alone: np.ndarray, more: np.ndarray, tokens: int, most: int) -> list[int]:
    """First request of each row, such that the cost of all rows is least (dynamic programming over the cuts)."""
    count = len(alone)
    grown = np.concatenate(([0], np.cumsum(more)))  # grown[j] - grown[i + 1]: what requests i + 1 to j - 1 add
    cost = np.zeros(count + 1)
    first = np.zeros(count + 1, dtype=np.int64)
    low = 0
    for end in range(1, count + 1):
        while end - low > most or (low < end - 1 and alone[low] + grown[end] - grown[low + 1] > tokens):
            low += 1
        begin = np.arange(low, end)
        size = (alone[begin] + grown[end] - grown[begin + 1]).astype(float)
        size[size > tokens] = np.where(begin == end - 1, size, np.inf)[size > tokens]
        whole = cost[begin] + PASS_OVERHEAD + size + size * size / QUADRATIC
        best = int(np.argmin(whole))
        cost[end], first[end] = whole[best], begin[best]
    starts = []
    end = count
    while end > 0:
        end = int(first[end])
        starts.append(end)
    return starts[::-1]
