"""Requests as paths of a tree, and results from one row of it: shared by every model of this process that can run such rows."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Sequence

from iit_bench.models.contract import Model, RollingRequest, Scored, ScoreRequest, ScoreResult
from iit_bench.models.devices import device_name
from iit_bench.models.raw_text import Pair, RawText
from iit_bench.token_trees import TokenPath, TreeRow, build_row, token_path

LONGEST_PATH = 16384  # positions; the mask of a row of them has 1 GiB in float32
REHEARSED = 128  # tokens of a chat in `rehearse`


class TreeScoring(RawText, Model):
    """Mixin for a model that runs rows of a tree (`run_row`), for chats (`chat_path`) and raw text."""

    @abstractmethod
    def chat_path(self, request: ScoreRequest) -> TokenPath:
        """A chat and its replies in symbols.

        Raises:
            ItemError: the chat cannot be rendered or encoded.
        """

    @abstractmethod
    def run_row(self, row: TreeRow, paths: Sequence[TokenPath]) -> tuple[list[float], list[bool]]:
        """One pass over a row that `token_trees.build_row` made of `paths`.

        Returns:
            Of every scored token (`row.edge_token`): its log-probability in nats after its node, and whether it is the most likely one.
        """

    def fits_tree(self, path: TokenPath) -> bool:
        """Whether this path may be part of a tree. Where one is not, its request is asked by itself."""
        return True

    def paths(self, request: Scored) -> list[TokenPath]:
        """As `contract.Model.paths`: a chat is one path, a raw text one per context.

        None for a text of several windows, which share nothing, and where a path is so long that its mask would take the memory.
        """
        if isinstance(request, ScoreRequest):
            found = [self.chat_path(request)]
        else:
            pairs: list[Pair] = self._windows(request.text) if isinstance(request, RollingRequest) else self._pairs(request)
            found = [token_path(before, [after for _, after in own]) for before, own in itertools.groupby(pairs, key=lambda pair: pair[0])]
        windows = len(found) if isinstance(request, RollingRequest) else 1
        return found if windows == 1 and all(path.longest <= LONGEST_PATH and self.fits_tree(path) for path in found) else []

    @property
    def device_name(self) -> str:
        return device_name(self.info.device)

    def rehearse(self, positions: int) -> None:
        """As `contract.Model.rehearse`: chats with an equal beginning and four replies each, in a row or in a padded batch."""
        if self.prompts_at_once is not None and self.way != "tree":
            raise NotImplementedError
        words = (self.encode_text("The circle is red, the square is blue, and Paris is the capital of France.") * 16)[:REHEARSED]
        distinct = list(dict.fromkeys(words))
        paths = []
        for number in range(max(1, positions // (REHEARSED // 2 + 8))):
            own = [distinct[(number // len(distinct) ** place) % len(distinct)] for place in range(4)]  # so that the chats differ
            prompt = [*words[: REHEARSED // 2], *own, *words[REHEARSED // 2 + 4 :]]
            paths.append(token_path(prompt, [words[i : i + 3] for i in range(4)]))
        if self.way == "tree":
            self.run_row(build_row(paths), paths)
            return
        paths = paths[: max(1, positions // REHEARSED)]
        prompts = [self.text_prompt(list(path.prompt)) for path in paths]
        self.score_tokens(prompts, [len(path.prompt) for path in paths], [list(map(list, path.replies)) for path in paths])

    def score_paths(self, batch: Sequence[Scored], paths: Sequence[Sequence[TokenPath]]) -> list[ScoreResult]:
        """As `contract.Model.score_paths`."""
        flat = [one for own in paths for one in own]
        row = build_row(flat)
        logprobs, greedy = self.run_row(row, flat)
        results, done = [], 0
        for request, own in zip(batch, paths, strict=True):
            edges = [reply for edges in row.edges[done : done + len(own)] for reply in edges]
            done += len(own)
            sums = [sum(logprobs[edge] for edge in reply.tolist()) for reply in edges]
            all_greedy = [all(greedy[edge] for edge in reply.tolist()) for reply in edges]
            counts = [len(reply) for reply in edges]
            if isinstance(request, RollingRequest):
                results.append(ScoreResult((sum(sums),), (sum(counts),), (all(all_greedy),), 0))
            else:
                results.append(ScoreResult(tuple(sums), tuple(counts), tuple(all_greedy), len(own[0].prompt), own[0].merged))
        return results
