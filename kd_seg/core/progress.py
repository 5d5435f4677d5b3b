"""How long work tells a person how far it is, without knowing how that is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")

Advance = Callable[[int], None]
"""``advance(count)``: so many more are done."""

Progress = Callable[[str, int | None], AbstractContextManager[Advance]]
"""``progress(what, total)``: a context manager that yields ``advance``; total None = unknown."""


class Track(Protocol):
    """``for item in track(items, what)``: the items, with progress."""

    def __call__(self, items: Iterable[T], what: str) -> Iterable[T]:
        """The items one after the other."""
        ...


@contextmanager
def silent(what: str, total: int | None) -> Iterator[Advance]:
    """Progress that is not shown."""
    yield lambda count: None


def untracked(items: Iterable[T], what: str) -> Iterable[T]:
    """The items, without showing progress."""
    return items
