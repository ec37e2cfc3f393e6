"""The paper preset, whole, on small files in the real schemas, through lm-eval's own task files."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from builders.build import BuildOptions, build
from iit_bench.storage.benchmark import Benchmark, load_benchmark
from iit_bench.tools.lm_eval.index import expand
from iit_bench.types import IMAGE_MARK

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory, makers: dict[str, Any]) -> Benchmark:
    root = tmp_path_factory.mktemp("paper")
    subjects = {group: [name.removeprefix(f"{group}_") for name in expand(group)] for group in ("mmlu", "cmmlu")}
    makers["write_all"](root / "data", subjects["mmlu"], subjects["cmmlu"], 2)
    options = BuildOptions(out=root / "bench", preset="paper", size=16, tiers="paper", data_root=root / "data")
    return load_benchmark(build(options))


def test_all_eight_sources_give_the_same_number_of_targets(paper: Benchmark) -> None:
    targets = Counter(paper.questions[name].source for name in {dialogue.target for dialogue in paper.dialogues})
    assert len(targets) == 8
    assert set(targets.values()) == {4}
    assert paper.manifest["default_style"] == "letters"
    assert set(paper.tiers) == {"T", "TT", "TTT", "TTV", "TV", "V"}


def test_every_subject_of_a_group_is_read(paper: Benchmark) -> None:
    sources = paper.manifest["sources"]
    assert sources["lm-eval:mmlu"]["usable"] == 57 * 2
    assert sources["lm-eval:cmmlu"]["usable"] == 67 * 2
    assert set(sources["lm-eval:mmlu"]["targets_by_subject"]) <= {name.removeprefix("mmlu_") for name in expand("mmlu")}


def test_what_the_tables_could_not_give_is_counted(paper: Benchmark) -> None:
    left_out = {name: entry["left_out"] for name, entry in paper.manifest["sources"].items()}
    assert left_out["vlmeval:SEEDBench_IMG"] == {"answer outside the choices": 1, "no answer": 1, "unreadable image": 1}
    assert left_out["vlmeval:MMBench_DEV_EN"] == {"circular copy": 28}
    assert left_out["vlmeval:MMMU_DEV_VAL"]["of another split (dev)"] == 3


def test_images_reach_the_folder_decodable_and_marked(paper: Benchmark) -> None:
    from io import BytesIO

    from PIL import Image as Pillow

    seen = [q for q in paper.questions.values() if q.modality == "V"]
    for q in seen:
        assert q.question.count(IMAGE_MARK) in (0, len(q.images))
        for image in q.images:
            Pillow.open(BytesIO(image.data)).load()
    assert any(IMAGE_MARK in q.question for q in seen)
    assert {q.language for q in paper.questions.values()} == {"en", "zh"}
