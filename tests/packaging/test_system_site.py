"""What ROS and Ubuntu bring into a system-site environment, and that nothing of it is taken instead of our own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "vehicle.md"
ROW = re.compile(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \| `(.+)` \|$", re.MULTILINE)
MODULES = {"PyYAML": "yaml", "pillow": "PIL"}
"""Where a package's module has another name."""

OTHERS = ("packaging", "attr", "click", "jinja2", "requests", "six", "typing_extensions")
PINNED_THEMSELVES = {("numpy", "1.26.4")}
"""Versions of the system that are those of constraints.txt, so that pip takes them."""

IMPORTS = """
import sys
sys.path.append(sys.argv[1])
import numba, torch
import kd_seg.serving.labeller, kd_seg.training, kd_seg.views, kd_seg.cli.main
import matplotlib.pyplot
from torch.utils.tensorboard import SummaryWriter
"""


def rows() -> list[tuple[str, str, str, str]]:
    return ROW.findall(PAGE.read_text(encoding="utf-8"))


def test_the_table_has_the_packages_of_the_requirements() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert len(rows()) >= 8
    for package, _, _, asked in rows():
        assert re.search(rf"""['"]{re.escape(asked)}['";]""", setup), asked
        assert Requirement(asked).name == package


@pytest.mark.parametrize("column", [1, 2], ids=["22.04", "24.04"])
def test_an_old_version_is_replaced(column: int) -> None:
    """Not allowed by the requirement, or not the pinned version: pip puts its own in front."""
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate():
                pins[pin.name.lower()] = Version(str(pin.specifier).removeprefix("=="))
    for row in rows():
        package, version = row[0], row[column]
        same = pins[package.lower()] == Version(version)
        assert same == ((package, version) in PINNED_THEMSELVES)


def test_nothing_is_taken_from_the_system(tmp_path: Path) -> None:
    """Modules of the table's names at the end of the path, as in a system-site environment, are never imported."""
    names = [*(MODULES.get(row[0], row[0]) for row in rows() if row[0] != "setuptools"), *OTHERS]
    log = tmp_path / "imported.txt"
    for name in names:
        (tmp_path / "system" / name).mkdir(parents=True)
        body = f"open({str(log)!r}, 'a').write({name + chr(10)!r})\nraise ImportError('the system has an old {name}')\n"
        (tmp_path / "system" / name / "__init__.py").write_text(body)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", IMPORTS, str(tmp_path / "system")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert not log.exists(), log.read_text()
