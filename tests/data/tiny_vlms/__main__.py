"""`python tests/data/tiny_vlms OUT TOKENIZER_FOLDER [NAME ...]`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tiny_vlms import FAMILIES, REFUSED, Maker

out, tokenizer, *names = sys.argv[1:]
failed = []
for family in (*FAMILIES, *REFUSED):
    if names and family.name not in names:
        continue
    try:
        family.make(Maker(Path(out), Path(tokenizer)))
        print(family.name)
    except Exception as error:  # noqa: BLE001 - each family is tried; the names that failed are the exit status
        failed.append(family.name)
        print(f"{family.name}: {type(error).__name__}: {error}", file=sys.stderr)
sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
