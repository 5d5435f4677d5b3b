"""``make test-ros`` with pretended middlewares."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("code", "ran"), [(0, ["rmw_a", "rmw_b"]), (1, ["rmw_a"])])
def test_ros_tests_run_under_every_middleware_and_stop_at_the_first_that_fails(
    tmp_path: Path, code: int, ran: list[str]
) -> None:
    index = "def get_resources(kind):\n    return dict.fromkeys(['rmw_a', 'rmw_implementation', 'rmw_b'])\n"
    test = f"import os, sys\nprint('ran', os.environ['RMW_IMPLEMENTATION'], *sys.argv[1:])\nsys.exit({code})\n"
    (tmp_path / "ament_index_python.py").write_text(index)
    (tmp_path / "pytest.py").write_text(test)
    command = ["make", "-f", str(ROOT / "Makefile"), "test-ros"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("ran")]
    assert [line[1] for line in lines] == ran
    assert all(line[-2:] == ["-m", "ros"] for line in lines)
    assert (done.returncode == 0) is (code == 0)
