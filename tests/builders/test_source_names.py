from __future__ import annotations

import pytest

from builders.sources.base import SourceOptions, StoredImage, load_source
from iit_bench.errors import UserError
from iit_bench.registry import list_sources
from iit_bench.storage.format import files_sha256
from iit_bench.types import Image


def test_built_in_sources_are_listed_first() -> None:
    assert list(list_sources())[:3] == ["facts", "two-hop", "easyvqa"]


@pytest.mark.parametrize("name", ["lm-eval:", "lm-eval", "Facts", "facts:x", ""])
def test_a_bare_prefix_or_another_spelling_is_no_name(name: str) -> None:
    with pytest.raises(UserError, match="list sources") as caught:
        load_source(name, SourceOptions())
    assert repr(name) in str(caught.value)


def test_a_stored_image_equals_the_image_it_stands_for() -> None:
    whole = Image(b"bytes of a picture")
    reads = []
    stored = StoredImage(whole.sha256, lambda: reads.append(1) or whole.data)  # type: ignore[func-returns-value]
    assert stored == whole
    assert stored.sha256 == whole.sha256
    assert not reads
    assert stored.data == whole.data
    assert reads == [1]


def test_the_hash_of_several_files_does_not_depend_on_their_order(tmp_path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    paths = [tmp_path / "a", tmp_path / "b"]
    assert files_sha256(paths) == files_sha256(paths[::-1]) != files_sha256(paths[:1])
