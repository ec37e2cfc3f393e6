"""From chats to token ids: the tokenizer's own template, images as placeholders, and no special token from within a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from iit_bench.errors import ItemError
from iit_bench.models.contract import RenderedPrompt
from iit_bench.models.rendering import TEMPLATE_REFUSED, RenderedChats, render_prompt, special_tokens_of, text_turns, with_places
from iit_bench.models.replies import Delimiter, EncodedReplies, cut_replies, learn_delimiter
from iit_bench.models.special_tokens import TokenIds
from iit_bench.models.wings.configuration import WingsConfig
from iit_bench.models.wings.released.scripts import IMAGE_MARK, SCRIPTS, Script, write_turns
from iit_bench.types import Image, Message

# Unicode's noncharacters: never in interchanged text, so one of them inside a special token's name breaks it.
GUARDS = [chr(code) for code in range(0xFDD0, 0xFDF0)]


@dataclass(frozen=True, kw_only=True)
class EncodedChat:
    """A chat in tokens.

    Attributes:
        input_ids: of the prompt, each image as T placeholders.
        replies: token ids of each.
        images: in reading order.
        merged: how many replies are tokenised by themselves (see `replies.cut_replies`).
    """

    input_ids: list[int]
    replies: list[list[int]] = field(default_factory=list)
    images: tuple[Image, ...] = ()
    merged: int = 0


class ChatEncoder:
    """Renders and tokenises chats for one tokenizer.

    Texts are untrusted: one that contains `<image>` or an end-of-turn mark must stay text. If a text contains the name of a special token,
    a guard character breaks the name before the template is applied. The rendered chat is then split at its intact special tokens, which
    are the template's own, and the pieces between them are encoded with the guard removed and special tokens switched off. A chat without
    such texts is encoded in one call.

    Args:
        tokenizer: with a chat template.
        image_token_id: the placeholder.
        image_token_length: placeholders per image.
        ids: that the model has; None where that is not asked.
    """

    def __init__(self, tokenizer: Any, image_token_id: int, image_token_length: int, ids: TokenIds | None = None) -> None:
        self.tokenizer, self.ids = tokenizer, ids
        self.image_token_id = image_token_id
        self.image_token = tokenizer.convert_ids_to_tokens(image_token_id) if image_token_id >= 0 else ""
        self.image_token_length = image_token_length
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._special = _any_of({*added, *tokenizer.all_special_tokens})
        self._chats = RenderedChats()
        self.delimiter = self._learn_delimiter()

    def _learn_delimiter(self) -> Delimiter:
        return learn_delimiter(self.tokenizer, text_turns)

    def encode(self, messages: Sequence[Message], continuations: Sequence[str] = ()) -> EncodedChat:
        """Token ids of a chat up to where the reply begins, and of each continuation, cut by `replies.cut_replies`.

        Raises:
            ItemError: the template refuses the chat or loses an image, a continuation has no token of its own, or the model has no such
                token.
        """
        guard = self._guard(messages, continuations)
        prompt = self._prompt(messages, guard)
        images = tuple(image for message in messages for image in message.images)

        def encode(text: str) -> list[int]:
            return self._tokens(text, guard)

        if continuations:
            context = self.delimiter.context(prompt)
            scored = cut_replies(encode, context, [self._guarded(text, guard) for text in continuations])
        else:
            scored = EncodedReplies(text=prompt, prompt=encode(prompt))
        ids = scored.prompt
        if self.ids is not None:
            self.ids.check(ids, *scored.replies)
        if ids.count(self.image_token_id) != len(images):
            raise ItemError(TEMPLATE_REFUSED, f"it renders {ids.count(self.image_token_id)} of {len(images)} images")
        expanded = [copy for token in ids for copy in [token] * (self.image_token_length if token == self.image_token_id else 1)]
        return EncodedChat(input_ids=expanded, replies=scored.replies, images=images, merged=scored.merged)

    def rendered(self, messages: Sequence[Message], continuations: Sequence[str] = ()) -> RenderedPrompt:
        """A chat as text, up to where the reply begins.

        Raises:
            ItemError: the template refuses the chat.
        """
        guard = self._guard(messages, continuations)
        text = self._prompt(messages, guard)
        images = sum(len(message.images) for message in messages)
        context = self.delimiter.context(text) if continuations else text
        return with_places(context, [self.image_token], images, lambda piece: piece.replace(guard, ""))

    def _guard(self, messages: Sequence[Message], continuations: Sequence[str]) -> str:
        texts = [part for message in messages for part in message.parts if isinstance(part, str)]
        return next(char for char in GUARDS if not any(char in text for text in (*texts, *continuations)))

    def _prompt(self, messages: Sequence[Message], guard: str) -> str:
        return self._chats.text((guard, *messages), lambda: self._render(messages, guard))

    def _render(self, messages: Sequence[Message], guard: str) -> str:
        chat = [{"role": message.role, "content": self._content(message, guard)} for message in messages]
        return render_prompt(self.tokenizer, chat)

    def _content(self, message: Message, guard: str) -> str:
        pieces, text = [], ""
        for part in message.parts:  # neighbouring texts are guarded together: they could spell a name only jointly
            if isinstance(part, str):
                text += part
            else:
                pieces += [self._guarded(text, guard), self.image_token]
                text = ""
        return "".join((*pieces, self._guarded(text, guard)))

    def _guarded(self, text: str, guard: str) -> str:
        """The text with every special token's name broken."""
        return self._special.sub(lambda name: name[0][0] + guard + name[0][1:], text)

    def _tokens(self, text: str, guard: str) -> list[int]:
        whole = special_tokens_of(self.tokenizer, text)
        if guard not in text:
            return list(self.tokenizer.encode(text, **whole))
        own = self.tokenizer.encode("", **whole)  # what the tokenizer puts before any text, e.g. its begin-of-text token
        return [*own, *self._guarded_tokens(text, guard)]

    def _guarded_tokens(self, text: str, guard: str) -> list[int]:
        ids: list[int] = []
        for piece in self._special.split(text):
            if self._special.fullmatch(piece):
                ids.append(self.tokenizer.convert_tokens_to_ids(piece))
            elif piece:
                ids += self.tokenizer.encode(piece.replace(guard, ""), add_special_tokens=False, split_special_tokens=True)
        return ids


def _any_of(names: set[str]) -> re.Pattern[str]:
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")") if names else re.compile("(?!)")


class ScriptEncoder(ChatEncoder):
    """A ChatEncoder for prompts by a script of the released code (see `released/scripts.py`), whose tokenizers have no image token."""

    def __init__(self, tokenizer: Any, script: Script, image_token_id: int, image_token_length: int, ids: TokenIds | None = None) -> None:
        super().__init__(tokenizer, image_token_id, image_token_length, ids)
        self.script = script
        self.image_token = IMAGE_MARK
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        self._special = _any_of({IMAGE_MARK, *added, *tokenizer.all_special_tokens})

    def _learn_delimiter(self) -> Delimiter:
        return Delimiter()

    def _render(self, messages: Sequence[Message], guard: str) -> str:
        turns = [(message.role, self._content(message, guard)) for message in messages]
        return "".join(piece for _, piece in write_turns(turns, self.script, preface=""))

    def _tokens(self, text: str, guard: str) -> list[int]:
        ids: list[int] = []
        for index, piece in enumerate(text.split(IMAGE_MARK)):
            if index:
                ids.append(self.image_token_id)
            ids += self._guarded_tokens(piece, guard) if guard in piece else self.tokenizer.encode(piece, add_special_tokens=False)
        return ids


def make_encoder(tokenizer: Any, config: WingsConfig, ids: TokenIds) -> ChatEncoder:
    """The encoder of a model's prompts; in mode `released` an image is one slot. `ids` are those that the model has."""
    length = 1 if config.mode == "released" else config.image_token_length or 1
    if config.conversation is None:
        return ChatEncoder(tokenizer, config.image_token_id, length, ids)
    return ScriptEncoder(tokenizer, SCRIPTS[config.conversation], config.image_token_id, length, ids)
