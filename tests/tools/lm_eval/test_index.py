"""Names of lm-eval: the index of a few folders knows what the whole index knows, and a name stands for the tasks it has in lm-eval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval.tasks import TaskManager

from iit_bench.errors import UserError
from iit_bench.tools.lm_eval.index import ROOT, _folder, expand, matched, read_index, whole_index


def write(folder: Path, name: str, config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a task of lm-eval's name, a group of it and one more, and a tag."""
    write(tmp_path, "arc_easy", {"task": "arc_easy", "dataset_path": "json", "description": "mine", "tag": "own_tag"})
    write(tmp_path, "more", {"task": "own_more", "dataset_path": "json", "tag": "own_tag"})
    write(tmp_path, "group", {"group": "own_group", "task": ["arc_easy", {"task": "own_more", "num_fewshot": 2}]})
    return tmp_path


def tags_inside(name: str, entries: dict[str, Any]) -> set[str]:
    """Names of the tags in a group and its groups."""
    listed = entries[name].cfg["task"]
    members = [one for one in ([listed] if isinstance(listed, str) else listed) if isinstance(one, str) and one in entries]
    groups = [one for one in members if entries[one].kind.name == "GROUP"]
    return {one for one in members if entries[one].kind.name == "TAG"}.union(*(tags_inside(group, entries) for group in groups))


def test_a_tag_inside_a_group_of_lm_eval_has_its_tasks_in_the_groups_folder() -> None:
    """This is why a group is read from its folder, and a tag that is asked for by name from the whole index."""
    entries = whole_index().task_index
    seen = 0
    for group in (name for name, entry in entries.items() if entry.kind.name == "GROUP"):
        folder = _folder(group)
        for tag in tags_inside(group, entries):
            inside = [folder in entries[task].yaml_path.parents for task in entries[tag].tags]
            assert all(inside) or not any(inside), (group, tag)
            seen += all(inside)
    assert seen > 10


@pytest.mark.slow
def test_a_group_is_read_from_its_folder_and_has_all_its_tasks() -> None:
    few = read_index(["mmlu"])
    assert len(few.task_index) < 1000 < len(whole_index().task_index)
    assert len(expand("mmlu")) == 57
    assert len(expand("cmmlu")) == 67
    assert list(expand("mmlu_anatomy")) == ["mmlu_anatomy"]


def test_a_tag_has_its_tasks_in_all_folders() -> None:
    theirs = whole_index().task_index["mgsm_direct"].tags
    assert len({whole_index().task_index[task].yaml_path.relative_to(ROOT).parts[0] for task in theirs}) > 1
    assert read_index(["mgsm_direct"]).task_index["mgsm_direct"].tags == theirs
    assert set(expand("mgsm_direct")) == theirs


@pytest.mark.parametrize("names", [["arc_easy"], ["arc_easy", "ai2_arc"]], ids=["one folder", "the whole index"])
def test_own_tasks_win_over_lm_evals_of_the_same_name(names: list[str], own: Path) -> None:
    index = read_index(names, [own])
    assert index.task_index["arc_easy"].cfg["description"] == "mine"
    assert index.task_index["arc_challenge"].yaml_path.parent == ROOT / "arc"
    assert set(names) <= set(index.all_tasks)


def test_own_names_are_found_as_lm_eval_finds_them(own: Path) -> None:
    theirs = TaskManager(include_path=str(own), include_defaults=False).task_index
    ours = read_index(["own_group", "own_more"], [own]).task_index
    assert {name: (entry.kind, entry.cfg, entry.tags) for name, entry in ours.items() if "own" in name} == {
        name: (entry.kind, entry.cfg, entry.tags) for name, entry in theirs.items() if "own" in name
    }


def test_patterns_stand_for_what_they_match_and_each_name_counts_once(own: Path) -> None:
    index = read_index(["own_more"], [own])
    assert matched(["own_*", "own_more", "arc_?asy"], index) == ["own_group", "own_more", "own_tag", "arc_easy"]


def test_an_unknown_name_is_rejected_with_the_nearest(own: Path) -> None:
    index = read_index(["own_more"], [own])
    with pytest.raises(UserError, match="there is no lm-eval task, group, tag or preset called 'own_mor'; did you mean 'own_more'"):
        matched(["own_mor"], index)
    with pytest.raises(UserError, match="called 'some_set'; did you mean 'some-set'"):
        matched(["some_set"], index, ["some-set"])
    with pytest.raises(UserError, match="called 'zzzzzz'; `lm_eval ls tasks` lists lm-eval's"):
        matched(["zzzzzz"], index)
    with pytest.raises(UserError, match="there is no lm-eval task, group or tag called 'mmlu_anatomyy'; did you mean 'mmlu_anatomy'"):
        expand("mmlu_anatomyy")


@pytest.mark.slow
def test_a_group_that_defines_a_task_in_place_is_not_expanded() -> None:
    entries = whole_index().task_index
    group = next(
        name
        for name, entry in sorted(entries.items())
        if entry.kind.name == "GROUP" and any(isinstance(member, dict) for member in entry.cfg["task"])
    )
    with pytest.raises(UserError, match="defines a task in place, which has no name to load it by"):
        expand(group)


def test_a_loaded_index_gives_what_it_has_loaded(own: Path) -> None:
    index = read_index(["own_more"], [own])
    index.loaded = {"tasks": {"x": None}}
    assert index.load(["own_more"]) == {"tasks": {"x": None}}
