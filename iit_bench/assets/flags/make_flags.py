"""Draw the flags as PNG files of 64 x 48 pixels, and list them in `flags.csv`. Run by hand; nothing else imports it.

    npm pack flag-icons@7.5.0 && tar xzf flag-icons-7.5.0.tgz
    pip install cairosvg==2.9.1 pillow
    python iit_bench/assets/flags/make_flags.py package/flags/4x3

Neither package is a dependency of iit-bench: the pictures are shipped. `README.md` beside this file has the origin and the licence. The
drawing depends on the version of cairo, so the files are what counts: `flags.csv` has their sha256.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from pathlib import Path

import cairosvg  # type: ignore[import-not-found]
from PIL import Image

HERE = Path(__file__).parent
SIZE = (64, 48)  # pixels
FINER = 4  # drawn so many times larger first: cairo's own smoothing loses thin lines


def codes() -> list[str]:
    """ISO 3166-1 alpha-2 codes of the countries that the facts table knows, sorted."""
    with (HERE.parent / "facts" / "facts.csv").open(encoding="utf-8", newline="") as file:
        names = {row["id"].partition("/")[2] for row in csv.DictReader(file)}
    return sorted(name for name in names if name.isalpha())


def drawn(svg: Path) -> bytes:
    """A flag as a PNG file: RGB, transparent parts on white."""
    large = cairosvg.svg2png(url=str(svg), output_width=SIZE[0] * FINER, output_height=SIZE[1] * FINER)
    rgba = Image.open(io.BytesIO(large)).convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    file = io.BytesIO()
    flat.resize(SIZE, Image.Resampling.BOX).save(file, "PNG", optimize=True)
    return file.getvalue()


def main(folder: Path) -> None:
    """Write a PNG file per country and flags.csv beside this file; print how many, and their size."""
    rows, size = [], 0
    for code in codes():
        data = drawn(folder / f"{code.lower()}.svg")
        (HERE / f"{code}.png").write_bytes(data)
        rows.append((code, hashlib.sha256(data).hexdigest()))
        size += len(data)
    with (HERE / "flags.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("code", "sha256"))
        writer.writerows(rows)
    print(f"{HERE}: {len(rows)} flags, {size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
