"""Models with fixed replies, for our run and VLMEvalKit's: (text of the prompt, number of images) -> reply. Nothing of ours in it."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path

Reply = Callable[[str, int], str]


def mixed(tables: Path) -> Reply:
    """Three of four replies mean the gold answer, in one of several wordings; the others are wrong, hedged or empty."""
    rows = [row for path in sorted(tables.rglob("*.tsv")) for row in csv.DictReader(path.open(encoding="utf-8"), delimiter="\t")]

    def said(text: str, images: int) -> str:
        row = next((row for row in rows if row["question"].split("<image")[-1][2:] in text and _options_of(row, text)), None)
        number = _number(text, images)
        if row is None or number % 4 == 3:
            return ("B", "I cannot say.", "Yes", "no", "copper", "", "yes or no", "C. or D.")[number // 4 % 8]
        answer = row["answer"].removeprefix("['").split("'")[0]
        if answer in "ABCDE" and row.get(answer):
            return (answer, f"The answer is ({answer}).", row[answer], f"{answer}. {row[answer]}")[number // 4 % 4]
        return (answer, f"{answer}.", answer.upper(), f" {answer} ")[number // 4 % 4]

    return said


def partial(tables: Path) -> Reply:
    """The gold answer with its last letter dropped, or what three of ten annotators said: every open reply earns some credit, none all."""
    rows = [row for path in sorted(tables.rglob("*VQA*.tsv")) for row in csv.DictReader(path.open(encoding="utf-8"), delimiter="\t")]

    def said(text: str, images: int) -> str:
        row = next((row for row in rows if row["question"] in text), None)
        if row is None or "'nothing'" in row["answer"]:
            return "nothing"
        return row["answer"].removeprefix("['").split("'")[0][:-1]

    return said


WORDINGS = (
    *("**{}**", "{}。", "答案：{}", "答案是{}。", "选{}", "（{}）", "# Answer\n\n{}", "`{}`", "- {}\n\nExplanation: it is so."),
    *("$\\boxed{{{}}}$", "The answer is **{}**.", "{}\n", "<think>not {}?</think>\n{}", "是的，{}", "{}，因为图中是这样。"),
)


def worded(tables: Path) -> Reply:
    """The gold answer in Chinese and in Markdown, by turns."""
    rows = [row for path in sorted(tables.rglob("*.tsv")) for row in csv.DictReader(path.open(encoding="utf-8"), delimiter="\t")]

    def said(text: str, images: int) -> str:
        row = next((row for row in rows if row["question"].split("<image")[-1][2:] in text and _options_of(row, text)), None)
        answer = row["answer"].removeprefix("['").split("'")[0] if row else "B"
        wording = WORDINGS[_number(text, images) % len(WORDINGS)]
        return wording.format(*[answer] * wording.count("{}"))

    return said


def always(word: str) -> Reply:
    """One answer to all."""
    return lambda text, images: word


def _options_of(row: dict[str, str], text: str) -> bool:
    return not row.get("A") or f"A. {row['A']}\n" in text


def choosing(text: str, images: int) -> str:
    """A choice of the last question, by a hash of the prompt, in one of several wordings; or nothing of use."""
    lines = text.rpartition("Options:\n")[2].splitlines()
    options = dict(line.split(". ", 1) for line in lines if line[1:3] == ". ")
    number = _number(text, images)
    letter = "ABCDEFGH"[number % len(options)]
    wordings = (letter, f"The answer is ({letter}).", options[letter], f"{letter}. {options[letter]}", "I cannot say.", "", "A or B")
    return wordings[number // 8 % len(wordings)]


def _number(text: str, images: int) -> int:
    return int(hashlib.sha256(f"{text} {images}".encode()).hexdigest()[:8], 16)
