"""From a record to a chat that can be trained on, or to the reason why it cannot."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from iit_bench.errors import ItemError, UserError, one_line
from iit_bench.models.special_tokens import TokenIds
from iit_bench.training import chat
from iit_bench.training.chats import files, schemas
from iit_bench.training.chats.pictures import Unread, images_in
from iit_bench.training.chats.schemas import Picture, Turn
from iit_bench.training.records import Part
from iit_bench.types import Image, Message

SPECIAL_TOKEN = "special token in a text"
REFUSED_BY_TEMPLATE = "chat template refuses it"
NOT_UNICODE = "text is not Unicode"
NOTHING_TO_LEARN = "no token to learn"
TOO_LONG = "too long"


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a model reads chats.

    Attributes:
        tokenizer: with a chat template that writes replies word for word.
        image_tokens: per image.
        longest: tokens of a chat; longer ones are refused.
        max_pixels: of an image.
        ids: that the model has; None where that is not asked.
    """

    tokenizer: Any
    image_tokens: int
    longest: int
    max_pixels: int
    ids: TokenIds | None = None

    def sha256(self) -> str:
        """Of what decides which records can be trained on, beside the records."""
        whole = hashlib.sha256()
        for text in (
            self.tokenizer.backend_tokenizer.to_str(),
            str(self.tokenizer.chat_template),
            f"{self.image_tokens} {self.longest} {self.max_pixels}",
            *([str(self.ids.rows)] if self.ids is not None and self.ids.missing() else []),
        ):
            whole.update(hashlib.sha256(text.encode()).digest())
        return whole.hexdigest()

    def special(self) -> re.Pattern[str]:
        """Finds a special token in a text."""
        marks = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        return re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))) or r"(?!)")


class Source:
    """The records of one part of a mixture, as chats.

    Args:
        part: of the mixture.
        encoding: of the model that is trained.
        revision: the commit of a data set on the Hub, where an earlier run chose it; empty: as `part` names it.

    Attributes:
        paths: its files.
        revision: the commit that they are of; empty where they are not of the Hub.
    """

    def __init__(self, part: Part, encoding: Encoding, revision: str = "") -> None:
        self.part, self.encoding = part, encoding
        self.paths, self.revision = files.located(part.source, part.split, part.subset, revision)
        self.records = files.open_records(self.paths)
        self.folder = images_in(_images_of(part, self.paths), encoding.max_pixels)
        self._special = encoding.special()

    def row(self, number: int) -> chat.Row:
        """Record `number` as tokens, with its images, whose files are read when they are looked at.

        Raises:
            ItemError: it cannot be trained on.
        """
        turns = self._turns(number)
        name = self.records.name(number)
        messages = [
            Message(turn.role, tuple(part if isinstance(part, str) else Unread(self.folder, part, name) for part in turn.parts))
            for turn in turns
        ]
        row, _ = chat.encode_any(self.encoding.tokenizer, messages, self.encoding.image_tokens)
        return chat.Row(row.ids, row.labels, row.images, name)

    def check(self, number: int, pixels: bool) -> chat.Row:
        """Check record `number`; the row that comes back has empty images.

        Args:
            number: 0-based.
            pixels: decode its images whole.

        Raises:
            ItemError: it cannot be trained on; `reason` is the same for the same fault.
        """
        turns = self._turns(number)
        if not any(turn.role == "assistant" for turn in turns):
            raise ItemError(NOTHING_TO_LEARN)
        for text in ("".join(part for part in turn.parts if isinstance(part, str)) for turn in turns):
            if found := self._special.search(text):
                raise ItemError(SPECIAL_TOKEN, found.group())
            try:
                text.encode()
            except UnicodeError as error:  # one half of a surrogate pair, which tokenizers do not take
                raise ItemError(NOT_UNICODE, one_line(error)) from None
        for picture in (part for turn in turns for part in turn.parts if isinstance(part, Picture)):
            self.folder.check(picture, pixels)
        row = self._encoded(turns)
        if self.encoding.ids is not None:
            self.encoding.ids.check(row.ids)
        if not row.labelled:
            raise ItemError(NOTHING_TO_LEARN)
        if len(row.ids) > self.encoding.longest:
            raise ItemError(TOO_LONG, f"{len(row.ids)} tokens, the limit is {self.encoding.longest}")
        return row

    def _turns(self, number: int) -> Sequence[Turn]:
        record: Mapping[str, Any] = self.records.read(number)
        return schemas.turns_of(record, self.part.columns)

    def _encoded(self, turns: Sequence[Turn]) -> chat.Row:
        messages = [Message(turn.role, tuple(part if isinstance(part, str) else Image(b"") for part in turn.parts)) for turn in turns]
        try:
            return chat.encode_any(self.encoding.tokenizer, messages, self.encoding.image_tokens)[0]
        except (TemplateError, TypeError, UserError) as error:  # a template that takes texts only adds one to a list
            raise ItemError(REFUSED_BY_TEMPLATE, one_line(error)) from None


def _images_of(part: Part, paths: Sequence[Path]) -> Path:
    """Where the images of a part are: what it names, or where its file is."""
    if named := files.images_of(part):
        return named
    return folder if (folder := Path(part.source).expanduser()).is_dir() else paths[0].parent
