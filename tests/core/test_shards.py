"""Parts of a job, and progress that nobody watches."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.core.errors import UsageError
from kd_seg.core.progress import silent, untracked
from kd_seg.core.shard import WHOLE, parse_shard


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_part_reads_back_where_there_is_such_a_part(part: int, parts: int) -> None:
    text = f"{part}/{parts}"
    if part <= parts:
        assert parse_shard(text) == (part, parts)
    else:
        with pytest.raises(UsageError, match=f"--shard {text} is not of the form"):
            parse_shard(text)


@given(st.text("0123456789/ -+_a\u0661", max_size=8))
def test_only_two_numbers_and_a_slash_are_a_part(text: str) -> None:
    found = re.fullmatch("([0-9]+)/([0-9]+)", text)
    if found and 1 <= int(found[1]) <= int(found[2]):
        assert parse_shard(text) == (int(found[1]), int(found[2]))
    else:
        with pytest.raises(UsageError, match="such as 1/8"):
            parse_shard(text)


def test_no_part_is_the_whole() -> None:
    assert parse_shard(None) == WHOLE == parse_shard("1/1")


def test_progress_that_nobody_watches_changes_nothing() -> None:
    with silent("work", None) as advance:
        advance(3)
    assert list(untracked(iter([3, 1, 2]), "work")) == [3, 1, 2]
