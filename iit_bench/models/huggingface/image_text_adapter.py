"""Any AutoModelForImageTextToText of transformers with its own processor: interleaved images.

Each image goes through processor and tower once (`image_chats`), and chats through the model as rows of a tree (`image_trees`), where the
checks at load find that right for the model; else chat by chat, since processors lay out images in too many ways to pad several chats
together safely, every reply in one piece with its prompt.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from PIL import Image as PillowImage

from iit_bench.errors import ItemError, one_line
from iit_bench.images import decode_item
from iit_bench.models.contract import (
    Capabilities,
    GenerateRequest,
    GenerateResult,
    ModelInfo,
    RenderedPrompt,
    ScoreRequest,
    ScoreResult,
    TextGenerateRequest,
)
from iit_bench.models.devices import device_of
from iit_bench.models.huggingface import attention_probe
from iit_bench.models.huggingface.chat_rows import SHARING, Chat, ChatRows
from iit_bench.models.huggingface.encoding import InputMaker, Inputs, images_of, render_images
from iit_bench.models.huggingface.feature_folder import FeatureFolder
from iit_bench.models.huggingface.generation import greedy_settings
from iit_bench.models.huggingface.image_chats import ImageChats, find_chats, probe_messages
from iit_bench.models.huggingface.image_parts import ImagePart
from iit_bench.models.huggingface.image_prompts import CachedPrompt, LastPrompt
from iit_bench.models.huggingface.image_trees import ImageTrees
from iit_bench.models.huggingface.processors import one_question
from iit_bench.models.huggingface.rows import FAILS, Rows, Scoring, agree, rope_border, tolerance
from iit_bench.models.huggingface.tower_memory import TowerMemory, find_tower
from iit_bench.models.reasoning import read_reply, reasoning_of, reply_limit
from iit_bench.models.rendering import RenderedChats, encode_prompt, image_marks, render_prompt, turns_of_parts, with_places
from iit_bench.models.replies import EncodedReplies, encode_replies, learn_delimiter
from iit_bench.models.scoring import PrefixScorer, score_prefixed, score_single_rows
from iit_bench.models.special_tokens import TokenIds, pad_token
from iit_bench.models.tree_scoring import TreeScoring
from iit_bench.models.words import words_of
from iit_bench.token_trees import TokenPath, TreeRow, build_row, symbols
from iit_bench.types import AttentionCurves, Image, Message

PLAIN = "--engine plain"
PROBE_REPLIES = ("red", "a blue square")


class ImageTextModel(TreeScoring):
    """A multimodal model behind its own processor."""

    capabilities = Capabilities(takes_raw_text=True, shows_attention=True)
    prompts_at_once = 1
    reads_alone = True

    def __init__(
        self,
        model: Any,
        processor: Any,
        info: ModelInfo,
        way: Literal["auto", "plain"] = "auto",
        folder: FeatureFolder | None = None,
    ) -> None:
        self.model, self.processor = model, processor
        self.tokenizer = processor.tokenizer
        self.reasoning = reasoning_of(processor)
        has_chats = processor.chat_template != one_question(processor)
        why_not = {} if has_chats else {"takes_histories": "it has no chats and answers one question"}
        self.capabilities = replace(type(self).capabilities, reasons=self.reasoning.expected, takes_histories=has_chats, why_not=why_not)
        self.placeholder = str(getattr(processor, "image_token", None) or "")
        self.token_ids = TokenIds(model, self.tokenizer)
        self.words = words_of(processor, self.token_ids)
        self._texts = RenderedChats()
        self.inputs = InputMaker(processor, model, self.words)
        self._delimiter = learn_delimiter(processor, turns_of_parts)
        self._border = rope_border(model.config.get_text_config())
        self.chats: ImageChats | None = None
        self.trees: ImageTrees | None = None
        self.tower: TowerMemory | None = None  # of models that take no features
        self._last: LastPrompt | None = None  # not before the checks, which ask equal chats in other ways
        self.replies: PrefixScorer = self  # how replies are scored where there is no tree: in one piece with their prompts
        self.rows = Rows(refused={"tree": PLAIN}, scoring="single rows", border=self._border)
        probes = self._probes()
        details = {"images": {"way": "with every chat", "why": PLAIN} if way == "plain" else self._find_ways(*probes)}
        self.way = self.rows.way
        self.chat_rows = ChatRows(model, processor, self.inputs, self._chat, self.chats, self._switches, way)
        self.ways = {"images": str(details["images"]["way"]), "scoring": self.rows.scoring} | self.chat_rows.ways()
        rows = {name: value for name, value in self.rows.details()["rows"].items() if name != "generating"}  # `chat_rows` has it
        details |= self.chat_rows.details() | {"rows": rows}
        info = replace(info, details={**info.details, **details})
        self.info = info.with_settings(**self._delimiter.settings())
        self._last = LastPrompt()
        if self.chats:
            self.chats.features.folder = folder  # not before: images of the checks are no one's

    # ------------------------------------------------------------ what is right for this model

    @torch.inference_mode()
    def _probes(self) -> tuple[list[ScoreRequest], list[ScoreResult]]:
        """Some chats, and their replies' scores by whole passes over the processor's inputs.

        Raises:
            ValueError: all scores of a chat are no finite numbers.
        """
        requests, right = [], []
        for messages in probe_messages():
            request = ScoreRequest(messages, PROBE_REPLIES)
            try:
                right.append(self._score(request))
            except ItemError:  # the template takes no such chat
                continue
            requests.append(request)
        if not all(any(map(math.isfinite, one.logprobs)) for one in right):
            raise ValueError("no score of a chat is a finite number, so a number in its files is damaged, or --dtype too narrow for it")
        return requests, right

    @torch.inference_mode()
    def _find_ways(self, requests: Sequence[ScoreRequest], right: Sequence[ScoreResult]) -> dict[str, Any]:
        """Choose how images and chats are read, by comparison with whole passes; returns what is recorded."""
        found = find_chats(self.inputs, self.processor, self.words)
        self.chats, why = (None, found) if isinstance(found, str) else (found, "")
        images = (
            self.chats.record() if self.chats else {"way": "with every chat", "why": why, "tower": self._tower_remembers(requests, right)}
        )
        no_tree = self._why_no_trees(requests, right)
        self.replies = CachedPrompt(self.model, self.inputs, pad_token(self.tokenizer, self.model), whole=self)
        if no_cache := self._why_not(lambda: [self._score(request).logprobs for request in requests], right):
            self.replies = self
        refused = {name: reason for name, reason in (("tree", no_tree), ("cache", no_cache)) if reason}
        scoring: Scoring = "single rows" if no_cache else "cache"
        self.rows = Rows(way="plain" if no_tree else "tree", refused=refused, scoring=scoring, border=self._border)
        return images

    def _tower_remembers(self, requests: Sequence[ScoreRequest], right: Sequence[ScoreResult]) -> str:
        """What the tower of a model that takes no features reads once, where that is right: "each image" or "each set of images"."""
        self.tower = find_tower(self.model)
        if self.tower is None:
            return "with every chat"
        for axis, what in ((self.tower.axis, "each image"), (None, "each set of images")):
            self.tower.axis = axis
            if not self._why_not(lambda: [self._score(request).logprobs for request in requests], right):
                return what
        self.tower.remove()
        return "with every chat"

    def _why_no_trees(self, requests: Sequence[ScoreRequest], right: Sequence[ScoreResult]) -> str:
        """Why rows of a tree are not right for this model; "" where they are, with `trees` set."""
        if self.chats is None or self.chats.whole:
            return "chats are not put together from tokens of their images"
        trees = ImageTrees(self.model, self.chats, str(device_of(self.model)))

        def scores() -> list[list[float]]:
            paths = [self._path(trees, request) for request in requests]
            row = build_row(paths)
            logprobs, _ = trees.run(row, paths)
            return [[sum(logprobs[edge] for edge in reply) for reply in edges] for edges in row.edges]

        why = trees.refused() or self._why_not(scores, right)
        self.trees = None if why else trees
        return why

    def _why_not(self, scores: Callable[[], Sequence[Sequence[float]]], right: Sequence[ScoreResult]) -> str:
        """Why these scores of the check are not right; "" where they are."""
        try:
            same = agree(scores(), [one.logprobs for one in right], [one.tokens for one in right], tolerance(self.model.dtype))
        except (*FAILS, ItemError) as error:
            return f"the check at load fails: {one_line(error)}"
        return "" if same else "scores differ from those of whole passes in the check at load"

    # ------------------------------------------------------------ prompts

    def render(self, messages: Sequence[Message]) -> tuple[str, list[PillowImage.Image]]:
        """The chat as the processor's template writes it, names of special tokens in its words replaced (`words.Words`); and its images.

        Raises:
            ItemError: the template refuses the chat, or an image is unreadable.
        """
        return render_images(self.processor, messages, self.words)

    def _encode(self, request: ScoreRequest) -> tuple[Inputs, EncodedReplies]:
        """The inputs of a chat up to where its replies begin, and the replies' tokens.

        Image tokens come before replies, so the text without them cuts replies as well. A processor that takes a suffix encodes it apart.
        """
        if self.chats and not self.chats.whole:
            encoded, parts = self._cut(self.chats, request)
            return self.chats.of_tokens(encoded.prompt, parts), encoded
        text = self._text(request.messages)
        if self.inputs.has_suffix:
            replies = [self._suffix(reply) for reply in request.continuations]
            return self._make(text, request.messages), EncodedReplies(text=text, prompt=[], replies=replies)
        encoded = encode_replies(self.words, self._delimiter.context(text), list(map(self.words.hide, request.continuations)))
        return self._make(encoded.text, request.messages), encoded

    def _cut(self, chats: ImageChats, request: ScoreRequest) -> tuple[EncodedReplies, list[ImagePart]]:
        """A chat in tokens with a mark per image and the replies to it; and its images."""
        parts = chats.parts.of(images_of(request.messages))
        context = self._delimiter.context(chats.parts.text(self._text(request.messages), parts))
        return encode_replies(self.words, context, list(map(self.words.hide, request.continuations))), parts

    def _text(self, messages: Sequence[Message]) -> str:
        return self._texts.text(tuple(messages), lambda: render_prompt(self.processor, turns_of_parts(self.words.hide_in(messages))))

    def rendered(self, request: ScoreRequest | GenerateRequest) -> RenderedPrompt:
        """As `contract.Model.rendered`."""
        text = self._text(request.messages)
        text = text if isinstance(request, GenerateRequest) else self._delimiter.context(text)
        return with_places(text, image_marks(self.processor), len(images_of(request.messages)), self.words.show)

    def _make(self, text: str, messages: Sequence[Message]) -> Inputs:
        """Inputs of a rendered chat."""
        images = images_of(messages)
        return self.chats.make(text, images) if self.chats else self.inputs.make(text, list(map(decode_item, images)))

    def _chat(self, text: str, images: Sequence[Image]) -> Chat:
        """A rendered chat for `chat_rows`."""
        if self.chats:
            return Chat(*self.chats.without_features(text, images))
        return Chat(self.inputs.make(text, list(map(decode_item, images))))

    def _suffix(self, reply: str) -> list[int]:
        tokens = self.words.encode(self.words.hide(reply), add_special_tokens=False)
        if not tokens:
            raise ItemError("reply without tokens", repr(reply))
        return tokens

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        if isinstance(request, GenerateRequest):
            return self._prompt_tokens(request) + request.longest
        if self.chats and not self.chats.whole:
            encoded, parts = self._cut(self.chats, request)
            return len(self.chats.filled(encoded.prompt, parts)) + max(map(len, encoded.replies))
        inputs, encoded = self._encode(request)
        return int(inputs["input_ids"].shape[1] + max(map(len, encoded.replies)))

    def _prompt_tokens(self, request: GenerateRequest) -> int:
        if not self.chats or self.chats.whole:
            return int(self.inputs.make(*self.render(request.messages))["input_ids"].shape[1])
        parts = self.chats.parts.of(images_of(request.messages))
        tokens = encode_prompt(self.words, self.chats.parts.text(self._text(request.messages), parts))
        return len(self.chats.filled(tokens, parts))

    def observe_attention(self, request: GenerateRequest) -> AttentionCurves:
        """As `contract.Model.observe_attention`."""
        return attention_probe.observe(self.model, self._make(self._text(request.messages), request.messages))

    # ------------------------------------------------------------ scoring

    def chat_path(self, request: ScoreRequest) -> TokenPath:
        """As `TreeScoring.chat_path`."""
        assert self.trees is not None, "asked of models whose way is a tree"
        return self._path(self.trees, request)

    def _path(self, trees: ImageTrees, request: ScoreRequest) -> TokenPath:
        encoded, parts = self._cut(trees.chats, request)
        return trees.path(encoded.prompt, parts, encoded.replies, encoded.merged)

    def fits_tree(self, path: TokenPath) -> bool:
        """As `TreeScoring.fits_tree`: not where a longer row has other rotary frequencies."""
        return not self._switches(path.longest)

    def run_row(self, row: TreeRow, paths: Sequence[TokenPath]) -> tuple[list[float], list[bool]]:
        """As `TreeScoring.run_row`."""
        assert self.trees is not None, "asked of models whose way is a tree"
        return self.trees.run(row, paths)

    @torch.inference_mode()
    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        return [self._score(request) for request in batch]

    def _score(self, request: ScoreRequest) -> ScoreResult:
        inputs, encoded = self._encode(request)
        return self.score_tokens([inputs], [inputs["input_ids"].shape[1]], [encoded.replies], [encoded.merged])[0]

    def score_tokens(
        self, prompts: Sequence[Inputs], prompt_tokens: Sequence[int], replies: Sequence[Sequence[list[int]]], merged: Sequence[int] = ()
    ) -> list[ScoreResult]:
        """As `raw_text.RawText.score_tokens`, for one chat; each reply in one piece with it where the row's length changes its scores."""
        length = prompts[0]["input_ids"].shape[1]
        if not self._switches(length + max(map(len, replies[0]))):
            scorer = self._last.of(self.replies) if self._last else self.replies
            return score_prefixed(scorer, prompts, prompt_tokens, replies, merged)

        def row_logits(row: list[int], last: int) -> torch.Tensor:
            logits: torch.Tensor = self.model(**self.inputs.append(prompts[0], row[length:]), use_cache=False).logits[0, -last:]
            self._forget_length(len(row))
            return logits

        return score_single_rows(row_logits, [prompts[0]["input_ids"][0].tolist()], replies, merged, whole=True)

    def _switches(self, length: int) -> bool:
        """Whether a row of so many tokens has other rotary frequencies than a short one."""
        return self._border is not None and length > self._border

    def _forget_length(self, length: int) -> None:
        """As in `TokenRows`."""
        if self._switches(length):
            self.model(**self.inputs.of_text([pad_token(self.tokenizer, self.model)]), use_cache=False)

    def prefill(self, prompts: Sequence[Inputs]) -> tuple[torch.Tensor, Any]:
        """`scoring.PrefixScorer` for one chat: the state is its inputs."""
        return self.model(**prompts[0], use_cache=False).logits[:, -1], prompts[0]

    def extend(self, state: Inputs, rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        """`scoring.PrefixScorer`: each reply in one piece with its chat."""
        length = state["input_ids"].shape[1]
        logits = [self.model(**self.inputs.append(state, reply), use_cache=False).logits[0, length:] for reply in tokens]
        return torch.nn.utils.rnn.pad_sequence(logits, batch_first=True)

    def prompt(self, request: GenerateRequest | TextGenerateRequest) -> array[int]:
        """As `contract.Model.prompt`."""
        if SHARING in self.chat_rows.refused:
            return symbols(())
        if isinstance(request, TextGenerateRequest):
            return self.chat_rows.symbols(Chat(self.text_prompt(self.cut_prompt(request))))
        return self.chat_rows.symbols(self._chat(self._text(request.messages), images_of(request.messages)))

    @torch.inference_mode()
    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        texts = [self._text(request.messages) for request in batch]
        chats = [self._chat(text, images_of(request.messages)) for text, request in zip(texts, batch, strict=True)]
        results: dict[int, GenerateResult] = {}
        for part in self.chat_rows.parts(chats, max(request.longest for request in batch)):
            requests = [batch[i] for i in part]
            how = greedy_settings(self.model) | reply_limit(self.tokenizer, requests, [texts[i] for i in part], self.reasoning)
            rows = self._continue([chats[i] for i in part], max(request.longest for request in requests), **how)
            for i, row in zip(part, rows, strict=True):
                results[i] = read_reply(
                    self.tokenizer, row, batch[i], prompt=texts[i], prompt_tokens=chats[i].length, reasoning=self.reasoning
                )
        return [results[i] for i in range(len(batch))]

    def text_prompt(self, tokens: list[int]) -> Inputs:
        """A raw text as `prefill` and `continue_tokens` take it."""
        return self.inputs.of_text(tokens)

    def generated_at_once(self, prompts: Sequence[list[int]], max_new_tokens: int) -> int:
        """As `raw_text.RawText.generated_at_once`."""
        return len(prompts) if self.chat_rows.pads(max(map(len, prompts)) + max_new_tokens) else 1

    def continue_tokens(self, prompts: Sequence[Inputs], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """As `ChatRows.continued`, after raw texts."""
        return self._continue([Chat(prompt) for prompt in prompts], max_new_tokens, **settings)

    def _continue(self, chats: Sequence[Chat], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        rows = self.chat_rows.continued(chats, max_new_tokens, **settings)
        self._forget_length(max(chat.length for chat in chats) + max_new_tokens)
        return rows
