"""What `make dist` makes: the same bytes from the same files, whole, licensed, and at work outside the repository."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_sdist, build_wheel

from tests import warm_processes

ROOT = Path(__file__).parents[2]
PACKAGES = ("iit_bench", "builders", "evaluators", "reports")
OTHER = ("pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt")
LEFT = shutil.ignore_patterns("__pycache__", "*.safetensors")  # weights take seconds to pack, and say nothing of order or times

pytestmark = pytest.mark.slow


def pack(source: Path, out: Path) -> tuple[Path, Path]:
    """Wheel and sdist of a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(source)
        return out / build_wheel(str(out)), out / build_sdist(str(out))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository."""
    out = tmp_path_factory.mktemp("dist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return out / build_wheel(str(out))


def test_the_same_files_give_the_same_wheel_and_sdist(tmp_path: Path) -> None:
    """Of two copies, the second written in another order, at another time and with other permissions."""
    packed = []
    for number in range(2):
        folder, out = tmp_path / f"source-{number}", tmp_path / f"dist-{number}"
        folder.mkdir()
        out.mkdir()
        for package in PACKAGES[:: -1 if number else 1]:
            shutil.copytree(ROOT / package, folder / package, ignore=LEFT)
        for name in OTHER:
            shutil.copy(ROOT / name, folder / name)
        for path in folder.rglob("*.py") if number else ():
            os.utime(path, (1_500_000_000, 1_500_000_000))
            path.chmod(0o600)
        packed.append(pack(folder, out))
    (first, source), (again, source_again) = packed
    assert first.read_bytes() == again.read_bytes() and source.read_bytes() == source_again.read_bytes()
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*OTHER, "iit_bench/py.typed", "iit_bench/assets/facts/facts.csv", "reports/templates/page.html"} <= names


def test_the_wheel_has_each_file_of_the_four_packages(wheel: Path) -> None:
    wanted = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()}
    wanted = {name for name in wanted if "__pycache__" not in name}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == wanted and len(names) > 500


def test_licences_of_all_that_is_bundled_are_in_the_wheel(wheel: Path) -> None:
    """The trained models have the project's own, as their README says."""
    names = zipfile.ZipFile(wheel).namelist()
    listed = {name.partition("/licenses/")[2] for name in names if ".dist-info/licenses/" in name}
    assert {"LICENSE", "iit_bench/assets/fonts/LICENSE_DEJAVU", "iit_bench/assets/flags/LICENSE_FLAG_ICONS"} <= listed
    assets = {name.split("/")[2] for name in names if name.startswith("iit_bench/assets/") and name.count("/") > 2}
    licensed = {name.split("/")[2] for name in names if name.startswith("iit_bench/assets/") and "/LICENSE" in name}
    assert assets - licensed == {"models"}
    assert "Weights: Apache-2.0" in (ROOT / "iit_bench" / "assets" / "models" / "README.md").read_text(encoding="utf-8")


def test_the_wheel_works_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    """Builds, evaluates and reports from the wheel's own files, in a process that finds no other copy first."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    script = (
        "import iit_bench, reports, json; from iit_bench.cli import main\n"
        "codes = [main('build --size 4 --tiers T,V,TV --out bench'.split()),\n"
        "         main('eval --model base-llm --bench bench --out runs/base-llm'.split()),\n"
        "         main('report runs/base-llm --out report'.split())]\n"
        "print(json.dumps([iit_bench.__file__, reports.__file__, codes]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", script]
    done = warm_processes.run(command, cwd=tmp_path, env=environment, preload=warm_processes.MODELS)  # none of ours is among them
    assert done.returncode == 0, done.stderr
    first, second, codes = json.loads(done.stdout.splitlines()[-1])
    assert Path(first).is_relative_to(site) and Path(second).is_relative_to(site)
    assert codes == [0, 0, 0] and (tmp_path / "report" / "index.html").stat().st_size > 5_000
