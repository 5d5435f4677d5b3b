"""Names for the things a user may add: objectives, networks, grids, image teachers, point-file formats.

A new kind is one new file in the registry's package; it registers itself with a decorator, and is found because the
registry imports every module of that package when a name is first looked up.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from kd_seg.core.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from names to classes or functions, filled by the modules of one package.

    Args:
        kind: what the table holds, as error messages call it ("objective").
        package: dotted name of the package whose modules register themselves.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files its argument under ``name``; a name taken twice is a programming error."""

        def file(entry: T) -> T:
            if name in self._entries and self._entries[name] is not entry:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return file

    def get(self, name: str) -> T:
        """The entry called ``name``; raises ConfigError naming the nearest known one."""
        self._load()
        try:
            return self._entries[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self.names())}."
            raise ConfigError(f"There is no {self.kind} called {name!r}; {hint}") from None

    def names(self) -> list[str]:
        """All known names, sorted."""
        self._load()
        return sorted(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        self._loaded = True
