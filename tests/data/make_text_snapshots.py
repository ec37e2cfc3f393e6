"""Writes small files in the real schemas of the text-only benchmarks that make_snapshots.py has not. Contents are invented.

    python tests/data/make_text_snapshots.py DIR

Hub snapshots of allenai/ai2_arc, EleutherAI/race, ehovy/race, aps/super_glue, clue/clue (chid, ocnli), lighteval/siqa, baber/piqa,
openai/gsm8k, google-research-datasets/mbpp and EleutherAI/wikitext_document_level.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

LETTERS = "ABCD"
PLACES = ("harbour", "glacier", "orchard", "volcano", "canyon", "lagoon", "meadow", "desert", "reef", "tundra", "delta", "forest")
THINGS = ("copper", "linen", "marble", "cedar", "amber", "basalt", "cotton", "slate", "ivory", "quartz", "velvet", "bronze")
IDIOMS = ("画蛇添足", "守株待兔", "掩耳盗铃", "刻舟求剑", "亡羊补牢", "井底之蛙", "狐假虎威", "叶公好龙", "杯弓蛇影", "对牛弹琴")


def parquet(path: Path, rows: list[dict[str, Any]], **label_names: tuple[str, ...]) -> None:
    """Written by `datasets` itself, so that class labels are stored as the Hub stores them."""
    from datasets import ClassLabel, Dataset

    made = Dataset.from_list(rows)
    for column, names in label_names.items():
        made = made.cast_column(column, ClassLabel(names=list(names)))
    path.parent.mkdir(parents=True, exist_ok=True)
    made.to_parquet(str(path))


def name(split: str) -> str:
    return f"{split}-00000-of-00001.parquet"


def thing(i: int) -> str:
    return f"{THINGS[i % 12]} {i // 12}" if i >= 12 else THINGS[i]


def arc(root: Path, rows: int) -> None:
    for config in ("ARC-Easy", "ARC-Challenge"):
        for shift, split in enumerate(("train", "validation", "test")):
            made = [
                {
                    "id": f"{config}_{split}_{i}",
                    "question": f"Which material is heated near the {PLACES[(i + shift) % 12]} in experiment {i}?",
                    "choices": {"text": [thing(i + k + shift) for k in range(4)], "label": list(LETTERS)},
                    "answerKey": LETTERS[(i * 3 + shift) % 4],
                }
                for i in range(rows)
            ]
            parquet(root / "allenai/ai2_arc" / config / name(split), made)


def race(root: Path, rows: int) -> None:
    """EleutherAI/race: a passage a row, its problems as the text of a Python list. ehovy/race: a question a row."""
    passages = []
    for i in range(rows):
        problems = [
            {
                "question": f"What lies at the {PLACES[(i + k) % 12]}  _  ." if k % 2 else f"What is seen on day {k}?",
                "answer": LETTERS[(i + k) % 4],
                "options": [thing(i + k + j) for j in range(4)],
            }
            for k in range(1 + i % 3)
        ]
        passages.append({"article": f"On day {i} we went to the {PLACES[i % 12]} and saw {thing(i)}.", "problems": problems})
    parquet(root / "EleutherAI/race/high" / name("test"), [row | {"problems": repr(row["problems"])} for row in passages])
    for config in ("middle", "high"):
        flat = [
            {"example_id": f"{config}{i}.txt", "article": row["article"], **problem}
            for i, row in enumerate(passages)
            for problem in row["problems"]
        ]
        parquet(root / "ehovy/race" / config / name("test"), flat)


def wsc(root: Path, rows: int) -> None:
    made = []
    for i in range(rows):
        text = f"The {PLACES[i % 12]} keeper thanked Maria because she had found the {THINGS[i % 12]} ring ."
        row = {"text": text, "span1_index": 4, "span2_index": 6, "span1_text": "Maria", "span2_text": "she", "idx": i, "label": i % 2}
        made.append(row)
    for split in ("train", "validation"):
        parquet(root / "aps/super_glue/wsc.fixed" / name(split), made, label=("False", "True"))


def clue(root: Path, rows: int) -> None:
    chid, ocnli = [], []
    for i in range(rows):
        marks = [f"#idiom{100 * i + k:06d}#" for k in range(2)]
        chid.append(
            {
                "idx": i,
                "candidates": [IDIOMS[(i + k) % 10] for k in range(10)],
                "content": [f"第{i}天他{marks[0]}，大家都笑他{marks[1]}。", "另一段没有空格。"],
                "answers": {"text": marks, "candidate_id": [i % 10, (i + 3) % 10]},
            }
        )
        ocnli.append({"sentence1": f"他在第{i}天去了学校", "sentence2": "他离开了家", "label": i % 4 - 1, "idx": i})
    hidden = [row | {"answers": {"text": row["answers"]["text"], "candidate_id": [-1, -1]}} for row in chid]
    for split, made in (("train", chid), ("validation", chid), ("test", hidden)):
        parquet(root / "clue/clue/chid" / name(split), made)
    for split in ("train", "validation"):
        parquet(root / "clue/clue/ocnli" / name(split), ocnli, label=("neutral", "entailment", "contradiction"))


def siqa(root: Path, rows: int) -> None:
    made = [
        {
            "context": f"Jordan carried {thing(i)} to the {PLACES[i % 12]}.",
            "question": "What will Jordan want to do next?",
            **{f"answer{LETTERS[k]}": f"look for {thing(i + k)}" for k in range(3)},
            "label": str(1 + i % 3),
        }
        for i in range(rows)
    ]
    for split in ("train", "validation"):
        parquet(root / "lighteval/siqa/data" / name(split), made)


def piqa(root: Path, rows: int) -> None:
    made = [{"goal": f"Clean {thing(i)}.", "sol1": f"Rub it {i} times.", "sol2": "Throw it away.", "label": i % 2} for i in range(rows)]
    for split in ("train", "validation"):
        parquet(root / "baber/piqa/data" / name(split), made, label=("0", "1"))


def gsm8k(root: Path, rows: int) -> None:
    for shift, split in enumerate(("train", "test")):
        made = [
            {
                "question": f"Ada has {i + 2} {thing(i + shift)} plates and buys {shift + 3} more. How many has she?",
                "answer": f"She has {i + 2} + {shift + 3} = <<{i + 2}+{shift + 3}={i + shift + 5}>>{i + shift + 5}.\n#### {i + shift + 5}",
            }
            for i in range(rows)
        ]
        parquet(root / "openai/gsm8k/main" / name(split), made)


def mbpp(root: Path, rows: int) -> None:
    def row(number: int) -> dict[str, Any]:
        tests = [f"assert add_{number}({k}) == {k + number}" for k in range(3)]
        code = f"def add_{number}(x):\r\n  return x + {number}"
        text = f"Write a function to add {number}."
        return {"task_id": number, "text": text, "code": code, "test_list": tests, "test_setup_code": "", "challenge_test_list": []}

    parquet(root / "google-research-datasets/mbpp/full" / name("prompt"), [row(number) for number in range(1, 11)])
    parquet(root / "google-research-datasets/mbpp/full" / name("test"), [row(number) for number in range(11, 11 + rows)])


def wikitext(root: Path, rows: int) -> None:
    folder = root / "EleutherAI/wikitext_document_level/wikitext-2-raw-v1"
    for split in ("train", "validation", "test"):
        pages = [" ".join(f"The {PLACES[(i + k) % 12]} holds {thing(i * k)} ." for k in range(4 + 36 * (i % 3))) for i in range(rows)]
        parquet(folder / name(split), [{"page": f" = {PLACES[i % 12]} = \n {page}\n"} for i, page in enumerate(pages)])


def write_card(folder: Path, licence: str) -> None:
    """README.md with the header that the Hub and `datasets` read: licence, and the files of each configuration and split."""
    import yaml

    configs: dict[str, list[dict[str, str]]] = {}
    for path in sorted(folder.rglob("*-00000-of-*.parquet")):
        name, split = path.relative_to(folder).parent.as_posix(), path.name.partition("-")[0]
        configs.setdefault("default" if name == "data" else name, []).append({"split": split, "path": f"{name}/{split}-*"})
    header = {"license": licence, "configs": [{"config_name": name, "data_files": files} for name, files in configs.items()]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n# {folder.name}\n")


def write_text(root: Path, rows: int = 12) -> None:
    for make in (arc, race, wsc, clue, siqa, piqa, gsm8k, mbpp, wikitext):
        make(root, rows)
    for folder in [path for owner in root.iterdir() for path in owner.iterdir() if not (path / "README.md").exists()]:
        write_card(folder, "other")


if __name__ == "__main__":
    write_text(Path(sys.argv[1]))
