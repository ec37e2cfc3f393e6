"""Files as lmms-eval 0.7.3 writes them are read as figures with intervals.

`tests/data` holds none of its files: they are made here as its EvaluationTracker makes them (`resps` left out where equal to
`filtered_resps`, `doc` and `arguments` removed, the date before the name).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from statsmodels.stats.proportion import proportion_confint

from evaluators.runs.reading import read_runs
from iit_bench.errors import UserError
from reports.leaderboard import report

RIGHT = [1, 0, 1, 1, 0, 1, 1, 0, 1, 1]
DATE = "20260102_030405"


def write(folder: Path, samples: bool = True, **more: Any) -> Path:
    """A results file of two tasks: a list of 0/1, and a task whose samples hold their score in a record, in percent."""
    home = folder / "org__model"
    home.mkdir(parents=True)
    mean = sum(RIGHT) / len(RIGHT)
    rows = {"a_bench": {"acc,none": mean, "acc_stderr,none": 0.15, "acc_stderr_clt,none": 0.1528, "samples": 10, "alias": "a_bench"}}
    rows["b_bench"] = {"b_score,none": 100 * mean, "b_score_stderr,none": "N/A", "alias": "b_bench"}
    sizes = {"original": 50, "effective": len(RIGHT)}
    content = {
        "results": rows,
        "configs": {"a_bench": {"output_type": "generate_until"}, "b_bench": {"output_type": "generate_until"}},
        "versions": {"a_bench": "Yaml", "b_bench": 0.0},
        "n-shot": {"a_bench": 0, "b_bench": 0},
        "n-samples": {"a_bench": sizes, "b_bench": sizes},
        "higher_is_better": {"a_bench": {"acc": True}, "b_bench": {"b_score": True}},
        "config": {"model": "llava_hf", "model_args": "pretrained=org/model", "limit": 10.0, "gen_kwargs": "temperature=0"},
        "lmms_eval_version": "0.7.3",
        "model_name": "org/model",
        "total_evaluation_time_seconds": "12.5",
        **more,
    }
    path = home / f"{DATE}_results.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    for task in rows if samples else ():
        with (home / f"{DATE}_samples_{task}.jsonl").open("w", encoding="utf-8") as file:
            for place, right in enumerate(RIGHT):
                line: dict[str, Any] = {
                    "doc_id": place,
                    "target": "A",
                    "filtered_resps": "A" if right else "<script>alert",
                    "doc_hash": f"h{place}",
                }
                line |= {"token_counts": [None], "input": "Which?", "input_media": [{"type": "image"}]}
                line |= {"acc": float(right)} if task == "a_bench" else {"b_score": {"question_id": place, "score": float(right)}}
                line |= {"resps": ["the answer is A"]} if place == 0 else {}
                file.write(json.dumps(line) + "\n")
    return path


@pytest.mark.oracle
def test_a_mean_of_samples_has_wilsons_interval(tmp_path):
    (run,) = read_runs(write(tmp_path))
    figure = run.results.tasks[0].scores["acc"]
    assert (figure.value, figure.n, figure.method) == (pytest.approx(0.7), 10, "wilson")
    assert (figure.low, figure.high) == pytest.approx(proportion_confint(sum(RIGHT), len(RIGHT), method="wilson"))
    assert (run.run["tool"], run.run["suite"], run.run["model"]["name"], run.run["limit"]) == ("lmms-eval 0.7.3", "vqa", "org/model", 10.0)


def test_a_score_in_percent_has_the_interval_in_percent(tmp_path):
    (run,) = read_runs(write(tmp_path))
    acc, score = (run.results.tasks[place].scores[name] for place, name in enumerate(("acc", "b_score")))
    assert (score.value, score.low, score.high) == pytest.approx((100 * acc.value, 100 * acc.low, 100 * acc.high))
    assert run.results.tasks[1].best is None


def test_items_have_the_reply_as_it_was_generated(tmp_path):
    (run,) = read_runs(write(tmp_path).parent)
    mine = [item for item in run.items if item.task == "a_bench"]
    assert [item.reply for item in mine[:3]] == ["the answer is A", "<script>alert", "A"]
    assert [item.outcome for item in mine] == ["correct" if right else "wrong" for right in RIGHT]


def test_without_samples_the_interval_comes_from_the_standard_error(tmp_path):
    (run,) = read_runs(write(tmp_path, samples=False))
    figure = run.results.tasks[0].scores["acc"]
    assert figure.from_stderr and figure.low < 0.7 < figure.high and run.items == []
    assert "--log_samples" in run.results.tasks[0].notes[0]
    assert run.results.tasks[1].scores["b_score"].low is None


def test_the_page_says_what_the_files_lack(tmp_path):
    page = report([write(tmp_path / "out")], tmp_path / "report").read_text()
    assert "lmms-eval 0.7.3" in page and "do not name the pictures" in page and "<script>alert" not in page


def test_a_damaged_file_is_one_sentence(tmp_path):
    path = write(tmp_path)
    (path.parent / f"{DATE}_samples_a_bench.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"line 1 of .* is no sample of lmms-eval"):
        read_runs(path)
    with pytest.raises(UserError, match="is damaged"):
        read_runs(write(tmp_path / "other", **{"n-samples": {"a_bench": 3}}))
