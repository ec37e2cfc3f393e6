"""Small pictures of a benchmark's images, each once, as files that a page loads when they come into sight."""

from __future__ import annotations

from collections.abc import Sequence

from iit_bench.images import UnreadableImageError, decode, encode
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import IMAGE_MARK, Image, Question
from reports import links
from reports.cells import count
from reports.folder import ReportFolder
from reports.section import Gallery, Part, Picture, Words

SHOWN = 60  # pictures of the gallery
SIDE = 160  # pixels of the longer side


def write(benchmark: Benchmark, folder: ReportFolder) -> tuple[Part, ...]:
    """Write the pictures of a page's gallery, and return its parts.

    Raises:
        UserError: no space, or no permission.
    """
    found = _images(benchmark)
    if not found:
        return (Words("Not available: no question of this benchmark has an image.", "none"),)
    pictures, unreadable = [], 0
    for image, question in _spread(found, SHOWN):
        try:
            small = decode(image.data)
        except UnreadableImageError:
            unreadable += 1
            continue
        small.thumbnail((SIDE, SIDE))
        folder.write(links.thumbnail(image.sha256), encode(small, "JPEG", quality=80))
        pictures.append(Picture(address=links.thumbnail(image.sha256), width=small.width, height=small.height, text=_words(question)))
    sentence = (
        f"{count(len(pictures))} of {count(len(found))} images, each with a question about it; equally spread over sources and subjects."
    )
    broken = (Words(f"{unreadable} of these images cannot be read.", "fine"),) if unreadable else ()
    return (Words(sentence, "fine"), Gallery(tuple(pictures)), *broken)


def _images(benchmark: Benchmark) -> list[tuple[Image, Question]]:
    """Each image once, with the first question about it, targets first."""
    targets = dict.fromkeys(dialogue.target for dialogue in benchmark.dialogues)
    ordered = [*(benchmark.questions[name] for name in targets), *(q for name, q in benchmark.questions.items() if name not in targets)]
    found: dict[str, tuple[Image, Question]] = {}
    for question in ordered:
        for image in question.images:
            found.setdefault(image.sha256, (image, question))
    return list(found.values())


def _spread(found: Sequence[tuple[Image, Question]], most: int) -> list[tuple[Image, Question]]:
    """The first `most`, in turns from each source and subject."""
    parts: dict[tuple[str, str], list[tuple[Image, Question]]] = {}
    for one in found:
        parts.setdefault((one[1].source, one[1].subject), []).append(one)
    turns = sorted((place, key) for key, members in parts.items() for place in range(min(most, len(members))))
    return [parts[key][place] for place, key in turns[:most]]


def _words(question: Question) -> str:
    text = " ".join(question.question.replace(IMAGE_MARK, " ").split())
    return text if len(text) <= 120 else text[:119] + "…"
