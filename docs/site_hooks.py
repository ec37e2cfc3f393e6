"""Hooks of mkdocs: pages of the repository's root join the site, and links to source files become plain text there.

On a forge the pages are read as they are: their links lead to files of the repository. The site has no source files, and it must not point
to an address that a reader without network access cannot open.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
ROOT_PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|`[^`]*`)+)\]\(([^()\s]+)\)")
_FOREIGN = re.compile(r"<(?:script|link|img|iframe|source|video|audio)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^>]*>")
_LOG = logging.getLogger("mkdocs.hooks")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the root's pages as project/NAME."""
    for name in ROOT_PAGES:
        files.append(File.generated(config, f"project/{name}", content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Rewrite links that leave docs/: to a root page's place on the site, or to the link's text where the target is not on the site."""
    source = page.file.src_uri
    place = source.removeprefix("project/") if source.startswith("project/") else f"docs/{source}"

    def rewritten(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, mark, anchor = target.partition("#")
        if "://" in target or target.startswith(("mailto:", "#")) or not path:
            return match[0]
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
        inside = f"project/{whole}" if whole in ROOT_PAGES else "index.md" if whole == "README.md" else whole.removeprefix("docs/")
        if files.get_file_from_path(inside) is None:
            return text
        return f"[{text}]({posixpath.relpath(inside, posixpath.dirname(source) or '.')}{mark}{anchor})"

    pieces, end = [], 0
    for fence in _FENCE.finditer(markdown):
        pieces += [_LINK.sub(rewritten, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, _LINK.sub(rewritten, markdown[end:])])


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Warn, which `--strict` refuses, of anything that a browser would load from another host."""
    for tag in _FOREIGN.findall(output):
        _LOG.warning("%s loads from another host: %s", page.file.src_uri, tag)
    return output
