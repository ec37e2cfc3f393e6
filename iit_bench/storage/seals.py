"""Seals of JSON files: a checksum over the content, in the field `seal` at its end, so that a changed value is seen when a file is read.

`seal` is the sha256, in hexadecimal, of the content without that field as canonical JSON (`tables.canonical_json`): a tool that only
formats a file anew leaves it whole. Files of versions before seals have none; `format.read_header` says which have to have one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from iit_bench.storage.tables import canonical_json

SEAL = "seal"


def sealed(body: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a JSON file with its seal, which is the last field. Raises ValueError for NaN and infinities."""
    content = {name: value for name, value in body.items() if name != SEAL}
    return content | {SEAL: _seal_of(json.loads(json.dumps(content)))}  # as it will be read: keys are texts, tuples are lists


def is_whole(body: Mapping[str, Any]) -> bool:
    """Whether the content that was read from a JSON file is what was sealed; of one without a seal, that nothing says otherwise."""
    return SEAL not in body or _seal_of({name: value for name, value in body.items() if name != SEAL}) == body[SEAL]


def _seal_of(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode("utf-8", "surrogatepass")).hexdigest()
