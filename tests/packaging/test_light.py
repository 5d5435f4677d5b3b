"""What a vehicle needs runs without Open3D, TensorBoard, matplotlib, scikit-image, SciPy and spconv."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hidden_packages import without
from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
HEAVY = (
    "open3d",
    "embreex",
    "tensorboard",
    "matplotlib",
    "skimage",
    "scipy",
    "spconv",
    "cumm",
    "PIL",
    "pandas",
    "transformers",
    "click",  # recent versions of typer do not bring it
)
RUN = "from kd_seg.cli.main import main; main()"


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    points = rng.uniform([-20, -20, -2, 0], [20, 20, 2, 1], (3000, 4)).astype(np.float32)
    points.tofile(tmp_path / "scan.bin")
    return tmp_path / "scan.bin"


def test_serving_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, kd_seg.serving.segmenter, kd_seg.serving.bags, kd_seg.serving.parameters\n"
        "import kd_seg.serving.labeller\n"
        f"print(sorted({set(HEAVY) - {'scipy'}!r} & set(sys.modules)))"  # Numba takes SciPy where it finds it
    )
    done = without([], tmp_path, "-c", code)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_network_is_ready_before_settings_can_be_validated(tmp_path: Path) -> None:
    """pydantic takes a tenth of the time in which the node and a Segmenter start."""
    code = (
        "import sys, kd_seg.serving.parameters, kd_seg.serving.labeller\n"
        "from kd_seg import Segmenter\n"
        "print(len(Segmenter(device='cpu').classes), 'pydantic' in sys.modules)"
    )
    done = without([], tmp_path, "-c", code)
    assert done.stdout.strip() == "19 False", done.stderr


def test_predict_and_train_run_without_spconv(tmp_path: Path) -> None:
    """A training step and a prediction; nothing asks for spconv on a CPU."""
    code = (
        "import torch, importlib.util; assert importlib.util.find_spec('spconv') is None\n"
        "from kd_seg.doctor import convolve, CHECKS; convolve('cpu')\n"
        "from kd_seg.serving.segmenter import Segmenter, made_up_cloud\n"
        "print(len(Segmenter(device='cpu').segment(made_up_cloud(500, 0)).class_id))\n"
        "print(CHECKS['convolution on the CPU']()[1]); import kd_seg.training"
    )
    done = without(["spconv", "cumm"], tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr
    count, says = done.stdout.splitlines()
    assert count == "500"
    assert "backend numba: the device is the CPU" in says


def test_predict_labels_a_file_in_a_light_install(tmp_path: Path, scan: Path) -> None:
    done = without(HEAVY, tmp_path, "-c", RUN, "predict", scan, "--out", tmp_path / "scan.label")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scan.label").stat().st_size == 4 * 3000


def test_doctor_passes_in_a_light_install(tmp_path: Path) -> None:
    done = without(HEAVY, tmp_path, "-c", RUN, "doctor", "--json")
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert all(check["ok"] for check in found.values()), found
    assert "pip install open3d==0.19.0" in found["open3d"]["says"]
    assert "pip install matplotlib" in found["fonts"]["says"]


@pytest.mark.parametrize(
    ("command", "package"),
    [
        (("simulate", "streets", "--sequences", "1", "--scans", "1"), "open3d"),
        (("view", "scan.bin", "--out", "picture"), "matplotlib"),
    ],
)
def test_a_command_names_the_part_that_is_missing(
    tmp_path: Path, scan: Path, command: tuple[str, ...], package: str
) -> None:
    places = {"scan.bin": scan, "streets": tmp_path / "streets", "picture": tmp_path / "picture.png"}
    arguments = [places.get(word, word) for word in command]
    done = without(HEAVY, tmp_path, "-c", RUN, *arguments)
    assert done.returncode == 1
    assert f"pip install {package}" in done.stderr.replace("\n", " ")


def test_train_names_tensorboard_where_it_is_missing(tmp_path: Path) -> None:
    done = without(["tensorboard"], tmp_path, "-c", RUN, "train", ROOT / "configs" / "demo_baseline.yaml")
    assert done.returncode == 1
    fix = f"run {sys.executable} -m pip install tensorboard."
    assert done.stderr.strip() == f"error: tensorboard is not installed here, and torch needs it: {fix}"


def lines(file: str) -> list[Requirement]:
    rows = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [Requirement(row) for row in rows if row and not row.startswith("#")]


def test_the_vehicles_list_is_part_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {(wanted.name, str(wanted.specifier), str(wanted.marker)) for wanted in requirements(monkeypatch)}
    light = {(wanted.name, str(wanted.specifier), str(wanted.marker)) for wanted in lines("requirements/vehicle.txt")}
    assert light <= whole
    assert len(light) == 12


@pytest.mark.parametrize(
    ("system", "machine", "python", "spconv", "open3d"),
    [
        ("Linux", "x86_64", "3.10", "spconv-cu120", True),
        ("Linux", "x86_64", "3.12", "spconv-cu121", True),
        ("Linux", "x86_64", "3.13", None, False),
        ("Linux", "aarch64", "3.10", None, False),
        ("Darwin", "arm64", "3.11", None, True),
        ("Windows", "AMD64", "3.12", None, True),
    ],
)
def test_spconv_is_required_where_it_has_wheels(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, python: str, spconv: str | None, open3d: bool
) -> None:
    wanted = requirements(monkeypatch)
    environment = {"platform_system": system, "platform_machine": machine, "python_version": python}

    def holds(requirement: Requirement) -> bool:
        marker: Marker | None = requirement.marker
        return marker is None or marker.evaluate(environment)

    names = [requirement.name for requirement in wanted if holds(requirement)]
    assert [name for name in names if name.startswith("spconv")] == ([spconv] if spconv else [])
    assert ("open3d" in names) == open3d
    assert names.count("numpy") == 1


def requirements(monkeypatch: pytest.MonkeyPatch) -> list[Requirement]:
    """install_requires of setup.py."""
    found: dict[str, list[str]] = {}
    monkeypatch.setattr("setuptools.setup", lambda **options: found.update(wanted=options["install_requires"]))
    monkeypatch.chdir(ROOT)
    exec(
        compile((ROOT / "setup.py").read_text(encoding="utf-8"), "setup.py", "exec"),
        {"__file__": str(ROOT / "setup.py")},
    )
    return [Requirement(text) for text in found["wanted"]]
