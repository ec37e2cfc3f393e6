"""Trees of tokens: every node once, in rows that depend on the requests only."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest

from iit_bench.token_trees import ImageSymbols, TokenPath, build_row, cut_rows, token_path


def random_job(seed: int, requests: int = 40) -> list[list[TokenPath]]:
    """Requests that share beginnings: later turns of chats, replies that are prefixes of others, equal prompts."""
    draw = random.Random(seed)
    prompts: list[list[int]] = [[1, 2, 3]]
    job = []
    for _ in range(requests):
        prompt = draw.choice(prompts) + [draw.randrange(4) for _ in range(draw.randrange(0, 6))]
        replies = [[draw.randrange(4) for _ in range(draw.randrange(1, 4))] for _ in range(draw.randrange(1, 4))]
        job.append([token_path(prompt, replies)])
        prompts += [prompt, prompt + replies[0]]
    return job


def nodes_of(job: list[list[TokenPath]]) -> set[tuple[int, ...]]:
    """All beginnings of what is read: one per node of the tree, by hand."""
    branches = [[*one.prompt, *reply[:-1]] for paths in job for one in paths for reply in one.replies]
    return {tuple(branch[: i + 1]) for branch in branches for i in range(len(branch))}


@pytest.mark.parametrize("seed", range(20))
def test_a_row_has_every_node_once_and_each_sees_its_own_beginning(seed: int) -> None:
    paths = [one for own in random_job(seed) for one in own]
    row = build_row(paths)
    visible = row.visible()
    beginnings = [tuple(row.symbols[visible[i]].tolist()) for i in range(len(row))]
    assert sorted(beginnings) == sorted(nodes_of([paths]))
    assert row.depth.tolist() == [len(one) - 1 for one in beginnings]
    for one, edges in zip(paths, row.edges, strict=True):
        for reply, edge in zip(one.replies, edges, strict=True):
            nodes = row.nodes[row.edge_node[edge]]
            assert row.edge_token[edge].tolist() == list(reply)
            assert [beginnings[node] for node in nodes] == [(*one.prompt, *reply[:i]) for i in range(len(reply))]
    assert all(tuple(paths[row.path[i]].prompt[: len(b)]) == b[: len(paths[row.path[i]].prompt)] for i, b in enumerate(beginnings))


@pytest.mark.parametrize("tokens", [10, 30, 100, 10**6])
def test_rows_hold_every_request_once_within_their_budget(tokens: int) -> None:
    job = random_job(1)
    rows = cut_rows(job, tokens).rows
    assert sorted(i for row in rows for i in row) == list(range(len(job)))
    for row in rows:
        size = len(build_row([one for i in row for one in job[i]]))
        assert size <= tokens or len(row) == 1


def test_one_row_of_everything_has_as_many_nodes_as_the_tree() -> None:
    job = random_job(2)
    assert cut_rows(job, 10**6).nodes >= len(nodes_of(job))  # neighbours only are compared
    assert len(build_row([one for own in job for one in own])) == len(nodes_of(job))


def test_rows_do_not_depend_on_the_order_of_the_requests() -> None:
    job = random_job(3)
    order = np.random.default_rng(0).permutation(len(job))
    shuffled = cut_rows([job[i] for i in order], 60)
    as_prompts = [sorted(tuple(job[order[i]][0].prompt) for i in row) for row in shuffled.rows]
    assert as_prompts == [sorted(tuple(job[i][0].prompt) for i in row) for row in cut_rows(job, 60).rows]


def test_a_limit_of_requests_per_row_holds() -> None:
    assert max(map(len, cut_rows(random_job(4), 10**6, most=3).rows)) <= 3


# ---------------------------------------------------------------- images

# Of each pair, the hashes, or hashes of them, agree in what a symbol holds.
UNLIKE = [(b"69235", b"95303"), (b"85160", b"87591")]


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("pair", UNLIKE)
def test_different_images_differ_from_the_first_column_on_also_where_their_hashes_agree(pair: tuple[bytes, bytes], count: int) -> None:
    images = ImageSymbols()
    one, other = (images.of(hashlib.sha256(data).hexdigest(), count) for data in pair)
    assert one[0] != other[0]
    assert images.of(hashlib.sha256(pair[1]).hexdigest(), count) == other
    assert all(-(2**31) <= symbol < 0 for symbol in one + other)


def test_symbols_of_an_image_do_not_depend_on_what_else_was_seen() -> None:
    images = ImageSymbols()
    later = [images.of(str(number), 3) for number in range(50)][-1]
    assert ImageSymbols().of("49", 3) == later
