"""What each arm changes of a target's chat (docs/spec/iit.md#arms)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from evaluators.arms.donors import Donors
from evaluators.arms.pixels import NotDrawnError, draw
from evaluators.iit.turns import Asking, Course, asked, chat_of, request
from iit_bench.asking import user_message, without_images
from iit_bench.engine.plan import Request
from iit_bench.images import UnreadableImageError, as_rgb, encode, opened
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Image, Message, Part, Question

Chat = tuple[Message, ...]
GREY = (128, 128, 128)


class NotAskedError(Exception):
    """The arm does not change a dialogue, or cannot; the argument is a key of `names.REASONS`."""


@dataclass(frozen=True)
class Changed:
    """A target as an arm asks it once: its dialogue, with the target's choices in the order that is asked, and the request."""

    course: Course
    request: Request


class Changes:
    """The arms of one benchmark, and what they have drawn: every target's image once."""

    def __init__(self, benchmark: Benchmark, asking: Asking) -> None:
        self._asking = asking
        self._donors = Donors(benchmark)
        self._grey: dict[tuple[int, int], Image] = {}
        self._drawn: dict[str, Image | str] = {}  # question → its words as an image, or why there is none
        self._arms: dict[str, Callable[[Chat, Course], Chat]] = {
            "blind": _last(lambda target, _: without_images(target)),
            "blind-history": lambda chat, _: (*map(without_images, chat[:-1]), chat[-1]),
            "blank": _last(lambda target, _: _with_images(target, [self._blank(image) for image in target.images])),
            "contradicting": _last(lambda target, course: _with_others(target, self._donors.contradicting(course.dialogue.target))),
            "swapped": _last(lambda target, course: _with_others(target, self._donors.swapped(course.dialogue.target))),
            "swapped-history": lambda chat, _: _swapped_with_history(chat),
            "moved-first": _last(lambda target, _: Message(target.role, (*target.images, "\n" + target.text.strip("\n")))),
            "moved-last": _last(lambda target, _: Message(target.role, (target.text.strip("\n") + "\n", *target.images))),
            "wordless": _last(lambda target, course: self._shown(course, _target(course).images)),
            "irrelevant": _last(lambda target, course: self._after_image(target, course)),
            "pixels": _last(lambda target, course: self._shown(course, [self._words(_target(course))])),
        }

    def of(self, arm: str, course: Course) -> tuple[Changed, ...]:
        """A target as the arm asks it: once; of `reordered`, with the choices moved by 1, 2, … k - 1 places.

        Raises:
            NotAskedError: the arm does not change it, or cannot.
        """
        if arm == "reordered":
            return self._reordered(course)
        chat = chat_of(course, len(course.questions) - 1, self._asking)
        try:
            changed = self._arms[arm](chat, course)
        except UnreadableImageError as error:
            raise NotAskedError("unreadable_image") from error
        if changed == chat:
            raise NotAskedError("unchanged")
        return (Changed(course, asked(changed, _target(course), self._asking)),)

    def _reordered(self, course: Course) -> tuple[Changed, ...]:
        target = _target(course)
        if target.fixed_order:
            raise NotAskedError("fixed_order")
        turned = [replace(course, questions=(*course.questions[:-1], moved(target, places))) for places in range(1, len(target.choices))]
        return tuple(Changed(one, request(one, len(one.questions) - 1, self._asking)) for one in turned)

    def _shown(self, course: Course, parts: Sequence[Part]) -> Message:
        """The target's message with parts in place of the question's words and images."""
        connectors = course.dialogue.connectors
        return user_message(_target(course), self._asking.style, connectors[-1] if connectors else "", parts)

    def _after_image(self, target: Message, course: Course) -> Message:
        image = self._donors.irrelevant(course.dialogue.target)
        if image is None:
            raise NotAskedError("no_other_image")
        return Message(target.role, (image, "\n" + target.text))

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


def moved(question: Question, places: int) -> Question:
    """The question with each choice so many places further on, the last ones at the front."""
    k = len(question.choices)
    return replace(question, choices=question.choices[k - places :] + question.choices[: k - places], answer=(question.answer + places) % k)


def _target(course: Course) -> Question:
    return course.questions[-1]


def _last(change: Callable[[Message, Course], Message]) -> Callable[[Chat, Course], Chat]:
    """A change of the target's message only."""
    return lambda chat, course: (*chat[:-1], change(chat[-1], course))


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
