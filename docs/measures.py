"""Prints the measures of the code as a Markdown table: ``python docs/measures.py``.

The exit code is 1 where a bar is missed; ``--list`` names what misses one.
"""

from __future__ import annotations

import ast
import math
import re
import statistics
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE, TESTS = ("kd_seg", "ros_nodes"), ("tests",)
Function = ast.FunctionDef | ast.AsyncFunctionDef

SHAPE = re.compile(r"\[[A-Z_a-z0-9+*. -]+(, ?[A-Z_a-z0-9+*. -]+)*\]|\b[A-Z] x [A-Z0-9]\b|scalar")
UNIT = re.compile(
    r"\b(metres?|m|cm|mm|millimetres?|seconds?|ms|milliseconds?|s|degrees?|deg|rad|radians|pixels?|px|Hz|bytes?|MiB|GMAC"
    r"|percent|fractions?|0-1|frame)\b"
)
ERROR = re.compile(r"\b[A-Z]\w*Error\b|\b[Rr]aises?\b")
CITED = re.compile(r"et al\.|arXiv|CVPR|ICCV|ECCV|NeurIPS|docs/|semantic-kitti-api|\b(19|20)\d\d\b|released")


@dataclass(frozen=True)
class Bar:
    """A measure, its value and the bar it has to meet (None = reported only)."""

    name: str
    value: float
    bar: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the bar is met; a measure without one always is."""
        return self.bar is None or (self.value >= self.bar if self.at_least else self.value <= self.bar)

    def row(self) -> str:
        """One row of the table."""
        sign = "" if self.bar is None else f"{'>=' if self.at_least else '<='} {self.bar:g}"
        return f"| {self.name} | {self.value:g} | {sign} | {'' if self.bar is None else 'yes' if self.met else 'NO'} |"


def percentile(values: list[int], share: float) -> float:
    """The smallest value that at least ``share`` (0-1) of the values do not exceed; 0 of none."""
    return float(sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]) if values else 0.0


def files(folders: Iterable[str]) -> list[Path]:
    """All Python files below folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def lines(path: Path) -> int:
    """Lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def functions(tree: ast.AST) -> Iterator[Function]:
    """All functions and methods, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def typed(function: Function) -> bool:
    """Whether each parameter but self and cls, and the result, is annotated."""
    spec = function.args
    named = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, (spec.vararg, spec.kwarg))]
    return function.returns is not None and all(a.annotation or a.arg in {"self", "cls"} for a in named)


def length(function: Function) -> int:
    """Lines from the first decorator to the last statement."""
    first = min([function.lineno, *(d.lineno for d in function.decorator_list)])
    return (function.end_lineno or function.lineno) - first + 1


def public(tree: ast.Module) -> Iterator[ast.ClassDef | Function]:
    """Public classes and functions of a module, and the public methods of public classes."""
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, *Function.__args__)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (m for m in node.body if isinstance(m, Function) and not m.name.startswith("_"))


def measure() -> list[Bar]:
    """All measures of the working tree."""
    paths = files(SOURCE)
    sizes = [lines(path) for path in paths]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    every = [function for tree in trees for function in functions(tree)]
    lengths = [length(function) for function in every]
    texts = [ast.get_docstring(node) or "" for tree in trees for node in public(tree)]
    tests = sum(lines(path) for path in files(TESTS))
    return [
        Bar("files", len(paths)),
        Bar("lines", sum(sizes)),
        Bar("lines of a file, median", statistics.median(sizes), 110),
        Bar("lines of a file, 90th percentile", percentile(sizes, 0.9), 240),
        Bar("lines of a file, largest", max(sizes), 400),
        Bar("lines of tests per line of source", round(tests / sum(sizes), 2), 0.6, at_least=True),
        Bar("typed functions, %", _share(typed(f) for f in every), 100, at_least=True),
        Bar("public names with a docstring, %", _share(bool(t) for t in texts), 100, at_least=True),
        Bar("docstrings that give shapes, %", _share(bool(SHAPE.search(t)) for t in texts)),
        Bar("docstrings that give units or frames, %", _share(bool(UNIT.search(t)) for t in texts)),
        Bar("docstrings that name errors, %", _share(bool(ERROR.search(t)) for t in texts)),
        Bar("docstrings that name a source, %", _share(bool(CITED.search(t)) for t in texts)),
        Bar("lines of a function, median", statistics.median(lengths)),
        Bar("lines of a function, 90th percentile", percentile(lengths, 0.9), 25),
        Bar("lines of a function, largest", max(lengths), 60),
    ]


def _share(values: Iterable[bool]) -> float:
    found = list(values)
    return round(100.0 * sum(found) / max(len(found), 1), 1)


def main() -> int:
    """Print the table; with ``--list`` also what misses a bar."""
    bars = measure()
    print("| measure | value | bar | met |\n|---|---|---|---|")
    print("\n".join(bar.row() for bar in bars))
    if "--list" in sys.argv:
        for path in files(SOURCE):
            if lines(path) > 400:
                print(f"{path.relative_to(ROOT)}: {lines(path)} lines")
            for function in functions(ast.parse(path.read_text(encoding="utf-8"))):
                if length(function) > 60 or not typed(function):
                    what = f"{length(function)} lines" if length(function) > 60 else "not typed"
                    print(f"{path.relative_to(ROOT)}:{function.lineno} {function.name}: {what}")
    return 0 if all(bar.met for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
