"""Lost clouds counted from counters and stamps, and the choice of a reliable input."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_nodes.losses import KEPT_STAMPS, WINDOW_S, Losses, LossWatch, StampGaps
from ros_nodes.transport import Link, decide, profile_setting

ROOT = Path(__file__).resolve().parent.parent.parent
PERIOD = 100_000_000


def test_losses_are_those_of_the_window() -> None:
    watch = LossWatch()
    assert watch.add(0.0, 0, 0) == Losses(0, 0)
    assert watch.add(1.0, 2, 8) == Losses(8, 10)
    assert watch.add(2.0, 4, 16) == Losses(16, 20)
    for second in range(3, 60):
        found = watch.add(float(second), 4 + 10 * (second - 2), 16)
    assert found == Losses(0, 10 * int(WINDOW_S))
    assert watch.add(60.0, 0, 0) == Losses(0, 0), "counters that fell begin anew"
    assert watch.add(61.0, 5, 5).share == 0.5


@given(st.lists(st.booleans(), min_size=30, max_size=KEPT_STAMPS), st.integers(0, 2**62))
def test_gaps_between_stamps_are_what_never_came(arrives: list[bool], start: int) -> None:
    """Exact where neighbours arrive often enough to show the period."""
    kept = [True, *arrives, True]
    kept = [one or k % 4 < 2 for k, one in enumerate(kept)][: KEPT_STAMPS - 2]
    stamps = [start + k * PERIOD for k, one in enumerate(kept) if one]
    gaps = StampGaps()
    for stamp in stamps:
        gaps.note(stamp)
    expected = (stamps[-1] - stamps[0]) // PERIOD + 1
    assert gaps.missing() == Losses(expected - len(stamps), expected)


@given(st.lists(st.floats(0.9, 1.1), min_size=20, max_size=50))
def test_jitter_is_no_loss(steps: list[float]) -> None:
    gaps, stamp = StampGaps(), 0
    for step in steps:
        stamp += round(step * PERIOD)
        gaps.note(stamp)
    assert gaps.missing().lost == 0


def test_stamps_that_do_not_advance_begin_anew() -> None:
    gaps = StampGaps()
    for stamp in [*range(0, 50 * PERIOD, 5 * PERIOD), 0, PERIOD]:
        gaps.note(stamp)
    assert gaps.missing() == Losses(0, 0)


@pytest.mark.parametrize(
    ("asked", "offered", "now", "reliable"),
    [
        (True, (False,), False, True),
        (False, (True,), True, False),
        ("auto", (), False, False),
        ("auto", (), True, True),
        ("auto", (True,), False, True),
        ("auto", (True, False), True, False),
        ("auto", (True, True), False, True),
    ],
)
def test_reliable_where_every_publisher_is(
    asked: bool | str, offered: tuple[bool, ...], now: bool, reliable: bool
) -> None:
    assert decide(asked, offered, now) is reliable


def test_links_in_words() -> None:
    assert Link("rmw_x", (True,)).text() == "1 publisher (reliable) over rmw_x"
    assert Link("rmw_x", (False, False), cloud_bytes=412_000).text() == (
        "2 publishers (best effort) over rmw_x, clouds of 0.4 MB"
    )


@pytest.mark.parametrize("rmw", ["rmw_fastrtps_cpp", "rmw_fastrtps_dynamic_cpp", "rmw_cyclonedds_cpp"])
def test_every_known_middleware_has_a_shipped_profile(rmw: str) -> None:
    setting = profile_setting(rmw, ROOT / "configs" / "ros")
    assert setting is not None
    assert Path(setting[1].removeprefix("file://")).is_file()
    assert profile_setting("rmw_zenoh_cpp", ROOT) is None
