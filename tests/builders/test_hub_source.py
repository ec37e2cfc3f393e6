"""`hub:ORG/NAME` without a data root: the real client of the Hub, against the loopback server of the tests of `iit-bench fetch`."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from builders.sources.base import SourceOptions, load_source
from iit_bench.errors import UserError

_CONFTEST = runpy.run_path(str(Path(__file__).parents[1] / "evaluators" / "fetch" / "conftest.py"))
published, server = _CONFTEST["published"], _CONFTEST["server"]  # fixtures
COLUMNS = "question=question_stem,choices=choices.text,labels=choices.label,answer=answerKey"

pytestmark = pytest.mark.slow


def test_a_data_set_of_the_hub_is_its_own_files_with_commit_and_licence(server: Any, published: Path) -> None:
    source = load_source("hub:allenai/openbookqa:main", SourceOptions(columns=(COLUMNS,)))
    local = load_source("hub:allenai/openbookqa:main", SourceOptions(columns=(COLUMNS,), data_root=published / "hub"))
    assert source.questions == local.questions
    assert len(source.questions) == 6
    assert (source.split, source.sha256, source.answers) == ("test", local.sha256, "label")
    assert (source.revision, source.origin) == (server.commit("allenai/openbookqa"), "allenai/openbookqa")
    lm_eval = load_source("lm-eval:openbookqa", SourceOptions(data_root=published / "hub"))  # the same data through lm-eval's own task
    assert [(q.question, q.choices, q.answer) for q in source.questions] == [(q.question, q.choices, q.answer) for q in lm_eval.questions]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hub:allenai/nothing", "cannot read the Hub's data set 'allenai/nothing'"),
        ("hub:allenai/openbookqa@nowhere:main", "at revision 'nowhere'"),
        ("hub:allenai/openbookqa:main:dev", "no parquet, json or csv file of split 'dev' of configuration 'main'"),
    ],
)
def test_what_the_hub_does_not_have_is_one_sentence(server: Any, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_source(name, SourceOptions(columns=(COLUMNS,)))
    assert "\n" not in str(caught.value)
