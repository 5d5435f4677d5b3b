"""A small share of the mutation campaign, and the campaign's own promises."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from kd_seg.core.errors import DataError
from kd_seg.studies.mutations.change import CHANGES, mutate
from kd_seg.studies.mutations.readers import READERS, Reader
from kd_seg.studies.mutations.work import input_of, judge, run

INPUTS = 150


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_no_mutated_input_kills_or_stops_a_reader(reader: Reader, tmp_path: Path) -> None:
    made = reader.seeds(tmp_path)
    tally = run(reader, made, seed=77, numbers=range(INPUTS), folder=tmp_path)
    assert tally.findings == []
    assert sum(tally.counts.values()) == INPUTS
    assert tally.counts["refused"] > 0


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_the_campaign_begins_with_inputs_that_are_read(reader: Reader, tmp_path: Path) -> None:
    kinds = [judge(reader, content, tmp_path / "input")[0] for content in reader.seeds(tmp_path)]
    assert "answered" in kinds
    assert set(kinds) <= {"answered", "refused"}


def test_shares_are_whole_and_inputs_repeat(tmp_path: Path) -> None:
    assert sum(reader.share for reader in READERS) == pytest.approx(1.0)
    reader = next(each for each in READERS if each.name == ".pcd")
    made = reader.seeds(tmp_path)
    assert input_of(reader, made, 5, 123) == input_of(reader, made, 5, 123)
    assert len({input_of(reader, made, 5, number) for number in range(50)}) > 45


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_changes_take_any_content(change: object) -> None:
    from random import Random

    for content in (b"", b"\n", b"a", b"x 1\ny 2\n" * 5, bytes(300)):
        for seed in range(30):
            assert isinstance(change(bytearray(content), Random(seed), [b"word"]), bytearray)  # type: ignore[operator]
            assert isinstance(mutate([content], [], Random(seed)), bytes)


def _bad(kind: str) -> Reader:
    """A reader that fails in a way at every third input."""

    def read(content: bytes, path: Path) -> object:
        if not content or content[0] % 3:
            raise DataError("refused")
        if kind == "signal":
            os.kill(os.getpid(), signal.SIGSEGV)
        if kind == "memory":
            return bytearray(1 << 40)
        if kind == "print":
            print("hello")
            return None
        raise IndexError("fault")

    return Reader(kind, 1.0, lambda _: [b"0"], read, repair=lambda content: bytes([len(content) * 7 % 256]) + content)


@pytest.mark.parametrize(
    ("kind", "counted", "told"),
    [("signal", "crashed", "signal 11"), ("memory", "over memory", "MemoryError"), ("fault", "crashed", "IndexError"),
     ("print", "crashed", "standard output")],
)  # fmt: skip
def test_every_way_to_fail_is_noticed(kind: str, counted: str, told: str, tmp_path: Path) -> None:
    reader = _bad(kind)
    contents = [input_of(reader, [b"0"], 1, number) for number in range(30)]
    wanted = [number for number, content in enumerate(contents) if content and content[0] % 3 == 0]
    tally = run(reader, [b"0"], 1, range(30), tmp_path)
    numbers = [number for number, found, what in tally.findings if found == counted and told in what]
    assert numbers == wanted
    assert len(tally.findings) == len(wanted)
