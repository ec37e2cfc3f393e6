"""Wings as a model to evaluate: chats in, log-probabilities and replies out. Without learners the same class is the LLaVA-style rival."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from iit_bench.images import decode, of_item
from iit_bench.models.contract import Capabilities, GenerateRequest, GenerateResult, Model, ModelInfo, ScoreRequest, ScoreResult
from iit_bench.models.raw_text import RawText, until_end
from iit_bench.models.scoring import pad_left, pad_right, score_prefixed
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.encoding import EncodedChat, make_encoder
from iit_bench.models.wings.modeling import WingsForConditionalGeneration
from iit_bench.models.wings.released.scripts import SCRIPTS
from iit_bench.models.wings.vision import preprocess
from iit_bench.types import Image

FEATURE_BYTES = 256 * 2**20  # tower features kept between batches


class WingsModel(RawText, Model):
    """One loaded model. Each prompt is encoded once for all its replies, each image once for all prompts."""

    def __init__(self, model: WingsForConditionalGeneration, tokenizer: Any, info: ModelInfo) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.info = info
        why_not = {} if info.accepts_images else {"takes_images": "the checkpoint has no vision tower"}
        self.capabilities = Capabilities(takes_images=info.accepts_images, takes_raw_text=True, why_not=why_not)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
        mark = model.config.image_token_id
        self.placeholder = str(tokenizer.convert_ids_to_tokens(mark)) if mark >= 0 else ""  # the released code's slot is no token
        self._chats = make_encoder(tokenizer, model.config)
        self._features: OrderedDict[str, torch.Tensor] = OrderedDict()  # sha256 of an image -> tower features [T, D_v]
        self._readable: set[str] = set()

    def request_tokens(self, request: ScoreRequest | GenerateRequest) -> int:
        if isinstance(request, GenerateRequest):
            chat, reply = self._chats.encode(request.messages), request.max_new_tokens
        else:
            chat = self._chats.encode(request.messages, request.continuations)
            reply = max(map(len, chat.replies))
        self._check_images(chat.images)
        return len(chat.ids) + reply

    # ------------------------------------------------------------ scoring

    @torch.inference_mode()
    def score(self, batch: Sequence[ScoreRequest]) -> list[ScoreResult]:
        chats = [self._chats.encode(request.messages, request.continuations) for request in batch]
        return score_prefixed(self, chats, [len(chat.ids) for chat in chats], [chat.replies for chat in chats])

    def prefill(self, prompts: Sequence[EncodedChat]) -> tuple[torch.Tensor, Any]:
        """`scoring.PrefixScorer`: the state is the prompts' cache, which knows their padding."""
        ids, mask = pad_left([chat.ids for chat in prompts], self.pad, self.info.device)
        features = self._look([image for chat in prompts for image in chat.images])
        output = self.model(ids, attention_mask=mask, image_features=features, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1], output.past_key_values

    def extend(self, state: Any, rows: Sequence[int], tokens: Sequence[list[int]]) -> torch.Tensor:
        """All replies of a prompt lie side by side in its row, as branches, so its cache is read and not copied."""
        prompts = sorted(set(rows))
        side_by_side: list[list[int]] = [[] for _ in prompts]
        branch: list[list[int]] = [[] for _ in prompts]
        places = []  # of every reply: row and first column
        for number, (row, reply) in enumerate(zip(rows, tokens, strict=True)):
            at = prompts.index(row)
            places.append((at, len(side_by_side[at])))
            side_by_side[at] += reply
            branch[at] += [number] * len(reply)
        ids, mask = pad_right(side_by_side, self.pad, self.info.device)
        branches, _ = pad_right(branch, -1, self.info.device)
        chosen = torch.tensor(prompts, device=ids.device)
        cache = state if len(prompts) == state.rows.length.shape[0] else state.select(chosen)
        logits = self.model(ids, attention_mask=mask, branches=branches, past_key_values=cache).logits
        found = [logits[at, start : start + len(reply)] for (at, start), reply in zip(places, tokens, strict=True)]
        return torch.nn.utils.rnn.pad_sequence(found, batch_first=True)

    # ------------------------------------------------------------ generating

    @torch.inference_mode()
    def generate(self, batch: Sequence[GenerateRequest]) -> list[GenerateResult]:
        chats = [self._chats.encode(request.messages) for request in batch]
        results = []
        for request, chat, row in zip(batch, chats, self.continue_tokens(chats, max(r.max_new_tokens for r in batch)), strict=True):
            reply = row[: request.max_new_tokens]
            text = str(self.tokenizer.decode(reply, skip_special_tokens=True)).strip()
            results.append(GenerateResult(text, len(chat.ids), len(reply)))
        return results

    def text_prompt(self, tokens: list[int]) -> EncodedChat:
        """A raw text, for `models.text`."""
        return EncodedChat(tokens, [], ())

    def continue_tokens(self, prompts: Sequence[EncodedChat], max_new_tokens: int, **settings: Any) -> list[list[int]]:
        """Greedy unless `settings` (of transformers' `generate`) say otherwise; up to the end of the turn, which is left out."""
        ids, mask = pad_left([chat.ids for chat in prompts], self.pad, self.info.device)
        ends, mark = self._ends(), self.model.config.image_token_id
        output = self.model.generate(
            ids,
            attention_mask=mask,
            image_features=self._look([image for chat in prompts for image in chat.images]),
            max_new_tokens=max_new_tokens,
            suppress_tokens=[mark] if mark >= 0 else None,  # a placeholder without an image cannot be read on
            pad_token_id=self.pad,
            eos_token_id=sorted(ends) or None,
            **({"do_sample": False, "num_beams": 1} | settings),
        )
        return [until_end(row, ends) for row in output[:, ids.shape[1] :].tolist()]

    def _ends(self) -> set[int]:
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

    def _look(self, images: Sequence[Image]) -> torch.Tensor | None:
        """Tower features [n, T, D_v] of images in order. Each goes through the tower alone, so they do not depend on its company."""
        if not images:
            return None
        found = []
        for image in images:
            features = self._features.pop(image.sha256, None)
            if features is None:
                pixels = _pixels(image, self.model.config).unsqueeze(0).to(self.info.device)
                features = self.model.encode_images(pixels)[0]
            self._features[image.sha256] = features  # most recent last
            found.append(features)
        limit = max(1, FEATURE_BYTES // (found[0].numel() * found[0].element_size()))
        while len(self._features) > limit:
            self._features.popitem(last=False)
        return torch.stack(found)


def _pixels(image: Image, config: WingsConfig) -> torch.Tensor:
    with of_item(image):
        return preprocess(decode(image.data, config.max_image_pixels), config)
