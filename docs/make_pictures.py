"""Takes the pictures of the pages that README.md and the documentation show, of the report of a demo.

    make demo && python docs/make_pictures.py demo

It needs Playwright (PyPI's `playwright`) and Debian's Chromium; both are what the tests marked `browser` use.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from iit_bench.errors import UserError  # noqa: E402 - run as a script, the package may not be installed
from reports import links  # noqa: E402

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
SEEN = "() => [...document.images].every((image) => image.complete || image.getBoundingClientRect().top > innerHeight)"
LARGEST = 300_000  # bytes of a picture
FORGETS = "llava-one-rate"  # the run of the demo that loses most
# Picture → page of the report, width and height in pixels.
PICTURES: dict[str, tuple[str, int, int]] = {
    "leaderboard.png": (links.INDEX, 1180, 1330),
    "model-page.png": (links.model(FORGETS), 1180, 1400),
    "side-by-side.png": (links.pair("base-llm", FORGETS), 1180, 1250),
    "explorer.png": (links.samples(FORGETS, arm="irrelevant", change="lost"), 1280, 1240),
}


def take(demo: Path, folder: Path = HERE) -> list[Path]:
    """Write every picture into a folder, and return their paths.

    Args:
        demo: the folder of `iit-bench demo`, run without a limit.
        folder: where the pictures go.

    Raises:
        UserError: the demo has no such page, a page reports an error, a picture is too large, or Playwright or Chromium is not there.
    """
    report = demo / "report"
    if missing := [page for page, _, _ in PICTURES.values() if not (report / page.partition("#")[0]).is_file()]:
        raise UserError(f"{str(report)!r} has no {missing[0]}; run `make demo` first and give its folder")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UserError("playwright is not installed; pip install playwright") from error
    if not CHROMIUM.exists():
        raise UserError(f"Chromium is not at {CHROMIUM}; apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        made = [_take(browser, report, name, folder) for name in PICTURES]
        browser.close()
    return made


def _take(browser: Any, report: Path, name: str, folder: Path) -> Path:
    place, width, height = PICTURES[name]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    file, _, address = place.partition("#")
    page.goto((report / file).resolve().as_uri() + (f"#{address}" if address else ""))
    if file == links.SAMPLES:
        page.wait_for_selector("#detail .chat")
    page.wait_for_function(SEEN)
    data = page.screenshot()
    page.close()
    if said:
        raise UserError(f"page {place} said: {said[0]}")
    if len(data) > LARGEST:
        raise UserError(f"{name} has {len(data):,} bytes, more than {LARGEST:,}; make it smaller in PICTURES")
    path = folder / name
    path.write_bytes(data)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/make_pictures.py DEMO")
    try:
        for written in take(Path(sys.argv[1])):
            print(written)
    except UserError as problem:
        sys.exit(f"error: {problem}")
