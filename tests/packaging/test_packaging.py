"""Packaging, the doctor, and the refusal of library versions that end the process."""

import json
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import pytest
from console_script import kd_seg

import kd_seg as package
from kd_seg import doctor
from kd_seg.core import system_libraries
from kd_seg.core.environment import Installed
from kd_seg.core.errors import DataError, MissingDependencyError
from kd_seg.core.open3d import SYSTEM_LIBRARIES
from kd_seg.doctor import Check, examine
from kd_seg.sparse import backend

ROOT = Path(__file__).parents[2]


def test_doctor_answers_a_program() -> None:
    done = kd_seg("doctor", "--json")
    found = json.loads(done.stdout)
    assert found["ok"] is True, found
    names = [check["name"] for check in found["checks"]]
    assert names == list(doctor.CHECKS)
    assert all(check["ok"] is True and check["says"] for check in found["checks"])


def test_doctor_says_what_is_broken_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> tuple[bool, str]:
        raise DataError("the disk is full; make room.")

    monkeypatch.setattr(doctor, "CHECKS", {"first": broken, "second": lambda: (True, "fine")})
    assert list(examine()) == [Check("first", False, "the disk is full; make room."), Check("second", True, "fine")]


def test_how_a_process_ended_in_words() -> None:
    assert doctor._ended("pass") is None
    assert doctor._ended("import os, signal; os.kill(os.getpid(), signal.SIGFPE)") == "died of SIGFPE"
    assert doctor._ended("raise OSError('no such thing')") == "failed (OSError: no such thing)"
    assert doctor._ended("raise SystemExit(3)") == "failed (exit code 3)"


def test_a_process_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LONGEST_S", 0.01)
    assert doctor._ended("import time; time.sleep(100)") == (
        "did not end within 0 s; where the computer is busy run the doctor again"
    )


@pytest.mark.parametrize(
    ("numpy", "cumm", "refused"), [("1.26.4", "0.4.11", False), ("2.1.0", "0.4.11", True), ("2.4.6", "0.7.11", False)]
)
def test_numpy_2_beside_an_old_cumm_is_refused(
    monkeypatch: pytest.MonkeyPatch, numpy: str, cumm: str, refused: bool
) -> None:
    monkeypatch.setattr(np, "__version__", numpy)
    monkeypatch.setattr(backend, "installed", lambda family: Installed("cumm-cu120", cumm))
    if not refused:
        backend.check_numpy()
        return
    with pytest.raises(MissingDependencyError, match=r'NumPy 2\.1\.0 beside cumm.* 0\.4\.11 .*pip install "numpy<2"'):
        backend.check_numpy()


def test_libraries_to_unpack_hold_what_open3d_needs() -> None:
    assert system_libraries.PACKAGES.keys() == SYSTEM_LIBRARIES.keys()
    for library, packages in system_libraries.PACKAGES.items():
        assert packages[0] == SYSTEM_LIBRARIES[library]


def test_without_apt_one_sentence_names_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"libGL\.so\.1.*no apt-get here; .*install libgl1\. Without"):
        system_libraries.unpack(["libGL.so.1"], tmp_path / "libs")
    assert not (tmp_path / "libs").exists()


def test_versions_agree() -> None:
    assert f"<version>{package.__version__}</version>" in (ROOT / "package.xml").read_text(encoding="utf-8")
    assert f"## {package.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_requirement_is_pinned() -> None:
    pins = {
        line.partition("==")[0].strip().lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    for requirement in requires("kd_seg") or []:
        name = requirement.split(";")[0].strip()
        for sign in "=<>!~ [":
            name = name.partition(sign)[0]
        assert name.lower().replace("_", "-") in pins, requirement


@pytest.mark.slow
def test_wheel_holds_all_that_the_program_needs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True, capture_output=True, timeout=300, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for end in (
        "kd_seg/py.typed",
        "kd_seg/assets/general.safetensors",
        "kd_seg/assets/taught.safetensors",
        "kd_seg/assets/nano.safetensors",
        "share/kd_seg/configs/classes/semantic_kitti_19.yaml",
        "share/kd_seg/configs/ros/parameters.yaml",
        "share/kd_seg/launch/segmentation.launch.py",
        "share/kd_seg/package.xml",
        "share/ament_index/resource_index/packages/kd_seg",
        "ros_nodes/segmentation_node.py",
    ):
        assert any(name.endswith(end) for name in names), end
    assert not any(name.startswith("tests") for name in names)
