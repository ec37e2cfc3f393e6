"""Names of special tokens in what people write: in chats they are words, not marks (docs/spec/iit.md#asking).

A question that contains `<image>` or `<|im_end|>` would otherwise be read as one with an image more, or as one that ends there. Such a
name is replaced, before a template or a processor sees it, by a stand-in: a token of its own that nothing else uses. After tokenisation
the stand-in's id is replaced by the tokens of the name as plain text. A chat without such names is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iit_bench.errors import ItemError
from iit_bench.models.special_tokens import TokenIds
from iit_bench.types import Message

# Around a stand-in's number: private-use characters of plane 16, which no tokenizer normalises.
BEGIN, END = chr(0x10F1E0), chr(0x10F1E1)
STAND_IN = f"{BEGIN}[0-9]+{END}"  # written by a person, it is words too


class Words:
    """Encodes texts with one tokenizer. Takes its place in `rendering.encode_prompt` and `replies.encode_replies`.

    Args:
        tokenizer: of transformers. Stand-ins are added to it as they are needed; their ids never reach a model.
        template: text of the chat template. Added tokens that are not special count as marks if it writes them.
        marks: further names, such as the processor's place of an image.
        ids: that the model has; None where it does not run in this process.
    """

    def __init__(self, tokenizer: Any, template: str, marks: Iterable[str] = (), ids: TokenIds | None = None) -> None:
        self._tokenizer, self._ids = tokenizer, ids
        added = [token for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
        names = {token.content for token in added if token.special or token.content in template}
        names |= {*tokenizer.all_special_tokens, *filter(str.strip, marks)}
        self._names = re.compile("|".join([STAND_IN, *map(re.escape, sorted(names, key=lambda name: (-len(name), name)))]))
        self._stand_ins: dict[str, str] = {}  # name -> what is written in its place
        self._spelling: dict[int, list[int]] = {}

    @property
    def spelling(self) -> Mapping[int, Sequence[int]]:
        """Ids of the stand-ins so far, and the tokens to read instead."""
        return self._spelling

    @property
    def bos_token(self) -> str | None:
        """The tokenizer's."""
        return self._tokenizer.bos_token  # type: ignore[no-any-return]

    @property
    def eos_token(self) -> str | None:
        """The tokenizer's."""
        return self._tokenizer.eos_token  # type: ignore[no-any-return]

    def hide(self, text: str) -> str:
        """A text in which every name has its stand-in."""
        return self._names.sub(lambda name: self._stand_in(name[0]), text)

    def show(self, text: str) -> str:
        """A text with the names again instead of their stand-ins, for who cannot be given tokens."""
        names = {written: name for name, written in self._stand_ins.items()}
        return re.sub(STAND_IN, lambda written: names.get(written[0], written[0]), text)

    def hide_in(self, messages: Sequence[Message]) -> list[Message]:
        """A chat in which every name has its stand-in. Neighbouring texts of a message are joined: they could spell a name together."""
        return [Message(message.role, tuple(self._parts(message))) for message in messages]

    def _parts(self, message: Message) -> list[Any]:
        parts: list[Any] = []
        for part in message.parts:
            if isinstance(part, str) and parts and isinstance(parts[-1], str):
                parts[-1] += part
            else:
                parts.append(part)
        return [self.hide(part) if isinstance(part, str) else part for part in parts]

    def encode(self, text: str, **settings: Any) -> list[int]:
        """Token ids of a text with stand-ins; `settings` are those of the tokenizer's `encode`.

        Raises:
            ItemError: the model has no such token.
        """
        tokens = [token for own in self._tokenizer.encode(text, **settings) for token in self._spelling.get(own, (own,))]
        self.check(tokens)
        return tokens

    def check(self, tokens: Sequence[int]) -> None:
        """As `special_tokens.TokenIds.check`, where the model is known."""
        if self._ids is not None:
            self._ids.check(tokens)

    def _stand_in(self, name: str) -> str:
        if name not in self._stand_ins:
            from tokenizers import AddedToken

            written = f"{BEGIN}{len(self._stand_ins)}{END}"
            spelled = self._spell(name)
            self._tokenizer.add_tokens([AddedToken(written, special=True, normalized=False)], special_tokens=True)
            self._spelling[self._tokenizer.convert_tokens_to_ids(written)] = spelled
            self._stand_ins[name] = written
        return self._stand_ins[name]

    def _spell(self, name: str) -> list[int]:
        """Tokens of a name as plain text, encoded after a line break, which keeps tokenizers from putting a space before it."""
        plain = {"add_special_tokens": False, "split_special_tokens": True}
        before, whole = (list(self._tokenizer.encode(text, **plain)) for text in ("\n", f"\n{name}"))
        tokens = whole[len(before) :] if whole[: len(before)] == before else whole
        if self._tokenizer.convert_tokens_to_ids(name) not in tokens:
            return tokens
        if len(name) == 1:
            raise ItemError("special token in a text", f"the tokenizer has no other token for {name!r}")
        return [*self._spell(name[:1]), *self._spell(name[1:])]  # an added token that is not special is kept whole otherwise


def words_of(renderer: Any, ids: TokenIds | None = None) -> Words:
    """For a tokenizer or a processor of transformers: its tokenizer's special tokens, and the processor's marks of images and the like.

    `ids` as of `Words`.
    """
    tokenizer = getattr(renderer, "tokenizer", renderer)
    template = getattr(renderer, "chat_template", None) or tokenizer.chat_template or ""
    marks = [value for name, value in vars(renderer).items() if name.endswith("_token") and isinstance(value, str)]
    return Words(tokenizer, str(template), marks if renderer is not tokenizer else (), ids)
