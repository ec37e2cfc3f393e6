"""Writes small tables in the real schemas of VLMEvalKit's data sets, beside those of make_snapshots.py. Contents are invented.

    python tests/data/make_vqa_tables.py DIR

MME (pairs of yes/no questions over one image), HallusionBench (sets of figures and questions, some rows without an image), POPE, AMBER,
VSR-zeroshot, MMBench_DEV_CN, CCBench, ScienceQA_TEST, MMStar, TextVQA_VAL (ten annotators), ChartQA_TEST (relaxed accuracy), DocVQA_VAL
and InfoVQA_VAL (ANLS), OCRVQA_TESTCORE and GQA_TestDev_Balanced (accuracy; in two splits), and tables that VLMEvalKit does not know:
`MadeYesNo`, `MadeOpen` (one gold answer) and `MadeChoice`.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

MAKERS = runpy.run_path(str(Path(__file__).parent / "make_snapshots.py"))
table, picture, options, question, choices = (MAKERS[name] for name in ("table", "picture", "options", "question", "choices"))
LETTERS, THINGS = MAKERS["LETTERS"], MAKERS["THINGS"]


def mme(root: Path) -> None:
    """Two questions an image, one answered Yes and one No; categories of perception and of reasoning."""
    rows = []
    for c, category in enumerate(("existence", "color", "code_reasoning")):
        for i in range(4):
            image = {"image": picture(500 + 10 * c + i), "image_path": f"{category}/{i:04}.png", "category": category}
            for k, answer in enumerate(("Yes", "No")):
                text = f"Is there a {THINGS[i + k]} lamp in this image? Please answer yes or no."
                rows.append({"index": len(rows), "question": text, "answer": answer, **image})
    table(root / "MME.tsv", rows)


def hallusion(root: Path) -> None:
    """The index ends in set, figure and question; of the category "VS", figure 0 has no image (the question is about the words alone)."""
    rows: list[dict[str, Any]] = []
    for category, topic in (("VD", "illusion"), ("VD", "math"), ("VS", "chart")):
        for group in range(3):
            for figure in range(2):
                for k in range(2):
                    row = {
                        "index": f"HB_{category}_{topic}_{group}_{figure}_{k}",
                        "question": f"Is the {THINGS[k]} line of plot {group} longer than the {THINGS[figure + 3]} line?",
                        "answer": "Yes" if (group + figure + k) % 2 else "No",
                        "category": category,
                        "l2-category": topic,
                    }
                    rows.append(row | {"image": "" if category == "VS" and figure == 0 else picture(600 + 10 * group + figure)})
    table(root / "HallusionBench.tsv", rows)


def yes_no(root: Path) -> None:
    """POPE (commas join categories), AMBER (kinds of hallucination), VSR-zeroshot, and `MadeYesNo`, which VLMEvalKit does not know."""
    joined = ("random", "popular,random", "adversarial,popular,random")
    kinds = ("discriminative-attribute-state", "discriminative-hallucination", "relation", "discriminative-attribute-number")
    of_table = {"POPE": joined, "AMBER": kinds, "VSR-zeroshot": ("left of",), "MadeYesNo": ("odd", "even")}
    for name, categories in of_table.items():
        answers = ("yes", "no") if name == "AMBER" else ("Yes", "No")
        rows = [
            {
                "index": i,
                "question": f"Is there a {THINGS[i % 12]} chair {i} in image {i // 2} of {name}?",
                "answer": answers[i % 3 == 0],
                "category": categories[i * i % 7 % len(categories)],
                "image_path": f"{i // 2}.png",
                "image": picture(400 + i // 2),
            }
            for i in range(18)
        ]
        table(root / f"{name}.tsv", rows)


def mmbench_cn(root: Path) -> None:
    """MMBench_DEV_CN: as MMBench_DEV_EN, in Chinese."""
    rows = []
    for i in range(6):
        texts = [f"{thing}材料{i}" for thing in ("铜", "木", "石", "棉")]
        for turn in range(4):
            turned = texts[turn:] + texts[:turn]
            row = {"index": 10 + i + turn * 10**6, "question": f"图{i}中是什么材料？", **dict(zip(LETTERS, turned, strict=False))}
            row |= {"answer": LETTERS[turned.index(texts[1])], "category": "attribute", "l2-category": "coarse", "split": "dev"}
            rows.append(row | {"image": picture(700 + i) if turn == 0 else str(10 + i)})
    table(root / "MMBench_DEV_CN.tsv", rows)


def ccbench(root: Path) -> None:
    """CCBench: four choices, turned round, with one split."""
    rows = []
    for i in range(5):
        texts = [f"{thing}楼{i}" for thing in ("钟", "鼓", "酒", "茶")]
        for turn in range(4):
            turned = texts[turn:] + texts[:turn]
            row = {"index": i + turn * 10**6, "question": f"第{i}图是什么楼？", **dict(zip(LETTERS, turned, strict=False))}
            row |= {"answer": LETTERS[turned.index(texts[i % 4])], "category": "historical figure"}
            rows.append(row | {"image": picture(750 + i) if turn == 0 else str(i)})
    table(root / "CCBench.tsv", rows)


def mmstar(root: Path) -> None:
    """MMStar: the choices stand in the question too; two levels of categories."""
    rows = [
        {"index": i, "question": question(i, "star"), **options(i + 70, 4), "answer": LETTERS[i * 3 % 4], "image": picture(980 + i)}
        | {"category": ("math", "logical reasoning")[i % 2], "l2_category": f"part {i % 3}", "bench": "MMMU"}
        for i in range(12)
    ]
    table(root / "MMStar.tsv", rows)


def scienceqa(root: Path) -> None:
    """ScienceQA_TEST: 2 to 5 choices, hints."""
    rows = []
    for i in range(12):
        row = {
            "index": i,
            "question": question(i, "lesson"),
            "hint": f"Look at\nlesson {i}." if i % 2 else "",
            **options(i + 40, 2 + i % 4),
        }
        rows.append(row | {"answer": LETTERS[i % 2], "image": picture(800 + i), "category": "natural science", "split": "test"})
    table(root / "ScienceQA_TEST.tsv", rows)


def open_answers(root: Path) -> None:
    """Open questions under VLMEvalKit's four rules, and under the exact rule of a table that it does not know."""
    ten = [{"answer": str([THINGS[i]] * 7 + ["nothing"] * 3)} for i in range(8)]
    relaxed = [{"answer": str([str(100 + i)])} for i in range(8)]
    near = [{"answer": str([f"{THINGS[i]} street", THINGS[i]])} for i in range(8)]
    one = [{"answer": THINGS[i], "category": "odd" if i % 2 else "even"} for i in range(8)]
    split = [row | {"split": "b" if i % 3 else "a"} for i, row in enumerate(one)]
    under = {"TextVQA_VAL": ten, "ChartQA_TEST": relaxed, "DocVQA_VAL": near, "InfoVQA_VAL": near, "GQA_TestDev_Balanced": split}
    under |= {"OCRVQA_TESTCORE": relaxed, "MadeOpen": one}
    for name, answers in under.items():
        rows = [{"index": i, "question": question(i, name), **answer, "image": picture(900 + i)} for i, answer in enumerate(answers)]
        table(root / f"{name}.tsv", rows)


def made_choice(root: Path) -> None:
    """Multiple choice that VLMEvalKit does not know; two images in a row, an image shared by two rows."""
    rows = [
        {"index": i, "question": question(i, "diary"), **options(i, 4), "answer": LETTERS[i % 4], "image": picture(950 + i)}
        for i in range(8)
    ]
    rows[1]["image"], rows[2]["image"] = "0", str([picture(1), picture(2)])
    table(root / "MadeChoice.tsv", rows)


def write_vqa(root: Path) -> None:
    for make in (mme, hallusion, yes_no, mmbench_cn, ccbench, scienceqa, mmstar, open_answers, made_choice):
        make(root)
    for name in ("mmmu", "mmbench", "seedbench", "ai2d"):
        MAKERS[name](root)


if __name__ == "__main__":
    write_vqa(Path(sys.argv[1]))
