"""Writes the data set card: README.md of a benchmark folder, with the Hub's YAML header, licences and a gallery."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iit_bench.images import decode, encode
from iit_bench.types import IMAGE_MARK, Dialogue, Question

GALLERY = 4  # dialogues shown
THUMBNAIL = 96  # pixels of the longer side


def card(
    manifest: Mapping[str, Any], questions: Sequence[Question], dialogues: Iterable[Dialogue], place: str = "DIR", licences: str = ""
) -> str:
    """The card as Markdown. Texts from data sets are escaped.

    Args:
        place: what `load_dataset` is told: the folder, or its name on the Hub.
        licences: file beside the card with the sources' licences; "" for none.
    """
    parts = [
        _header(manifest, questions, licences),
        f"# IIT benchmark `{manifest['name']}`\n",
        "Interleaved image-text dialogues: every target question is asked after every history whose tier ends in its modality, so\n"
        "that differences between tiers are paired. Built by iit-bench after the benchmark that the paper *Wings* (arXiv 2406.03496)\n"
        "describes. `questions` holds the items, `dialogues` the turns (question ids) and the target.\n",
        f'```python\nfrom datasets import load_dataset\nquestions = load_dataset("{place}", "questions", split="test")\n'
        f'dialogues = load_dataset("{place}", "dialogues", split="test")\n```\n',
        _tiers(manifest),
        _sources(manifest),
        _baselines(manifest),
        _gallery(manifest, dialogues, questions),
    ]
    return "\n".join(parts)


def _header(manifest: Mapping[str, Any], questions: Sequence[Question], licences: str) -> str:
    import yaml

    header = {
        "pretty_name": f"IIT benchmark ({manifest['name']})",
        "language": sorted({question.language for question in questions}),
        "license": "other",
        "license_name": "of-its-sources",
        **({"license_link": licences} if licences else {}),
        "task_categories": ["visual-question-answering", "multiple-choice", "question-answering"],
        "tags": ["iit-bench", "interleaved-image-text"],
        "configs": [
            {"config_name": "questions", "default": True, "data_files": [{"split": "test", "path": "questions/test-*.parquet"}]},
            {"config_name": "dialogues", "data_files": [{"split": "test", "path": "dialogues/test-*.parquet"}]},
        ],
        "dataset_info": [
            {
                "config_name": "questions",
                "features": [
                    *_plain("id", "modality", "source", "subject", "cluster", "language", "question"),
                    {"name": "images", "list": "image"},
                    {"name": "choices", "list": "string"},
                    {"name": "answer", "dtype": "int64"},
                    {"name": "answer_text", "dtype": "string"},
                    {"name": "fixed_order", "dtype": "bool"},
                    {"name": "prefix_choices", "dtype": "bool"},
                ],
            },
            {
                "config_name": "dialogues",
                "features": [
                    *_plain("id", "tier"),
                    {"name": "visual_share", "dtype": "float64"},
                    *_plain("group"),
                    {"name": "turns", "list": "string"},
                    *_plain("target"),
                    {"name": "connectors", "list": "string"},
                ],
            },
        ],
    }
    return "---\n" + yaml.safe_dump(header, sort_keys=False, allow_unicode=True) + "---\n"


def _plain(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "dtype": "string"} for name in names]


def _tiers(manifest: Mapping[str, Any]) -> str:
    rows = [f"| {tier} | {tier.count('V') / len(tier):.2f} | {n} |" for tier, n in manifest["tiers"].items()]
    return "## Tiers\n\n| tier | visual share | dialogues |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _sources(manifest: Mapping[str, Any]) -> str:
    rows = []
    for name, entry in manifest["sources"].items():
        left_out = ", ".join(f"{count} {reason}" for reason, count in entry["left_out"].items()) or "none"
        origin = " ".join(filter(None, (entry["origin"], entry["revision"])))
        cells = (name, entry["modality"], origin, entry["licence"], entry["targets"], entry["in_benchmark"], left_out)
        rows.append("| " + " | ".join(escaped(str(cell)) for cell in cells) + " |")
    head = "| source | modality | origin | licence | targets | questions here | left out |\n" + "|---" * 7 + "|\n"
    return "## Sources and their licences\n\n" + head + "\n".join(rows) + "\n"


def _baselines(manifest: Mapping[str, Any]) -> str:
    rules = ("n", "random", "always_first", "majority", "choices_only", "question_prior")
    rows = []
    for key, figures in manifest["baselines"].items():
        cells = ["–" if figures[rule] is None else str(figures[rule]) if rule == "n" else f"{figures[rule]:.3f}" for rule in rules]
        rows.append(f"| {escaped(key)} | " + " | ".join(cells) + " |")
    head = "| targets | " + " | ".join(rule.replace("_", " ") for rule in rules) + " |\n" + "|---" * (len(rules) + 1) + "|\n"
    return "## Baselines that need no understanding (accuracy)\n\n" + head + "\n".join(rows) + "\n"


def _gallery(manifest: Mapping[str, Any], dialogues: Iterable[Dialogue], questions: Iterable[Question]) -> str:
    longest = max(map(len, manifest["tiers"]))
    shown: dict[str, Dialogue] = {}  # tier -> a dialogue; mixed tiers first, no two dialogues with one target
    for kinds in (2, 1):
        wanted = {tier for tier, n in manifest["tiers"].items() if n and len(tier) == longest and len(set(tier)) == kinds}
        for dialogue in dialogues:
            if len(shown) == GALLERY or wanted <= shown.keys():
                break
            is_new = dialogue.tier not in shown and dialogue.group not in {other.group for other in shown.values()}
            if dialogue.tier in wanted and is_new:
                shown[dialogue.tier] = dialogue
    turns_shown = {question_id for dialogue in shown.values() for question_id in dialogue.turns}
    by_id = {question.id: question for question in questions if question.id in turns_shown}
    parts = ["## Gallery\n"]
    for dialogue in shown.values():
        turns = "\n".join(_turn(by_id[question_id]) for question_id in dialogue.turns)
        parts.append(f"**{dialogue.tier}**\n\n<table>\n{turns}\n</table>\n")
    return "\n".join(parts)


def _turn(question: Question) -> str:
    images = "".join(_thumbnail(image.data) for image in question.images)
    choices = " · ".join(f"<b>{escaped(c)}</b>" if i == question.answer else escaped(c) for i, c in enumerate(question.choices))
    text = escaped(question.question.replace(IMAGE_MARK, " [image] ").strip())
    return f"<tr><td>{images}</td><td>{text}<br>{choices}</td></tr>"


def _thumbnail(data: bytes) -> str:
    picture = decode(data)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(encode(picture, "JPEG", quality=80)).decode()}">'


def escaped(text: str) -> str:
    """A data set's text as one line of HTML without markup, safe in a Markdown table."""
    escaped = html.escape(" ".join(text.split()))
    return "".join(f"&#{ord(char)};" if char in "|`*_[]~\\$" else char for char in escaped)
