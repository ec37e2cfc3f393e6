"""Rows of tokens through a causal language model of transformers: scored and continued in the way that `rows` finds right for it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from transformers import DynamicCache

from iit_bench.errors import one_line
from iit_bench.models.contract import ScoreResult
from iit_bench.models.huggingface.begun_rows import decodes_plainly, read_beginnings, widest_row
from iit_bench.models.huggingface.forked_cache import ForkedCache, Forks
from iit_bench.models.huggingface.generation import end_tokens, greedy_settings
from iit_bench.models.huggingface.rows import (
    FAILS,
    TOLERANCE_OF_FORKS,
    Generating,
    Rows,
    Scoring,
    agree,
    counts_columns,
    first_that_agrees,
    kinds_of_cache,
    nested_probe,
    probe_tokens,
    rope_border,
    scoring_by_cache,
    tolerance,
)
from iit_bench.models.huggingface.tree_rows import TreeRows
from iit_bench.models.raw_text import until_end
from iit_bench.models.scoring import pad_left, pad_right, score_prefixed, score_single_rows
from iit_bench.shared_beginnings import Cuts, cut_beginnings, worth_cutting
from iit_bench.token_trees import build_row, token_path

PROBE_TOKENS = 3  # generated in the check at load


class TokenRows:
    """A `scoring.PrefixScorer` of token rows, and their continuations. `rows` says how the model is asked; it is found out at the start."""

    def __init__(self, model: Any, tokenizer: Any, *, pad: int, device: str, way: Literal["auto", "plain"] = "auto") -> None:
        self.model, self.tokenizer, self.pad, self.device = model, tokenizer, pad, device
        accepted = inspect.signature(model.forward).parameters
        self._takes_positions, self._takes_logits_to_keep = "position_ids" in accepted, "logits_to_keep" in accepted
        self.rows = Rows()
        self.rows = self._find_rows()
        self.tree = TreeRows(model, device)
        no_tree = "--engine plain" if way == "plain" else self.tree.refused() or self._tree_differs()
        self.rows = replace(self.rows, way="plain" if no_tree else "tree", refused={"tree": no_tree} if no_tree else {})
        if way == "auto" and no_tree and self.rows.scoring != "cache":
            how: tuple[Forks, ...] = ("several tokens", "single tokens", "")
            self.rows = replace(self.rows, forks=cast(Forks, first_that_agrees(how, self._forks_rightly)))
        self._widest = widest_row(model.config.get_text_config())
        self.no_sharing = "--engine plain" if way == "plain" else self._sharing_differs()

    def generation_details(self) -> dict[str, Any]:
        """For `ModelInfo.details`: which prompts are continued together, whether what they begin with is read once, and why not."""
        together = "any" if self.rows.generating == "together" else "none"
        refused = {"shares_beginnings": self.no_sharing} if self.no_sharing else {}
        return {"generation": {"together": together, "shares_beginnings": not self.no_sharing, "refused": refused}}

    def ways(self) -> dict[str, str]:
        """For `Model.ways`."""
        found = {"scoring": self.rows.scoring, "forks": self.rows.forks, "generating": self.rows.generating}
        return found | {"beginnings": "with each prompt" if self.no_sharing else "once"}

    # ------------------------------------------------------------ what is right for this model

    @torch.inference_mode()
    def _find_rows(self) -> Rows:
        config = self.model.config.get_text_config()
        kinds, columns = self._kinds_of_cache(), counts_columns(config)
        allowed: Scoring = "single rows" if columns else scoring_by_cache(kinds)
        ways: tuple[Scoring, ...] = ("cache", "padded rows", "single rows")
        scoring = cast(Scoring, first_that_agrees(ways[ways.index(allowed) :], self._scores_rightly))
        how: tuple[Generating, ...] = ("together", "single", "without cache", "not")
        generating = cast(Generating, first_that_agrees(how[scoring == "single rows" :], self._generates_rightly))
        why = columns + (kinds if allowed == "single rows" else ()) + (("check at load",) if scoring != allowed else ())
        return Rows(scoring=scoring, generating=generating, border=rope_border(config), why=why)

    def _kinds_of_cache(self) -> tuple[str, ...]:
        prompts, _ = probe_tokens(self.tokenizer, self.model.get_input_embeddings().weight.shape[0])
        output = self.model(input_ids=torch.tensor([prompts[0]], device=self.device), use_cache=True)
        if output.logits.isnan().any():  # greedy decoding takes NaN for the most likely token
            raise ValueError("a logit is no number, so a number in its weights is damaged, or --dtype too narrow for it")
        return kinds_of_cache(getattr(output, "past_key_values", None))

    def _scores_rightly(self, way: str) -> bool:
        """Whether replies to prompts of unequal length get the scores of single rows."""
        prompts, replies = probe_tokens(self.tokenizer, self.model.get_input_embeddings().weight.shape[0])
        right = score_single_rows(self.row_logits, prompts, replies, whole=True)
        self.rows = replace(self.rows, scoring=cast(Scoring, way))
        found = score_prefixed(self, prompts, list(map(len, prompts)), replies)
        counts = [one.tokens for one in right]
        return agree([one.logprobs for one in found], [one.logprobs for one in right], counts, tolerance(self.model.dtype))

    @torch.inference_mode()
    def _forks_rightly(self, forks: str) -> bool:
        """Whether replies after a copy of their prompt's cache get the scores of single rows."""
        prompts, replies = nested_probe(self.tokenizer, self.model.get_input_embeddings().weight.shape[0])
        right = score_single_rows(self.row_logits, prompts, replies, whole=True)
        found = score_single_rows(ForkedCache(self.model, self.device, cast(Forks, forks)).row_logits, prompts, replies)
        within = TOLERANCE_OF_FORKS if self.model.dtype == torch.float32 else tolerance(self.model.dtype)
        return agree([one.logprobs for one in found], [one.logprobs for one in right], [one.tokens for one in right], within)

    @torch.inference_mode()
    def _tree_differs(self) -> str:
        """Why rows of a tree are not right: their scores are not those of single rows. "" where they are."""
        prompts, replies = nested_probe(self.tokenizer, self.model.get_input_embeddings().weight.shape[0])
        right = score_single_rows(self.row_logits, prompts, replies, whole=True)
        paths = [token_path(*pair) for pair in zip(prompts, replies, strict=True)]
        row = build_row(paths)
        try:
            logprobs, _ = self.tree.run(row)
        except FAILS as error:
            return f"a pass over a tree fails: {one_line(error)}"
        found = [[sum(logprobs[edge] for edge in reply) for reply in edges] for edges in row.edges]
        same = agree(found, [one.logprobs for one in right], [one.tokens for one in right], tolerance(self.model.dtype))
        return "" if same else "scores of a tree differ from those of single rows in the check at load"

    def _generates_rightly(self, way: str) -> bool:
        """Whether the logits of generated tokens are those of plain passes over the same rows."""
        prompts, _ = probe_tokens(self.tokenizer, self.model.get_input_embeddings().weight.shape[0])
        how = greedy_settings(self.model) | {"use_cache": way != "without cache", "return_dict_in_generate": True, "output_logits": True}
        parts = [prompts] if way == "together" else [[prompt] for prompt in prompts]
        return all(self._steps_agree(part, self._generate(part, PROBE_TOKENS, **how)) for part in parts)

    @torch.inference_mode()
    def _sharing_differs(self) -> str:
        """Why beginnings of prompts are not read once: generated tokens have other logits than in plain passes. "" where they have not."""
        if self.rows.generating != "together":
            return "prompts are continued one at a time"
        tokens = probe_tokens(self.tokenizer, self.model.get_input_embeddings().weight.shape[0])[0][0]
        prompts = [[*tokens[:7], *tokens[2:6]], [*tokens[:7], tokens[3]], tokens[4:9]]
        cuts = Cuts(beginnings=((0, 7), (2, 3)), rows=(0, 0, 1), positions=0)
        how = greedy_settings(self.model) | {"return_dict_in_generate": True, "output_logits": True}
        try:
            same = self._steps_agree(prompts, self._generate(prompts, PROBE_TOKENS, cuts, **how))
        except FAILS as error:
            return f"the check at load fails: {one_line(error)}"
        return "" if same else "logits of new tokens differ from those of plain passes in the check at load"

    def _steps_agree(self, prompts: Sequence[list[int]], output: Any) -> bool:
        ends = end_tokens(self.model, self.tokenizer)
        for index, prompt in enumerate(prompts):
            new = output.sequences[index, -len(output.logits) :].tolist()
            count = next((i + 1 for i, token in enumerate(new) if token in ends), len(new))
            plain = self.row_logits([*prompt, *new[:count]], count + 1)[:count].float().log_softmax(-1)
            steps = torch.stack([step[index] for step in output.logits[:count]]).float().log_softmax(-1)
            token = torch.tensor(new[:count], device=plain.device)[:, None]
            if not bool(((plain.gather(1, token) - steps.gather(1, token)).abs() <= tolerance(self.model.dtype)).all()):
                return False
        return True

    # ------------------------------------------------------------ scoring

    @torch.inference_mode()
    def score(self, prompts: Sequence[list[int]], replies: Sequence[Sequence[list[int]]], merged: Sequence[int] = ()) -> list[ScoreResult]:
        """As `scoring.score_prefixed`."""
        longest = max(len(prompt) + max(map(len, own)) for prompt, own in zip(prompts, replies, strict=True))
        switches = self.switches(longest)
        if self.rows.forks and not switches:
            return score_single_rows(ForkedCache(self.model, self.device, self.rows.forks).row_logits, prompts, replies, merged)
        if switches or self.rows.scoring == "single rows":
            return score_single_rows(self.row_logits, prompts, replies, merged, whole=switches)
        return score_prefixed(self, prompts, list(map(len, prompts)), replies, merged)

    def switches(self, length: int) -> bool:
        """Whether a row of so many tokens has other rotary frequencies than a short one."""
        return self.rows.border is not None and length > self.rows.border

    def row_logits(self, row: list[int], last: int) -> torch.Tensor:
        """Logits [last, V] of the last tokens of a row, as if it were all there is."""
        ids = torch.tensor([row], device=self.device)
        keep = {"logits_to_keep": last} if self._takes_logits_to_keep else {}
        logits: torch.Tensor = self.model(input_ids=ids, use_cache=False, **keep).logits[0, -last:]
        self._forget_length(len(row))
        return logits

    def _forget_length(self, length: int) -> None:
        """Rope type "dynamic" keeps the frequencies of the longest row so far; a pass over one token resets them."""
        if self.switches(length):
            self.model(input_ids=torch.tensor([[self.pad]], device=self.device), use_cache=False)

    def prefill(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, Any]:
        """`scoring.PrefixScorer`: the state is (prompts, attention mask, cache), the cache None where rows are padded instead."""
        ids, mask = pad_left(prompts, self.pad, self.device)
        keep = {"logits_to_keep": 1} if self._takes_logits_to_keep else {}
        cached = self.rows.scoring == "cache"
        output = self.model(input_ids=ids, attention_mask=mask, use_cache=cached, **self._positions(mask, ids.shape[1]), **keep)
        return output.logits[:, -1], (prompts, mask, output.past_key_values if cached else None)

    def extend(self, state: Any, rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        """`scoring.PrefixScorer`: a branch of the cache per reply, or prompt and reply in one piece."""
        prompts, mask, cache = state
        if cache is None:
            return self._whole([prompts[row] for row in rows], tokens)
        ids, token_mask = pad_right(tokens, self.pad, self.device)
        chosen = torch.tensor(rows, device=mask.device)
        whole = torch.cat((mask[chosen], token_mask), dim=1)
        branch = DynamicCache()
        for index, layer in enumerate(cache.layers):
            branch.update(layer.keys[chosen], layer.values[chosen], index)
        positions = self._positions(whole, ids.shape[1])
        logits: torch.Tensor = self.model(input_ids=ids, attention_mask=whole, past_key_values=branch, use_cache=True, **positions).logits
        return logits

    def _whole(self, prompts: Sequence[list[int]], tokens: Sequence[list[int]]) -> torch.Tensor:
        ids, mask = pad_right([[*prompt, *more] for prompt, more in zip(prompts, tokens, strict=True)], self.pad, self.device)
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False, **self._positions(mask, ids.shape[1])).logits
        width = max(map(len, tokens))
        start = torch.tensor([len(prompt) for prompt in prompts], device=logits.device)
        index = (start[:, None] + torch.arange(width, device=logits.device)).clamp(max=logits.shape[1] - 1)
        return logits.gather(1, index[:, :, None].expand(-1, -1, logits.shape[2]))

    def _positions(self, mask: torch.Tensor, count: int) -> dict[str, torch.Tensor]:
        """Positions of the last `count` columns: padding does not count."""
        if not self._takes_positions:
            return {}
        return {"position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -count:]}

    # ------------------------------------------------------------ generating

    def at_once(self, prompts: Sequence[list[int]], max_new_tokens: int) -> int:
        """Number of these prompts that may be continued together."""
        switches = self.switches(max(map(len, prompts)) + max_new_tokens)
        return len(prompts) if self.rows.generating == "together" and not switches else 1

    @torch.inference_mode()
    def continued(self, prompts: Sequence[list[int]], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """New tokens after each of at most `at_once` prompts, up to the end of the turn, which is left out.

        `settings` are arguments of transformers' `generate`; where they are silent, decoding is greedy but obeys the penalties of
        generation_config.json, as lm-eval's does.
        """
        length = max(map(len, prompts)) + max_new_tokens
        whole = {"use_cache": False} if self.rows.generating == "without cache" or self.switches(length) else {}
        cuts = self._cuts(prompts, max_new_tokens, settings)
        output = self._generate(prompts, max_new_tokens, cuts, **(settings | whole))
        self._forget_length(length)
        ends = end_tokens(self.model, self.tokenizer)
        width = cuts.whole(list(map(len, prompts))) if cuts else max(map(len, prompts))
        return [until_end(row, ends) for row in output[:, width:].tolist()]

    def _cuts(self, prompts: Sequence[list[int]], max_new_tokens: int, settings: Mapping[str, Any]) -> Cuts | None:
        """Where prompts are cut, if reading their beginnings once saves enough."""
        if self.no_sharing or len(prompts) == 1 or not decodes_plainly(self.model, settings):
            return None
        cuts, lengths = cut_beginnings(prompts), list(map(len, prompts))
        if cuts is None or not worth_cutting(cuts, lengths):
            return None
        return cuts if self._widest is None or cuts.whole(lengths) + max_new_tokens <= self._widest else None

    def _generate(self, prompts: Sequence[list[int]], max_new_tokens: int, cuts: Cuts | None = None, **settings: Any) -> Any:
        own: dict[str, Any] = {"pad_token_id": self.pad, "eos_token_id": end_tokens(self.model, self.tokenizer) or None}
        if cuts is None:
            ids, mask = pad_left(prompts, self.pad, self.device)
        else:
            begun, begun_mask = pad_left([prompts[i][:length] for i, length in cuts.beginnings], self.pad, self.device)
            rest, rest_mask = pad_left([prompt[cuts.length(i) :] for i, prompt in enumerate(prompts)], self.pad, self.device)
            rows = list(cuts.rows)
            cache = read_beginnings(self.model, {"input_ids": begun, "attention_mask": begun_mask}, rows, **own)
            ids, mask = torch.cat((begun[rows], rest), dim=1), torch.cat((begun_mask[rows], rest_mask), dim=1)
            own["past_key_values"] = cache
        how = {"do_sample": False, "num_beams": 1} | settings | own
        return self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max_new_tokens, **how)
