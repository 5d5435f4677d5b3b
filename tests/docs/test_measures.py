"""The measures of the code, on a small tree of which each is known."""

from __future__ import annotations

import ast
from pathlib import Path

import measures
import pytest

SOURCE = '''"""A module."""


def typed(a: int, *rest: int) -> int:
    """Rows [N, 3] in metres; ValueError for others (Miller, CVPR 2020)."""
    return a


def untyped(a) -> int:
    return a


class Public:
    """A class."""

    def method(self) -> None:
        def inner(x: int) -> int:
            return x

    def _private(self, x):
        pass


class _Hidden:
    def method(self) -> None:
        pass
'''


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("kd_seg", "ros_nodes", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "kd_seg" / "a.py").write_text(SOURCE)
    (tmp_path / "ros_nodes" / "b.py").write_text('"""Another."""\n')
    (tmp_path / "tests" / "test_a.py").write_text("x = 1\n" * 10)
    monkeypatch.setattr(measures, "ROOT", tmp_path)
    return tmp_path


def values() -> dict[str, float]:
    return {bar.name: bar.value for bar in measures.measure()}


def test_each_measure_is_what_it_says(tree: Path) -> None:
    found = values()
    lines = len(SOURCE.splitlines())
    assert (found["files"], found["lines"]) == (2, lines + 1)
    assert found["lines of a file, largest"] == lines
    assert found["lines of tests per line of source"] == round(10 / (lines + 1), 2)
    assert found["typed functions, %"] == pytest.approx(100 * 4 / 6, abs=0.05), "untyped and _private are not"
    public = ["typed", "untyped", "Public", "Public.method"]
    assert found["public names with a docstring, %"] == pytest.approx(100 * 2 / len(public))
    for what in ("shapes", "units or frames"):
        assert found[f"docstrings that give {what}, %"] == 25.0
    for what in ("errors", "a source"):
        assert found[f"docstrings that name {what}, %"] == 25.0
    assert found["lines of a function, largest"] == 3


def test_bars_are_met_from_the_right_side() -> None:
    assert measures.Bar("x", 1.0, 1.0).met
    assert not measures.Bar("x", 1.1, 1.0).met
    assert measures.Bar("x", 0.6, 0.6, at_least=True).met
    assert not measures.Bar("x", 0.5, 0.6, at_least=True).met
    assert measures.Bar("x", 9.0).met
    assert measures.Bar("x", 0.5, 0.6, at_least=True).row() == "| x | 0.5 | >= 0.6 | NO |"


def test_a_percentile_is_the_least_value_that_holds_its_share() -> None:
    assert measures.percentile([], 0.9) == 0
    assert measures.percentile(list(range(1, 11)), 0.9) == 9
    assert measures.percentile([5, 1, 9], 0.5) == 5
    assert measures.percentile([3], 0.9) == 3


def test_a_function_is_as_long_as_it_is_with_its_decorators() -> None:
    tree = ast.parse("@a\n@b\ndef f():\n    x = 1\n\n    return x\n\n\ny = 2\n")
    (function,) = measures.functions(tree)
    assert measures.length(function) == 6


def test_what_misses_a_bar_is_named(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures.sys, "argv", ["measures.py", "--list"])
    (tree / "kd_seg" / "long.py").write_text("def f() -> None:\n" + "    x = 1\n" * 400)
    assert measures.main() == 1
    out = capsys.readouterr().out
    assert "kd_seg/long.py: 401 lines" in out
    assert "kd_seg/long.py:1 f: 401 lines" in out
    assert "kd_seg/a.py:9 untyped: not typed" in out
    assert "typed: not typed" not in out.replace("untyped", "")
