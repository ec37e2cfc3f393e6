"""A table that names pictures by path cannot show a model other files of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from iit_bench.errors import UserError


@pytest.mark.parametrize("name", ["SECRET", "../secret.png", "images/T/../../../secret.png", "link.png"])
def test_a_picture_outside_the_tables_folder_is_refused(tmp_path: Path, monkeypatch, name: str) -> None:
    from evaluators.vqa.datasets import LMU
    from evaluators.vqa.worker import refuse_pictures_elsewhere

    scratch, data = tmp_path / "run/.vlmeval.x.partial", tmp_path / "data"
    scratch.mkdir(parents=True)
    (data / "images/T").mkdir(parents=True)
    for path in (tmp_path / "secret.png", data / "images/T/own.png"):
        path.write_bytes(b"picture")
    (data / "link.png").symlink_to(tmp_path / "secret.png")
    (data / "T.tsv").write_text("index")
    monkeypatch.chdir(scratch)
    LMU.mkdir()
    (LMU / "T.tsv").symlink_to(data / "T.tsv")
    (LMU / "images").symlink_to(data / "images")
    (LMU / "decoded.png").write_bytes(b"picture")
    for own in (str(LMU / "images/T/own.png"), str(data / "images/T/own.png"), str(LMU / "decoded.png"), "not-there.png"):
        refuse_pictures_elsewhere([{"type": "text", "value": "../secret.png"}, {"type": "image", "value": own}], "7", "T")
    value = str(tmp_path / "secret.png") if name == "SECRET" else str(data / name)
    with pytest.raises(UserError, match=r"row '7' of table 'T.tsv' names the image .*, outside its folder"):
        refuse_pictures_elsewhere([{"type": "image", "value": value}], "7", "T")
