"""What the doctor says of what is missing, broken or full; and that it says so of nothing that is not."""

from __future__ import annotations

import collections
import importlib.util
import sys

import numpy as np
import pytest

from kd_seg import doctor
from kd_seg.core import config
from kd_seg.core.errors import KdSegError


def absent(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in names else find(name, *rest))


def ending(monkeypatch: pytest.MonkeyPatch, how: str | None) -> list[str]:
    asked: list[str] = []
    monkeypatch.setattr(doctor, "_ended", lambda code: asked.append(code) or how)
    return asked


def test_options_that_are_not_installed_are_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    absent(monkeypatch, "open3d", "rclpy", "matplotlib", "cumm")
    asked = ending(monkeypatch, "died of SIGSEGV")
    for check, package in (
        (doctor._open3d, "Open3D"),
        (doctor._ros, "rclpy"),
        (doctor._fonts, "matplotlib"),
        (doctor._numpy, "cumm"),
    ):
        ok, says = check()
        assert ok, says
        assert package in says
    assert not asked


def test_open3d_is_said_to_be_needed_for_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers of .pcd and .ply are our own, and embreex casts rays too."""
    absent(monkeypatch, "open3d")
    says = doctor._open3d()[1]
    assert "view --window" in says
    assert "embreex" in says
    assert ".pcd" not in says


def test_what_dies_is_told_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    ending(monkeypatch, "died of SIGSEGV")
    for name in ("cumm", "open3d", "rclpy"):
        if importlib.util.find_spec(name) is None:
            monkeypatch.setitem(sys.modules, name, type(sys)(name))
            sys.modules[name].__spec__ = importlib.util.spec_from_loader(name, None)
    for check, fix in (
        (doctor._numpy, 'pip install "numpy<2"'),
        (doctor._open3d, "make setup"),
        (doctor._ros, "source the distro's setup.bash"),
        (doctor._convolution_cpu, "make setup"),
    ):
        ok, says = check()
        assert not ok
        assert "died of SIGSEGV" in says
        assert fix in says


def test_a_full_disk_and_missing_configs_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(10, 9, 1.5 * doctor._GIGABYTE))
    ok, says = doctor._disk()
    assert not ok
    assert says.startswith("1.5 GB free")
    monkeypatch.setattr(config, "config_folders", list)
    ok, says = doctor._configs()
    assert not ok
    assert "install kd_seg again" in says


@pytest.mark.parametrize(
    ("version", "fine"), [((3, 9, 18), False), ((3, 10, 0), True), ((3, 13, 1), True), ((3, 14, 0), False)]
)
def test_the_pythons_that_are_supported(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], fine: bool
) -> None:
    monkeypatch.setattr(doctor.sys, "version_info", version)
    ok, says = doctor._python()
    assert ok == fine
    assert ".".join(map(str, version)) in says


def test_wrong_numbers_of_a_convolution_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import kd_seg.sparse as sparse

    doctor.convolve("cpu")
    right = sparse.sparse_tensor
    monkeypatch.setattr(sparse, "sparse_tensor", lambda features, *rest: right(features * 2, *rest))
    with pytest.raises(KdSegError, match="gave wrong numbers"):
        doctor.convolve("cpu")


def test_wrong_numbers_of_a_kernel_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import kd_seg.voxels as voxels

    class Wrong:
        inverse = np.array([0, 1, -1])

    monkeypatch.setattr(voxels, "voxelize", lambda points, grid: Wrong)
    ok, says = doctor._kernels()
    assert not ok
    assert "wrong numbers" in says


def test_a_fault_of_the_program_is_not_taken_for_one_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty() -> tuple[bool, str]:
        raise ZeroDivisionError("of the program")

    monkeypatch.setattr(doctor, "CHECKS", {"x": faulty})
    with pytest.raises(ZeroDivisionError):
        list(doctor.examine())
