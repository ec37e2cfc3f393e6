"""Writes small files in the real schemas of the paper's data sets, laid out as their makers publish them. Contents are invented.

    python tests/data/make_snapshots.py DIR

Text: Hub snapshots of cais/mmlu, haonan-li/cmmlu, allenai/openbookqa, Rowan/hellaswag (and allenai/winogrande, which must be refused).
Visual: VLMEvalKit tables MMMU_DEV_VAL, MMBench_DEV_EN, SEEDBench_IMG, AI2D_TEST, POPE (yes/no).
"""

from __future__ import annotations

import base64
import csv
import json
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

LETTERS = "ABCDEFGHI"
ROWS = 12  # questions per small table
TOPICS = ("harbour", "glacier", "orchard", "volcano", "canyon", "lagoon", "meadow", "desert", "reef", "tundra", "delta", "forest")
THINGS = ("copper", "linen", "marble", "cedar", "amber", "basalt", "cotton", "slate", "ivory", "quartz", "velvet", "bronze")


def png(colour: tuple[int, int, int], size: tuple[int, int] = (12, 8)) -> bytes:
    from PIL import Image

    out = BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def question(i: int, about: str) -> str:
    return f"Which material is found near the {TOPICS[i % len(TOPICS)]} number {i} in the {about}?"


def choices(i: int, n: int = 4) -> list[str]:
    return [f"{THINGS[(i + k) % len(THINGS)]} {i}" for k in range(n)]


def mmlu(root: Path, subjects: list[str], rows: int = ROWS) -> None:
    """cais/mmlu: a folder per subject; columns question, subject, choices, answer (class label)."""
    for subject in subjects:
        made = [{"question": question(i, subject), "subject": subject, "choices": choices(i), "answer": i % 4} for i in range(rows)]
        for split in ("test", "validation", "dev"):
            parquet(root / "cais/mmlu" / subject / f"{split}-00000-of-00001.parquet", made)
    (root / "cais/mmlu/README.md").write_text("---\nlicense: mit\n---\n# MMLU\n")


def cmmlu(root: Path, subjects: list[str], rows: int = ROWS) -> None:
    """haonan-li/cmmlu: columns Question, A, B, C, D, Answer (a letter); here with whole numbers as options, as in its mathematics."""
    for subject in subjects:
        made = [
            {
                "Question": f"第{i}个{subject}问题的答案是什么？",
                **{LETTERS[k]: 100 + 7 * i + k for k in range(4)},
                "Answer": LETTERS[(i + 1) % 4],
            }
            for i in range(rows)
        ]
        for split in ("test", "dev"):
            parquet(root / "haonan-li/cmmlu" / subject / f"{split}-00000-of-00001.parquet", made)


def openbookqa(root: Path, rows: int = 40) -> None:
    """allenai/openbookqa, configurations main and additional."""
    made = [
        {
            "id": f"7-{i}",
            "question_stem": question(i, "open book"),
            "choices": {"text": choices(i), "label": ["A", "B", "C", "D"]},
            "answerKey": LETTERS[(3 * i) % 4],
        }
        for i in range(rows)
    ]
    for config in ("main", "additional"):
        for split in ("train", "validation", "test"):
            parquet(root / "allenai/openbookqa" / config / f"{split}-00000-of-00001.parquet", made)


def hellaswag(root: Path, rows: int = 40) -> None:
    """Rowan/hellaswag: the test split has no labels; brackets are WikiHow artefacts that lm-eval removes."""
    made = []
    for i in range(rows):
        context = f"[header] How to polish a {THINGS[i % 12]} bowl [title] Rub it {i} times."
        made.append(
            {
                "ind": i,
                "activity_label": "Polishing",
                "ctx_a": context,
                "ctx_b": "then you",
                "ctx": context + " then you",
                "endings": [f"{thing} dust settles over the {TOPICS[(i + k) % 12]}." for k, thing in enumerate(choices(i))],
                "source_id": f"{'wikihow' if i // 2 % 2 else 'activitynet'}~{i // 2}",
                "split": "val",
                "split_type": "indomain",
                "label": str(i % 4),
            }
        )
    parquet(root / "Rowan/hellaswag/data/train-00000-of-00001.parquet", made)
    parquet(root / "Rowan/hellaswag/data/validation-00000-of-00001.parquet", made)
    parquet(root / "Rowan/hellaswag/data/test-00000-of-00001.parquet", [row | {"label": ""} for row in made])


def winogrande(root: Path, rows: int = 8) -> None:
    made = [
        {"sentence": f"The vase did not fit the box because the _ was too large ({i}).", "option1": "vase", "option2": "box", "answer": "1"}
        for i in range(rows)
    ]
    folder = root / "allenai/winogrande/winogrande_xl"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    """A VLMEvalKit table: tab-separated, quoted where needed, as pandas writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t", restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def picture(i: int) -> str:
    return base64.b64encode(png((20 * i % 256, 7 * i % 256, 40 + i % 200))).decode()


def options(i: int, n: int = 4) -> dict[str, str]:
    return dict(zip(LETTERS, choices(i, n), strict=False))


def mmmu(root: Path) -> None:
    """MMMU_DEV_VAL: dev and validation rows, `<image k>` marks, several images, an open question, images in the options."""
    rows: list[dict[str, Any]] = []
    for i in range(ROWS):
        split = "dev" if i < 3 else "validation"
        row = {
            "index": i + 1,
            "id": f"{split}_Art_{i}",
            "question": f"<image 1> {question(i, 'atlas')}",
            **options(i, 3),
            "answer": LETTERS[i % 3],
        }
        rows.append(
            row | {"image": str([picture(i)]), "category": "Art" if i % 2 else "Music", "l2-category": "Humanities", "split": split}
        )
    two = str([picture(50), picture(51)])
    tail = {"category": "Art", "l2-category": "Humanities", "split": "validation"}
    rows.append({"index": 101, "question": "Compare <image 2> with <image 1>.", **options(60), "answer": "B", "image": two, **tail})
    rows.append({"index": 102, "question": "What is shown in <image 1>?", "answer": "seven", "image": picture(52), **tail})
    in_options = {"A": "<image 1>", "B": "<image 2>"}
    rows.append(
        {"index": 103, "question": "Which one fits?", **in_options, "answer": "A", "image": str([picture(53), picture(54)]), **tail}
    )
    table(root / "MMMU_DEV_VAL.tsv", rows)


def mmbench(root: Path) -> None:
    """MMBench_DEV_EN: circular copies (index + k·10**6) whose image refers to the first row, hints, two-choice rows."""
    rows: list[dict[str, Any]] = []
    for i in range(ROWS):
        texts, n = choices(i + 100, 2 if i % 3 == 0 else 4), 2 if i % 3 == 0 else 4
        for turn in range(n):
            turned = texts[turn:] + texts[:turn]
            index = 200 + i + turn * 10**6
            row = {"index": index, "question": question(i, "photo album"), "hint": f"Taken\nin spring {i}." if i % 2 else ""}
            row |= dict(zip(LETTERS, turned, strict=False)) | {"answer": LETTERS[turned.index(texts[0])]}
            row |= {
                "category": "attribute",
                "image": picture(100 + i) if turn == 0 else str(200 + i),
                "source": "x",
                "l2-category": "coarse",
            }
            rows.append(row | {"comment": "", "split": "dev"})
    table(root / "LMUData/MMBench_DEV_EN.tsv", rows)  # the other place where tables may lie


def seedbench(root: Path) -> None:
    """SEEDBench_IMG, with one corrupt PNG, one missing answer and one answer outside the choices."""
    rows = []
    for i in range(ROWS + 3):
        row = {"index": i, "image": picture(200 + i), "question": question(i, "film"), **options(i + 200), "answer": LETTERS[i % 4]}
        rows.append(row | {"category": "Instance Counting" if i % 2 else "Scene Understanding"})
    broken = bytearray(png((1, 2, 3), (60, 60)))
    rows[-1]["image"] = base64.b64encode(bytes(broken[:-30])).decode()
    rows[-2]["answer"] = ""
    rows[-3]["answer"] = "F"
    table(root / "SEEDBench_IMG.tsv", rows)


def ai2d(root: Path) -> None:
    """AI2D_TEST: several questions over one diagram."""
    rows = []
    for i in range(2 * ROWS):
        row = {"index": i, "question": question(i, "diagram"), **options(i + 300), "answer": LETTERS[(i + 2) % 4]}
        rows.append(row | {"image": picture(300 + i // 2), "category": "atomStructure" if i % 2 else "foodWeb"})
    table(root / "AI2D_TEST.tsv", rows)


def pope(root: Path) -> None:
    """POPE: yes/no questions without options."""
    rows = [
        {"index": i, "question": f"Is there a {THINGS[i]} chair in the image?", "answer": "Yes" if i % 3 else "No", "category": "random"}
        for i in range(ROWS)
    ]
    table(root / "POPE.tsv", [row | {"image": picture(400 + i)} for i, row in enumerate(rows)])


def write_all(root: Path, mmlu_subjects: list[str], cmmlu_subjects: list[str], rows: int = 3) -> None:
    """Everything the paper preset reads, and what the tests need beside it."""
    mmlu(root, mmlu_subjects, rows)
    cmmlu(root, cmmlu_subjects, rows)
    for make in (openbookqa, hellaswag, winogrande, mmmu, mmbench, seedbench, ai2d, pope):
        make(root)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]), ["anatomy", "astronomy"], ["anatomy", "arts"], ROWS)
