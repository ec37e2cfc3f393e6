"""How the measuring scripts of this folder print their figures."""

from __future__ import annotations

from typing import Any


def as_table(results: dict[str, Any], depth: int = 0) -> str:
    """Nested results as indented lines, one per number."""
    lines = []
    for name, value in results.items():
        if isinstance(value, dict):
            lines += [f"{'  ' * depth}{name}", as_table(value, depth + 1)]
        else:
            shown = f"{value:14,.4g}" if isinstance(value, float) else str(value)
            lines.append(f"{'  ' * depth}{name:{44 - 2 * depth}} {shown}")
    return "\n".join(lines)
