"""A benchmark of a few questions by hand, whose arms can be written out."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluators.iit.turns import Asking, Course
from iit_bench.storage.benchmark import Benchmark
from iit_bench.types import Dialogue, Image, Question, visual_share


def question(name: str, text: str, images: tuple[Image, ...] = (), choices=("red", "blue", "green"), answer: int = 0, **more) -> Question:
    made = Question(
        id=name,
        modality="V" if images else "T",
        source="shapes" if images else "facts",
        subject="colour",
        cluster=f"cluster of {name}",
        language="en",
        question=text,
        images=images,
        choices=tuple(choices),
        answer=answer,
        answer_text=choices[answer],
    )
    return dataclasses.replace(made, **more)


def dialogue(tier: str, *turns: str, connectors: tuple[str, ...] = ()) -> Dialogue:
    return Dialogue(f"{tier}:{turns[-1]}", tier, visual_share(tier), turns[-1], turns, turns[-1], connectors)


@pytest.fixture(scope="session")
def picture(make_image) -> dict[str, Image]:
    """Images by name, of two sizes."""
    return {name: make_image(number, 32 if number < 4 else 48) for number, name in enumerate(("a", "b", "c", "d", "e", "f"))}


@pytest.fixture(scope="session")
def shapes(picture) -> Benchmark:
    """Four visual questions, the first two with the same words, and two text questions."""
    questions = [
        question("v1", "What colour is it?", (picture["a"],), answer=0),
        question("v2", "what  COLOUR is it?", (picture["b"],), answer=1),
        question("v3", "Look at <image> and name it.", (picture["c"],), answer=2),
        question("v4", "Which of <image> and <image> is red?", (picture["d"], picture["e"]), ("the first", "the second"), 1),
        question("t1", "What is the capital of France?", choices=("Paris", "Rome", "Bern", "Oslo"), answer=1),
        question("t2", "Is it?", choices=("yes", "no"), answer=1, fixed_order=True),
    ]
    dialogues = [dialogue("V", name) for name in ("v1", "v2", "v3", "v4")] + [dialogue("T", name) for name in ("t1", "t2")]
    dialogues += [dialogue("VV", "v3", "v1"), dialogue("VTV", "v3", "t1", "v1", connectors=("", "Now this.", "Well."))]
    dialogues += [dialogue("VT", "v3", "t1"), dialogue("TV", "t1", "v2"), dialogue("VV", "v1", "v4")]
    return Benchmark(Path("shapes"), {"rows_sha256": "0" * 64}, {one.id: one for one in questions}, tuple(dialogues))


@pytest.fixture(scope="session")
def course_of(shapes) -> Callable[[str], Course]:
    """course_of("VV:v1") → the dialogue of that id, not asked yet."""
    known = {one.id: one for one in shapes.dialogues}
    return lambda name: Course(known[name], tuple(shapes.questions[turn] for turn in known[name].turns))


@pytest.fixture
def cloze() -> Asking:
    return Asking()
