"""Wings behind the model contract: log-probabilities and replies to chats. Without learners the same class is the LLaVA-style rival."""

from __future__ import annotations

import contextlib
from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from iit_bench.errors import ItemError
from iit_bench.images import of_item, opened
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
from iit_bench.models.huggingface.begun_rows import decodes_plainly, widest_row
from iit_bench.models.huggingface.feature_folder import FeatureFolder
from iit_bench.models.huggingface.image_chats import probe_messages
from iit_bench.models.raw_text import until_end
from iit_bench.models.reasoning import Reasoning, read_reply, reasoning_of, reply_limit
from iit_bench.models.scoring import pad_left, pad_right, score_prefixed
from iit_bench.models.special_tokens import TokenIds, pad_token
from iit_bench.models.tree_scoring import TreeScoring
from iit_bench.models.wings.attention_probe import observe
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.encoding import EncodedChat, make_encoder
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.models.wings.released.scripts import SCRIPTS
from iit_bench.models.wings.trees import WingsTrees, why_no_tree
from iit_bench.models.wings.vision import preprocess
from iit_bench.shared_beginnings import Cuts, cut_beginnings, worth_cutting
from iit_bench.token_trees import TokenPath, TreeRow, symbols
from iit_bench.types import AttentionCurves, Image, Message

FEATURE_BYTES = 256 * 2**20  # tower features kept between batches
ENDING = 32  # tokens at a prompt's end that may spell the mark which opens reasoning


class WingsModel(TreeScoring):
    """One loaded model. Each prompt is encoded once for all its replies, each image once for all prompts."""

    def __init__(
        self,
        model: WingsForConditionalGeneration,
        tokenizer: Any,
        info: ModelInfo,
        way: Literal["auto", "plain"] = "auto",
        image_folder: FeatureFolder | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        why_not = {} if info.accepts_images else {"takes_images": "the checkpoint has no vision tower"}
        self.reasoning = reasoning_of(tokenizer) if model.config.conversation is None else Reasoning()
        self.capabilities = Capabilities(
            takes_images=info.accepts_images, takes_raw_text=True, reasons=self.reasoning.expected, shows_attention=True, why_not=why_not
        )
        self.pad_token_id = pad_token(tokenizer, model)
        image_token_id = model.config.image_token_id
        # The released code's slot is not a token.
        self.placeholder = str(tokenizer.convert_ids_to_tokens(image_token_id)) if image_token_id >= 0 else ""
        self.token_ids = TokenIds(model, tokenizer, marks=(image_token_id,))
        self.encoder = make_encoder(tokenizer, model.config, self.token_ids)
        self.info = info.with_settings(**self.encoder.delimiter.settings())
        self._features: OrderedDict[str, torch.Tensor] = OrderedDict()  # sha256 of an image -> tower features [T, D_v]
        self._image_folder: FeatureFolder | None = None  # not before the check: its image is no one's
        self._readable: set[str] = set()
        self.trees = WingsTrees(self.model, info.device, self._image_features)
        no_tree = "--engine plain" if way == "plain" else why_no_tree(self.trees, tokenizer, info.max_context)
        self.way = "plain" if no_tree else "tree"
        why = "--engine plain" if way == "plain" else "" if model.config.mode == "strict" else f"mode {model.config.mode!r}"
        self.shares_beginnings = not why
        self.ways = {"beginnings": "once" if self.shares_beginnings else "with each prompt"}
        refused = {"shares_beginnings": why} if why else {}
        generation = {"together": "any", "shares_beginnings": self.shares_beginnings, "refused": refused}
        window = widest_row(model.config.text_config)
        limits = (info.max_context, window and window - model.config.prefix_length)  # of columns, padding in the middle included
        self._widest_begun = min((limit for limit in limits if limit), default=2**62)
        details = {"generation": generation, "rows": {"way": self.way} | ({"refused": {"tree": no_tree}} if no_tree else {})}
        self.info = replace(self.info, details={**self.info.details, **details})
        self._try_a_chat()
        self._image_folder = image_folder

    def _try_a_chat(self) -> None:
        """Ask for a reply's scores, with an image where the model takes them, so that files that do not go together end at load.

        Raises:
            Exception: what a pass raises.
        """
        image = (probe_messages()[0][0].images[0],) if self.capabilities.takes_images else ()
        request = ScoreRequest((Message("user", (*image, "yes or no?")),), ("yes", "no"))
        with contextlib.suppress(ItemError):  # a template that takes no such chat
            if self.info.max_context is None or self.request_tokens(request) <= self.info.max_context:
                self.score([request])
        self._features.clear()

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        if isinstance(request, GenerateRequest):
            chat, reply = self.encoder.encode(request.messages), request.longest
        else:
            chat = self.encoder.encode(request.messages, request.continuations)
            reply = max(map(len, chat.replies))
        self._check_images(chat.images)
        return len(chat.input_ids) + reply

    def observe_attention(self, request: GenerateRequest) -> AttentionCurves:
        """As `contract.Model.observe_attention`."""
        chat = self.encoder.encode(request.messages)
        features = self._image_features(chat.images)
        return observe(self.model, torch.tensor([chat.input_ids], device=self.info.device), features)

    def rendered(self, request: ScoreRequest | GenerateRequest) -> RenderedPrompt:
        """As `contract.Model.rendered`."""
        return self.encoder.rendered(request.messages, request.continuations if isinstance(request, ScoreRequest) else ())

    # ------------------------------------------------------------ scoring

    def chat_path(self, request: ScoreRequest) -> TokenPath:
        """As `TreeScoring.chat_path`."""
        chat = self.encoder.encode(request.messages, request.continuations)
        self._check_images(chat.images)
        return self.trees.path(chat)

    def run_row(self, row: TreeRow, paths: Sequence[TokenPath]) -> tuple[list[float], list[bool]]:
        """As `TreeScoring.run_row`."""
        return self.trees.run(row, paths)

    @torch.inference_mode()
    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        chats = [self.encoder.encode(request.messages, request.continuations) for request in batch]
        lengths, merged = [len(chat.input_ids) for chat in chats], [chat.merged for chat in chats]
        return score_prefixed(self, chats, lengths, [chat.replies for chat in chats], merged)

    def prefill(self, prompts: Sequence[EncodedChat]) -> tuple[torch.Tensor, Any]:
        """`scoring.PrefixScorer`: the state is the prompts' cache, which knows their padding."""
        input_ids, attention_mask = pad_left([chat.input_ids for chat in prompts], self.pad_token_id, self.info.device)
        features = self._image_features([image for chat in prompts for image in chat.images])
        output = self.model(input_ids, attention_mask=attention_mask, image_features=features, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1], output.past_key_values

    def extend(self, state: Any, rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        """`scoring.PrefixScorer`: all replies to a prompt are side by side in its row, as branches, so its cache is read and not copied."""
        prompts = sorted(set(rows))
        side_by_side: list[list[int]] = [[] for _ in prompts]
        ends_of: list[list[int]] = [[] for _ in prompts]
        places = []  # of every reply: row and first column
        for row, reply in zip(rows, tokens, strict=True):
            at = prompts.index(row)
            places.append((at, len(side_by_side[at])))
            side_by_side[at] += reply
            ends_of[at] += [len(side_by_side[at])] * len(reply)
        input_ids, attention_mask = pad_right(side_by_side, self.pad_token_id, self.info.device)
        ends, _ = pad_right(ends_of, 0, self.info.device)
        chosen = torch.tensor(prompts, device=input_ids.device)
        cache = state if len(prompts) == state.row_state.length.shape[0] else state.select(chosen)
        logits = self.model(input_ids, attention_mask=attention_mask, ends=ends, past_key_values=cache).logits
        of_replies = [logits[at, start : start + len(reply)] for (at, start), reply in zip(places, tokens, strict=True)]
        return torch.nn.utils.rnn.pad_sequence(of_replies, batch_first=True)

    # ------------------------------------------------------------ generating

    @torch.inference_mode()
    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        chats = [self.encoder.encode(request.messages) for request in batch]
        prompts = [str(self.tokenizer.decode([token for token in chat.input_ids[-ENDING:] if token >= 0])) for chat in chats]
        limit = reply_limit(self.tokenizer, batch, prompts, self.reasoning)
        rows = self.continue_tokens(chats, max(request.longest for request in batch), **limit)
        return [
            read_reply(self.tokenizer, row, request, prompt=prompt, prompt_tokens=len(chat.input_ids), reasoning=self.reasoning)
            for request, prompt, chat, row in zip(batch, prompts, chats, rows, strict=True)
        ]

    def prompt(self, request: GenerateRequest | TextGenerateRequest) -> array[int]:
        """As `contract.Model.prompt`."""
        if not self.shares_beginnings:
            return symbols(())
        if isinstance(request, TextGenerateRequest):
            return self.trees.path(self.text_prompt(self.cut_prompt(request))).prompt
        return self.trees.path(self.encoder.encode(request.messages)).prompt

    def text_prompt(self, tokens: list[int]) -> EncodedChat:
        """A raw text as a prompt, for `raw_text.RawText`."""
        return EncodedChat(input_ids=tokens)

    def continue_tokens(self, prompts: Sequence[EncodedChat], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """New tokens after each prompt up to the end of the turn, which is left out; greedy unless `settings` of `generate` differ."""
        ends, placeholder = self._end_token_ids(), self.model.config.image_token_id
        cuts = self._cuts(prompts, max_new_tokens, settings)
        inputs = self._begun(prompts, cuts) if cuts else self._whole(prompts)
        output = self.model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            suppress_tokens=[placeholder] if placeholder >= 0 else None,  # the next pass would refuse one without an image
            pad_token_id=self.pad_token_id,
            eos_token_id=sorted(ends) or None,
            **({"do_sample": False, "num_beams": 1} | settings),
        )
        return [until_end(row, ends) for row in output[:, inputs["input_ids"].shape[1] :].tolist()]

    def _whole(self, prompts: Sequence[EncodedChat]) -> dict[str, Any]:
        input_ids, attention_mask = pad_left([chat.input_ids for chat in prompts], self.pad_token_id, self.info.device)
        features = self._image_features([image for chat in prompts for image in chat.images])
        return {"input_ids": input_ids, "attention_mask": attention_mask, "image_features": features}

    def _cuts(self, prompts: Sequence[EncodedChat], max_new_tokens: int, settings: Mapping[str, Any]) -> Cuts | None:
        """Where prompts are cut, behind the images of each, if reading their beginnings once saves enough."""
        if not self.shares_beginnings or len(prompts) == 1 or not decodes_plainly(self.model, settings):
            return None
        own = [self.trees.path(chat).prompt for chat in prompts]
        cuts = cut_beginnings(own, [1 + max((i for i, symbol in enumerate(one) if symbol < 0), default=0) for one in own])
        lengths = list(map(len, own))
        if cuts is None or not worth_cutting(cuts, lengths):
            return None
        return cuts if cuts.whole(lengths) + max_new_tokens <= self._widest_begun else None

    def _begun(self, prompts: Sequence[EncodedChat], cuts: Cuts) -> dict[str, Any]:
        """Inputs of `generate` that continue a cache of the prompts' beginnings."""
        begun = [replace(prompts[i], input_ids=prompts[i].input_ids[:length]) for i, length in cuts.beginnings]
        _, cache = self.prefill(begun)
        rows = torch.tensor(cuts.rows, device=self.info.device)
        first, first_mask = pad_left([chat.input_ids for chat in begun], self.pad_token_id, self.info.device)
        rest, rest_mask = pad_left(
            [chat.input_ids[cuts.length(i) :] for i, chat in enumerate(prompts)], self.pad_token_id, self.info.device
        )
        return {
            "input_ids": torch.cat((first[rows], rest), dim=1),
            "attention_mask": torch.cat((first_mask[rows], rest_mask), dim=1),
            "past_key_values": cache.select(rows),
        }

    def _end_token_ids(self) -> set[int]:
        """Tokens that end a turn: those of the tokenizer, of the generation settings and of a released script."""
        ends = self.model.generation_config.eos_token_id
        own = [self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])]
        if self.model.config.conversation is not None:
            own += self.tokenizer.encode(SCRIPTS[self.model.config.conversation].end, add_special_tokens=False)[:1]
        return {end for end in own if end is not None}

    # ------------------------------------------------------------ images

    def _check_images(self, images: Sequence[Image]) -> None:
        for image in images:
            if image.sha256 not in self._readable:
                _pixels(image, self.model.config)
                self._readable.add(image.sha256)

    def _image_features(self, images: Sequence[Image]) -> torch.Tensor | None:
        """Tower features [n, T, D_v] of images in order; None without images.

        The tower encodes one image at a time, so an image's features do not depend on the others of its batch.
        """
        if not images:
            return None
        in_order = []
        for image in images:
            features = self._features.pop(image.sha256, None)
            if features is None:
                features = self._stored_features(image)
            self._features[image.sha256] = features  # most recent last
            in_order.append(features)
        limit = max(1, FEATURE_BYTES // (in_order[0].numel() * in_order[0].element_size()))
        while len(self._features) > limit:
            self._features.popitem(last=False)
        return torch.stack(in_order)

    def _stored_features(self, image: Image) -> torch.Tensor:
        """Tower features [T, D_v] of an image, from the folder of features if they are there; else they are put there."""
        stored = None if self._image_folder is None else self._image_folder.get(image.sha256)
        if stored is not None:
            return stored["features"].to(self.info.device)
        pixels = _pixels(image, self.model.config).unsqueeze(0).to(self.info.device)
        features = self.model.encode_images(pixels)[0]
        if self._image_folder is not None:
            self._image_folder.put(image.sha256, {"features": features.cpu()})
        return features


def _pixels(image: Image, config: WingsConfig) -> torch.Tensor:
    with of_item(image), opened(image.data, config.max_image_pixels, square=True) as picture:
        return preprocess(picture, config)
