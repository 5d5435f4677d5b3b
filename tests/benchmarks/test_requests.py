"""Which benchmark runs on what, and what it leaves as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_data import write_tiny

from kd_seg.benchmarks import choose
from kd_seg.benchmarks.choose import BENCHES, ON_DEVICES, Request, bench
from kd_seg.benchmarks.timing import BenchRow, Rival, compare
from kd_seg.core.errors import UsageError


def test_unknown_benchmarks_and_devices_that_do_not_matter_are_refused() -> None:
    with pytest.raises(UsageError, match="There is no benchmark 'voxel'; there are: voxelize"):
        bench("voxel", Request())
    with pytest.raises(UsageError, match=r"convolution, front\.$"):
        bench("voxel", Request())
    for name in set(BENCHES) - set(ON_DEVICES):
        with pytest.raises(UsageError, match=f"bench {name} times is done on the CPU"):
            bench(name, Request(device="cuda"))


@pytest.mark.parametrize(
    ("name", "request_", "sentence"),
    [
        ("project", Request(data=Path("x")), r"bench project does not take --data; it takes --scan\."),
        ("distil", Request(scan=Path("x")), r"bench distil does not take --scan; it takes --data, --voxel\."),
        ("predict", Request(voxel_size=0.1), r"--voxel; it takes --scan, --checkpoint, --device\."),
        ("maps", Request(size="nano"), r"--size; it takes --scan, --voxel\."),
        ("train", Request(checkpoint=Path("x")), r"--checkpoint; it takes --scan, --voxel, --size, --device\."),
    ],
)
def test_options_that_a_benchmark_does_not_read_are_refused(name: str, request_: Request, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        bench(name, request_)


def test_threads_are_those_asked_for_and_put_back_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fails(request: Request) -> list[BenchRow]:
        seen.append((torch.get_num_threads(), request.device))
        raise RuntimeError("on the way")

    monkeypatch.setitem(BENCHES, "voxelize", fails)
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="on the way"):
        bench("voxelize", Request(threads=before + 1))
    assert seen == [(before + 1, "cpu")]
    assert torch.get_num_threads() == before


def test_points_are_those_of_the_file_or_of_a_simulated_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).random((9, 4)).astype("<f4")
    points.tofile(tmp_path / "a.bin")
    np.testing.assert_array_equal(Request(scan=tmp_path / "a.bin").points(), points)
    asked = []

    def simulated(folder: Path, scans: int, images: bool) -> list:
        from kd_seg.scans import SemanticKitti

        asked.append((scans, images))
        return SemanticKitti(write_tiny(folder, ("00",), scans))  # type: ignore[return-value]

    monkeypatch.setattr(choose, "simulated", simulated)
    assert len(Request().points()) > 1000
    assert asked == [(1, False)]


def test_results_are_checked_before_anything_is_timed_and_rivals_take_turns() -> None:
    calls: list[str] = []

    def rival(name: str, ours: bool = False, wrong: bool = False) -> Rival:
        def check(result: str) -> None:
            calls.append(f"check {result}")
            assert not wrong

        return Rival(name, lambda: calls.append(name) or name, check, ours)

    with pytest.raises(AssertionError):
        compare([rival("a", ours=True), rival("b", wrong=True)], 3)
    assert calls == ["a", "check a", "b", "check b"]
    calls.clear()
    rows = compare([rival("a", ours=True), rival("b")], 2)
    assert [row.name for row in rows] == ["a", "b"]
    assert rows[0].ratio == 1.0
    assert rows[1].ratio == pytest.approx(rows[1].ms / rows[0].ms)
    timed = "".join(calls[4:])
    assert timed == "aaabbb" * 2
