"""Which scans a batch holds, of how many processes and workers; and which labels a run may use."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.core.errors import DataError
from kd_seg.training.loader import Batches, _sentences, choose_labelled


class Keys:
    """Stands for a pipeline of which only the keys are asked."""

    def __init__(self, count: int) -> None:
        self.keys = tuple(("00", index) for index in range(count))


def drawn(count: int, seed: int, first: int, batch: int, rank: int, world: int, batches: int) -> list[tuple[str, int]]:
    made = Batches(Keys(count), seed, batch, first, first + batches, rank, world)  # type: ignore[arg-type]
    found = []
    for number in range(first, first + batches):
        size = batch * world
        found += [made._key(number * size + rank * batch + i) for i in range(batch)]
    return found


@given(st.integers(1, 12), st.integers(0, 99), st.integers(1, 4))
def test_each_pass_sees_every_scan_once(count: int, seed: int, batch: int) -> None:
    passes = 3
    found = drawn(count, seed, 0, 1, 0, 1, passes * count)
    for number in range(passes):
        assert Counter(found[number * count : (number + 1) * count]) == Counter(Keys(count).keys)
    assert drawn(count, seed, 0, batch, 0, 1, count) == drawn(count, seed, 0, 1, 0, 1, count * batch)


@given(st.integers(1, 12), st.integers(0, 99), st.integers(1, 3), st.integers(1, 3))
def test_processes_share_what_one_would_draw(count: int, seed: int, batch: int, world: int) -> None:
    together = [drawn(count, seed, 0, batch, rank, world, 4) for rank in range(world)]
    woven = []
    for number in range(4):
        for rank in range(world):
            woven += together[rank][number * batch : (number + 1) * batch]
    assert woven == drawn(count, seed, 0, 1, 0, 1, 4 * batch * world)


def test_a_resumed_stream_draws_what_would_have_come() -> None:
    assert drawn(7, 3, 0, 2, 0, 1, 10)[8:] == drawn(7, 3, 4, 2, 0, 1, 6)


def test_passes_and_seeds_differ() -> None:
    one = drawn(30, 0, 0, 1, 0, 1, 60)
    assert one[:30] != one[30:]
    assert one[:30] != drawn(30, 1, 0, 1, 0, 1, 30)


def test_a_run_has_so_many_batches_and_no_more() -> None:
    made = Batches(Keys(3), 0, 1, first=4, count=9)  # type: ignore[arg-type]
    assert len(made) == 5
    for item in (-1, 5):
        with pytest.raises(IndexError):
            made[item]


@given(st.integers(1, 60), st.integers(0, 9))
def test_fewer_labels_lie_within_more(count: int, seed: int) -> None:
    keys = list(Keys(count).keys)
    chosen = [choose_labelled(keys, fraction, seed) for fraction in (0.01, 0.1, 0.5, 1.0)]
    for fewer, more in pairwise(chosen):
        assert fewer <= more
    assert chosen[0]
    assert chosen[-1] == set(keys)
    assert len(chosen[2]) == max(1, round(0.5 * count))


def test_an_error_of_a_worker_is_the_sentence_alone() -> None:
    """torch puts the worker's traceback into the text of the error that it raises again."""

    def failing(text: str):  # type: ignore[no-untyped-def]
        yield 1
        raise DataError(text)

    wrapped = "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    wrapped += '  File "a.py", line 1\nkd_seg.core.errors.DataError: /data/000001.bin is cut off; copy it again.\n'
    for text in (wrapped, "/data/000001.bin is cut off; copy it again."):
        batches = _sentences(failing(text))
        assert next(batches) == 1
        with pytest.raises(DataError) as told:
            next(batches)
        assert str(told.value) == "/data/000001.bin is cut off; copy it again."
