"""The list of packages that `make dist` writes (SBOM, CycloneDX): the project itself, and each package as it is pinned."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cyclonedx_py", reason="pip install 'iit-bench[dist]'")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the line of the Makefile writes it, here of the environment of the tests instead of one with nothing but the wheel in it."""
    out = tmp_path_factory.mktemp("dist") / "sbom.cdx.json"
    (line,) = (line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if line.startswith("\t$(BIN)/cyclonedx-py "))
    places = {"dist/sbom.cdx.json": str(out), "build/user/bin/python": sys.executable}
    words = [places.pop(word, word) for word in shlex.split(line)[1:]]
    assert not places
    subprocess.run([sys.executable, "-m", "cyclonedx_py", *words], cwd=ROOT, check=True, timeout=600)
    return out


@pytest.fixture(scope="module")
def listed(sbom: Path) -> Any:
    return json.loads(sbom.read_text(encoding="utf-8"))


def normal(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_it_is_cyclonedx(sbom: Path, listed: Any) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert listed["bomFormat"] == "CycloneDX"
    version = SchemaVersion.from_version(listed["specVersion"])
    assert JsonStrictValidator(version).validate_str(sbom.read_text(encoding="utf-8")) is None


def test_it_names_the_project_and_all_that_is_installed(listed: Any) -> None:
    project = listed["metadata"]["component"]
    assert (project["name"], project["version"]) == ("iit-bench", re.search(r'version = "(.*?)"', (ROOT / "pyproject.toml").read_text())[1])
    found = {normal(one["name"]): one["version"] for one in listed["components"]}
    there = {normal(one.name): one.version for one in metadata.distributions(path=[p for p in sys.path if "-packages" in p])}
    there.pop("iit-bench", None)
    assert found == there and len(found) > 20


def test_versions_are_those_that_are_pinned(listed: Any) -> None:
    lines = (line.split(";")[0].strip() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
    pinned = {normal(name): version for name, _, version in (line.partition("==") for line in lines if "==" in line)}
    found = {normal(one["name"]): one["version"] for one in listed["components"] if normal(one["name"]) in pinned}
    assert found == {name: pinned[name] for name in found} and found


def test_every_package_has_an_address_that_scanners_know(listed: Any) -> None:
    named = {one["name"]: one["purl"].removeprefix("pkg:pypi/").split("@") for one in listed["components"]}
    wrong = [
        one
        for one in listed["components"]
        if [normal(part) for part in named[one["name"]]] != [normal(one["name"]), normal(one["version"])]
    ]
    assert not wrong


def test_nothing_in_it_differs_from_one_machine_or_hour_to_the_next(sbom: Path, listed: Any) -> None:
    text = sbom.read_text(encoding="utf-8")
    assert "serialNumber" not in listed and "timestamp" not in listed["metadata"]
    assert str(ROOT) not in text and "file://" not in text
