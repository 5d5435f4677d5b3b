"""The pages of the repository and the fenced blocks in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^ *```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^ *```$", flags=re.DOTALL | re.MULTILINE)
"""Language, title and text of a fenced block."""


def fences(path: Path) -> list[tuple[str, str, str]]:
    """(language, title, text) of every fenced block of a page; "" without language or title."""
    return FENCE.findall(path.read_text(encoding="utf-8"))


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """(title, text) of the fenced blocks of a page of docs/ in one language."""
    return [(title, text) for kind, title, text in fences(DOCS / page) if kind == language]
