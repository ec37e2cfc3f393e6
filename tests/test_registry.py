"""Names → models and sources: built-ins, prefixes, and what third parties add by entry point."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from builders.sources.base import SourceOptions, load_source
from iit_bench import registry
from iit_bench.errors import UserError
from iit_bench.models.baselines import RandomModel
from iit_bench.models.contract import ModelOptions
from iit_bench.models.load import load_model

THIRD_PARTY = """
from iit_bench.models.baselines import RandomModel

def load(name, options):
    return RandomModel(name, options)

def source(name, options):
    return ("source", name, options)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install("[group]\\nname = module:function") puts a package with these entry points on the path, as pip would."""

    def put(entry_points: str) -> Path:
        info = tmp_path / "third_party-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        (tmp_path / "third_party.py").write_text(THIRD_PARTY)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "third_party", raising=False)
        return tmp_path

    return put


def test_third_party_model_is_found_by_its_entry_point(install):
    assert "mine" not in registry.list_models()
    install("[iit_bench.models]\nmine = third_party:load\nlab: = third_party:load\n")
    assert registry.list_models()["mine"] == "third_party:load"
    model = load_model("mine", ModelOptions(seed=4))
    assert isinstance(model, RandomModel)
    assert (model.info.name, model.seed) == ("mine", 4)
    assert load_model("lab:v2", ModelOptions()).info.name == "lab:v2"
    assert load_model("mine", ModelOptions(), blind=True).info.blind


def test_third_party_source_is_found_by_its_entry_point(install):
    install("[iit_bench.sources]\nmydata = third_party:source\n")
    options = SourceOptions()
    assert load_source("mydata", options) == ("source", "mydata", options)
    assert "mydata" in registry.list_sources()


def test_built_in_name_cannot_be_taken(install):
    install("[iit_bench.models]\nrandom = third_party:missing\n")
    assert isinstance(load_model("random", ModelOptions()), RandomModel)
    assert registry.list_models()["random"] == registry.MODELS["random"]


@pytest.mark.parametrize("target", ["third_party:missing", "no_such_package:load"])
def test_broken_entry_point_is_one_sentence_and_listed_all_the_same(install, target):
    install(f"[iit_bench.models]\nbroken = {target}\n")
    assert registry.list_models()["broken"] == target
    with pytest.raises(UserError, match=f"'broken' of entry point '{target}' cannot be imported"):
        load_model("broken", ModelOptions())


@pytest.mark.parametrize(
    ("name", "hint"), [("randon", "did you mean 'random'"), ("wing", "did you mean 'wings'"), ("", "There is no model called ''")]
)
def test_unknown_model_names_the_nearest_and_where_to_look(name, hint):
    with pytest.raises(UserError, match=hint) as caught:
        load_model(name, ModelOptions())
    assert "`iit-bench list models`" in str(caught.value)


@pytest.mark.parametrize("name", ["fact", "lm_eval:x"])
def test_unknown_source_is_refused(name):
    with pytest.raises(UserError, match="There is no source called"):
        load_source(name, SourceOptions())


def test_prefix_without_a_name_is_refused():
    with pytest.raises(UserError, match="source 'lm-eval:' is a prefix; put a name after the colon"):
        load_source("lm-eval:", SourceOptions())
    with pytest.raises(UserError, match="model 'hf:' is a prefix"):
        load_model("hf:", ModelOptions())


def test_longest_prefix_wins():
    assert registry.match("lab:x:y", {"lab:": 1, "lab:x:": 2, "lab": 3}) == "lab:x:"
    assert registry.match("lab:", {"lab:": 1}) is None
    assert registry.match("laboratory", {"lab": 1}) is None


def test_every_built_in_place_exists():
    import importlib

    for place in (*registry.MODELS.values(), *registry.SOURCES.values()):
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("name", ["../m/qwen3", "/models/qwen3", "~/models/qwen3", "Qwen/Qwen3-0.6B", "./wings"])
def test_a_path_or_hub_id_in_place_of_a_model_is_told_to_use_hf(name):
    """`--model ../m/qwen3` suggested names that look alike; a folder or Hub id is a checkpoint, which `hf:` loads."""
    with pytest.raises(
        UserError, match=re.escape(f"There is no model called {name!r}; for a checkpoint, a folder or Hub id, use hf:{name}.")
    ):
        load_model(name, ModelOptions())


def test_a_folder_of_the_working_directory_is_told_to_use_hf(tmp_path, monkeypatch):
    """A folder without a slash in its name is recognised as well; a name that is mistyped still gets the nearest one."""
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="use hf:my-model"):
        load_model("my-model", ModelOptions())
    with pytest.raises(UserError, match="did you mean 'wings'"):
        load_model("wingz", ModelOptions())
    with pytest.raises(UserError, match="did you mean 'openai:'"):
        load_model("openia:a/b", ModelOptions())
