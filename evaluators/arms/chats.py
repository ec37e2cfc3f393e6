"""What each arm changes of a target's chat (docs/spec/iit.md#arms): messages only, so that pages can show them without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from evaluators.arms.donors import Donors
from evaluators.arms.pixels import NotDrawnError, draw
from iit_bench.asking import user_message, without_images
from iit_bench.images import UnreadableImageError, as_rgb, encode, opened
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Dialogue, Image, Message, Part, Question, Style

Chat = tuple[Message, ...]
GREY = (128, 128, 128)


class NotAskedError(Exception):
    """The arm does not change a dialogue, or cannot; the argument is a key of `names.REASONS`."""


@dataclass(frozen=True)
class Target:
    """The last question of a dialogue."""

    dialogue: Dialogue
    question: Question


class ChangedChats:
    """The arms of one benchmark but `reordered`, and what they have drawn: every target's image once."""

    def __init__(self, benchmark: Benchmark, style: Style) -> None:
        self._style = style
        self._donors = Donors(benchmark)
        self._grey: dict[tuple[int, int], Image] = {}
        self._drawn: dict[str, Image | str] = {}  # question → its words as an image, or why there is none
        self._arms: dict[str, Callable[[Chat, Target], Chat]] = {
            "blind": _last(lambda message, _: without_images(message)),
            "blind-history": lambda chat, _: (*map(without_images, chat[:-1]), chat[-1]),
            "blank": _last(lambda message, _: _with_images(message, [self._blank(image) for image in message.images])),
            "contradicting": _last(lambda message, target: _with_others(message, self._donors.contradicting(target.dialogue.target))),
            "swapped": _last(lambda message, target: _with_others(message, self._donors.swapped(target.dialogue.target))),
            "swapped-history": lambda chat, _: _swapped_with_history(chat),
            "moved-first": _last(lambda message, _: Message(message.role, (*message.images, "\n" + message.text.strip("\n")))),
            "moved-last": _last(lambda message, _: Message(message.role, (message.text.strip("\n") + "\n", *message.images))),
            "wordless": _last(lambda message, target: self._shown(target, target.question.images)),
            "irrelevant": _last(lambda message, target: self._after_image(message, target)),
            "pixels": _last(lambda message, target: self._shown(target, [self._words(target.question)])),
        }

    def of(self, arm: str, chat: Chat, target: Target) -> Chat:
        """The chat that asks a target, as the arm changes it.

        Raises:
            NotAskedError: the arm does not change it, or cannot.
        """
        try:
            changed = self._arms[arm](chat, target)
        except UnreadableImageError as error:
            raise NotAskedError("unreadable_image") from error
        if changed == chat:
            raise NotAskedError("unchanged")
        return changed

    def _shown(self, target: Target, parts: Sequence[Part]) -> Message:
        """The target's message with parts in place of the question's words and images."""
        connectors = target.dialogue.connectors
        return user_message(target.question, self._style, connectors[-1] if connectors else "", parts)

    def _after_image(self, message: Message, target: Target) -> Message:
        image = self._donors.irrelevant(target.dialogue.target)
        if image is None:
            raise NotAskedError("no_other_image")
        return Message(message.role, (image, "\n" + message.text))

    def _blank(self, image: Image) -> Image:
        """A grey image of the size that a model is shown."""
        from PIL import Image as PillowImage

        with opened(image.data) as picture:
            size = as_rgb(picture).size
        if size not in self._grey:
            self._grey[size] = Image(encode(PillowImage.new("RGB", size, GREY)))
        return self._grey[size]

    def _words(self, question: Question) -> Image:
        if question.id not in self._drawn:
            try:
                self._drawn[question.id] = draw(question.question)
            except NotDrawnError as error:
                self._drawn[question.id] = str(error)
        drawn = self._drawn[question.id]
        if isinstance(drawn, str):
            raise NotAskedError(drawn)
        return drawn


def orders(question: Question) -> tuple[Question, ...]:
    """The question with its choices moved by 1, 2, … k - 1 places, as arm `reordered` asks it.

    Raises:
        NotAskedError: its choices keep their order.
    """
    if question.fixed_order:
        raise NotAskedError("fixed_order")
    return tuple(moved(question, places) for places in range(1, len(question.choices)))


def moved(question: Question, places: int) -> Question:
    """The question with each choice so many places further on, the last ones at the front."""
    k = len(question.choices)
    return replace(question, choices=question.choices[k - places :] + question.choices[: k - places], answer=(question.answer + places) % k)


def _last(change: Callable[[Message, Target], Message]) -> Callable[[Chat, Target], Chat]:
    """A change of the target's message only."""
    return lambda chat, target: (*chat[:-1], change(chat[-1], target))


def _with_others(message: Message, images: Sequence[Image] | None) -> Message:
    if images is None:
        raise NotAskedError("no_other_image")
    return _with_images(message, images)


def _with_images(message: Message, images: Sequence[Image]) -> Message:
    """The message with other images in the places of its own, as many."""
    following: Iterator[Image] = iter(images)
    return Message(message.role, tuple(next(following) if isinstance(part, Image) else part for part in message.parts))


def _swapped_with_history(chat: Chat) -> Chat:
    """The last turn and the last one before it with images, with each other's, where they have as many."""
    place = max((at for at, message in enumerate(chat[:-1]) if message.images), default=None)
    if place is None or len(chat[place].images) != len(chat[-1].images):
        raise NotAskedError("no_other_image")
    earlier, target = chat[place], chat[-1]
    swapped = _with_images(earlier, target.images)
    return (*chat[:place], swapped, *chat[place + 1 : -1], _with_images(target, earlier.images))
