"""How long work tells a person how far it is, without knowing how that is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int], None]
"""``advance(count)``: so many more are done."""

Progress = Callable[[str, int | None], AbstractContextManager[Advance]]
"""``progress(what, total)``: a context manager that yields ``advance``; total None = unknown."""


@contextmanager
def silent(what: str, total: int | None) -> Iterator[Advance]:
    """Progress that is not shown."""
    yield lambda count: None
