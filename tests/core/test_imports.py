"""Imports that fail, and what a machine with ROS brings into a system-site environment."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kd_seg.core.imports import COVERAGE, NUMPY, import_failure

ROOT = Path(__file__).resolve().parent.parent.parent
OLD_COVERAGE = "version_info = (6, 2)\n"
"""Has none of the names that Numba takes from the module; so had the one of Ubuntu 22.04."""


def python(*arguments: str, first: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python on the checkout, with a folder before everything else that is installed."""
    path = os.pathsep.join([*([str(first)] if first else []), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "1000"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)


@pytest.fixture
def old_coverage(tmp_path: Path) -> Path:
    (tmp_path / "coverage").mkdir()
    (tmp_path / "coverage" / "__init__.py").write_text(OLD_COVERAGE)
    (tmp_path / "coverage-6.2.dist-info").mkdir()
    (tmp_path / "coverage-6.2.dist-info" / "METADATA").write_text("Name: coverage\nVersion: 6.2\n")
    return tmp_path


def test_an_old_coverage_first_on_the_path_is_one_sentence(old_coverage: Path, tmp_path: Path) -> None:
    done = python(
        "-m", "kd_seg.cli.main", "predict", str(tmp_path / "a.bin"), "--out", str(tmp_path / "o"), first=old_coverage
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert re.search(
        r"error: numba cannot be imported \(AttributeError: .*\); coverage 6\.2 in .* is too old for numba: "
        r"run .*python.* -m pip install 'coverage>=7\.6\.1'",
        done.stderr,
    )


@pytest.mark.slow
def test_the_doctor_goes_on_beside_an_old_coverage(old_coverage: Path) -> None:
    done = python("-m", "kd_seg.cli.main", "doctor", "--json", first=old_coverage)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name in ("compiled kernels", "convolution on the CPU", "shipped student"):
        assert not found[name]["ok"]
        assert f"pip install '{COVERAGE}'" in found[name]["says"]
    assert found["fonts"]["ok"]


def test_an_old_coverage_behind_our_own_does_no_harm(old_coverage: Path) -> None:
    """As in a system-site environment: the system's packages come last on the path."""
    code = f"import sys; sys.path.append({str(old_coverage)!r}); import numba, coverage; print(coverage.__file__)"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert str(old_coverage) not in done.stdout


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "import nowhere_at_all",
            r"nowhere_at_all is not installed here, and torch needs it: run .* -m pip install nowhere_at_all\.$",
        ),
        (
            "raise ImportError('libcudart.so.12: cannot open')",
            r"torch cannot be imported \(.*is broken: run .*--force-reinstall torch",
        ),
        (
            "raise ImportError('numpy.core.multiarray failed to import')",
            r"torch cannot be imported \(.*numpy .*does not fit torch: run .*numpy>=1",
        ),
    ],
)
def test_a_torch_that_cannot_be_imported_is_one_sentence(tmp_path: Path, body: str, words: str) -> None:
    folder = tmp_path / "site-packages"
    (folder / "torch").mkdir(parents=True)
    (folder / "torch" / "__init__.py").write_text(f"{body}\n")
    done = python("-c", "from kd_seg.core.imports import *; say_import_failures(); import torch", first=folder)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert re.match(words, done.stderr)


def test_errors_of_other_kinds_are_left_alone() -> None:
    def caught(error: Exception) -> Exception:
        try:
            raise error
        except Exception as one:
            return one

    assert import_failure(caught(ValueError("a wrong value"))) is None
    assert import_failure(caught(ModuleNotFoundError("no", name="kd_seg.gone"))) is None
    missing = import_failure(caught(ModuleNotFoundError("No module named 'rclpy'", name="rclpy")))
    assert missing is not None
    assert "source /opt/ros/DISTRO/setup.bash" in str(missing)


@pytest.mark.parametrize(
    ("module", "package"), [("skimage.measure", "scikit-image"), ("PIL", "pillow"), ("scipy.spatial", "scipy")]
)
def test_a_missing_module_is_named_as_pip_knows_it(module: str, package: str) -> None:
    failure = import_failure(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert str(failure) == f"{package} is not installed here: run {sys.executable} -m pip install {package}."


def test_the_node_without_its_libraries_is_one_sentence(old_coverage: Path) -> None:
    """Without ROS the sentence is about rclpy's packages, with ROS about coverage."""
    done = python("-m", "ros_nodes.segmentation_node", first=old_coverage)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert re.match(r"segmentation node: \w+ cannot be imported \(.*\); (source|coverage) ", done.stderr)


def test_requirements_in_messages_are_those_of_the_package() -> None:
    for file in (ROOT / "setup.py", ROOT / "requirements" / "vehicle.txt"):
        for text in (COVERAGE, NUMPY):
            assert re.search(rf"""['"\n]{re.escape(text)}['";\n]""", file.read_text(encoding="utf-8")), (file, text)
