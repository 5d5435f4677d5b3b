"""kd-seg bench: rivals give the same answers as ours before they are timed, and the JSON is as designed."""

import copy
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from console_script import kd_seg
from pretend_cuda import pretend_cuda
from random_student import write_student
from tiny_data import tiny_cloud

from kd_seg.benchmarks import convolution, predict, train
from kd_seg.benchmarks.choose import BENCHES, Request, bench
from kd_seg.benchmarks.plain import plain_encode, plain_spconv, same
from kd_seg.benchmarks.timing import TURN, Rival, compare, wait_for
from kd_seg.checkpoint import load_checkpoint, save_checkpoint
from kd_seg.core.errors import DataError, MissingDependencyError, UsageError
from kd_seg.networks import Encoding, build_network, collate, encode
from kd_seg.sparse import using
from kd_seg.voxels import CartesianGrid, CylindricalGrid


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    return tiny_cloud(np.random.default_rng(5))[0]


def test_plain_voxels_are_ours(points: np.ndarray) -> None:
    encoding = Encoding(CartesianGrid((0.3,) * 3, (-10, -10, -4), (10, 10, 4)), ("xyz", "remission", "offset"))
    labels = np.random.default_rng(0).integers(0, 4, len(points)).astype(np.uint8)
    ours, theirs = encode(points, labels, encoding), plain_encode(points, labels, encoding)
    np.testing.assert_array_equal(ours.voxels.coordinates, theirs.voxels.coordinates)
    np.testing.assert_array_equal(ours.voxels.inverse, theirs.voxels.inverse)
    np.testing.assert_array_equal(ours.voxels.counts, theirs.voxels.counts)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert (ours.voxels.inverse < 0).any()


def test_plain_networks_give_the_same_logits_and_gradients(points: np.ndarray) -> None:
    encoding = Encoding(CartesianGrid((0.4,) * 3), ("xyz", "remission"))
    batch = collate([encode(points, None, encoding)], encoding.grid)
    torch.manual_seed(0)
    network = build_network("unet", "nano", 4, 5)
    expected = network(batch).logits
    expected.square().mean().backward()
    for backend, rival in (("spconv", plain_spconv(network)), ("torch", copy.deepcopy(network))):
        rival.zero_grad()
        with using(backend):
            logits = rival(batch).logits
        same(expected.detach(), logits.detach())
        logits.square().mean().backward()
        ours, theirs = network.head.weight.grad, rival.head.weight.grad  # type: ignore[union-attr]
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-5)
        first = next(iter(network.parameters())).grad
        torch.testing.assert_close(next(iter(rival.parameters())).grad, first, rtol=1e-2, atol=1e-5)


def test_logits_that_differ_are_noticed() -> None:
    with pytest.raises(AssertionError, match="differ by"):
        same(torch.ones(3, 2), torch.full((3, 2), 1.01))


def test_one_row_is_ours_and_the_ratios_are_to_it(points: np.ndarray, tmp_path: Path) -> None:
    student = write_student(tmp_path / "student.safetensors")
    for rows in (train.rows(points, 0.5, 1, "nano"), predict.rows(points, 1, student)):
        assert [row.ours for row in rows] == [True, False, False, False]
        for row in rows:
            assert row.ratio == pytest.approx(row.ms / rows[0].ms)
            assert row.ms > 0


@pytest.mark.parametrize("which", ["bytes", "clamped", "cylindrical"])
def test_any_checkpoint_can_be_timed(points: np.ndarray, tmp_path: Path, which: str) -> None:
    loaded = load_checkpoint(write_student(tmp_path / "student.safetensors"))
    network, spec, rows = loaded.network, loaded.spec, 4
    if which == "bytes":  # an imported network takes intensities as its files had them
        spec = replace(spec, input_intensity="byte")
    elif which == "clamped":
        grid = CartesianGrid((0.4,) * 3, (-16.0, -16.0, -4.0), (16.0, 16.0, 4.0), clamp=True)
        spec, rows = replace(spec, encoding=Encoding(grid, spec.encoding.features)), 3
    else:
        polar = CylindricalGrid((64, 64, 16), (0.0, -np.pi, -4.0), (20.0, np.pi, 4.0))
        spec, rows = replace(spec, network="cylinder", encoding=Encoding(polar, spec.encoding.features)), 3
        network = build_network("cylinder", spec.size, 7, len(spec.classes))
    save_checkpoint(tmp_path / "other.safetensors", network, spec)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = predict.rows(points, 1, tmp_path / "other.safetensors")
    assert len(found) == rows
    assert any("np.unique" in str(one.message) for one in said) == (rows == 3)


def test_front_refuses_what_it_does_not_read(tmp_path: Path) -> None:
    done = kd_seg("bench", "front", "--sweep", "front", "--checkpoint", tmp_path, code=2)
    assert "bench front does not take --checkpoint" in done.stderr


def test_our_step_runs_on_a_device(points: np.ndarray) -> None:
    encoding = Encoding(CartesianGrid((0.5,) * 3), train.FEATURES)
    with pretend_cuda() as mode:
        network = build_network("unet", "nano", 7, train.CLASSES).to("cuda")
        before = network.head.weight.detach().clone()  # type: ignore[union-attr]
        step = train._Step(network, points, train._made_up_labels(points), encode, encoding)()
        assert mode.holds(step.first)
    assert not torch.equal(network.head.weight, before)  # type: ignore[union-attr]


def test_every_time_ends_when_the_device_is_done() -> None:
    said: list[str] = []
    rival = Rival("ours", lambda: said.append("run"), lambda found: None, ours=True)
    compare([rival], 2, lambda: said.append("wait"))
    assert said == ["run", *["wait", "run", "wait"] * 2 * TURN]
    wait_for("cpu")()
    with pretend_cuda():
        wait_for("cuda:0")()


def test_only_networks_are_timed_on_a_device() -> None:
    with pytest.raises(UsageError, match="bench voxelize times is done on the CPU; --device is for train and predict"):
        bench("voxelize", Request(device="cuda"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_device_that_is_not_there_is_said_first() -> None:
    with pytest.raises(MissingDependencyError, match="no CUDA device"):
        bench("train", Request(device="cuda"))


def test_threads_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    monkeypatch.setitem(BENCHES, "voxelize", lambda request: seen.append(torch.get_num_threads()) or [])
    bench("voxelize", Request(threads=2))
    assert (seen, torch.get_num_threads()) == ([2], before)
    with pytest.raises(UsageError, match="no benchmark 'speed'; there are: voxelize"):
        bench("speed", Request())


def test_answer_for_a_program(points: np.ndarray, tmp_path: Path) -> None:
    points.tofile(tmp_path / "scan.bin")
    done = kd_seg("bench", "voxelize", "--scan", tmp_path / "scan.bin", "--repeats", 1, "--voxel", 0.2, "--json")
    answer = json.loads(done.stdout)
    assert answer.keys() == {"machine", "rows"}
    assert all(row.keys() >= {"name", "ours", "ms", "ratio"} for row in answer["rows"])
    assert sum(row["ours"] for row in answer["rows"]) == 1


def test_convolutions_are_compared_before_they_are_timed(points: np.ndarray) -> None:
    found = convolution.rows(points, 0.5, 1)
    assert len(found) == 4 * (len(convolution.WIDTHS) + 1)
    for first in range(0, len(found), 4):
        group = found[first : first + 4]
        assert [row.ours for row in group] == [True, False, False, False]
        assert len({row.gmacs for row in group}) == 1
        assert all(row.peak_share and row.peak_share > 0 for row in group)
    with pytest.raises(DataError, match="no point inside the grid"):
        convolution.rows(points + 1000, 0.5, 1)
