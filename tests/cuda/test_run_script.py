"""The script for machines with a device, as far as a CPU can run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import measure  # noqa: E402
import run  # noqa: E402


def test_a_street_without_a_ray_caster_is_like_a_scan() -> None:
    points = measure.street(0)
    assert points.shape == (120_000, 4)
    assert np.isfinite(points).all()
    distance = np.linalg.norm(points[:, :3], axis=1)
    assert 1.5 < np.percentile(distance, 1) < np.percentile(distance, 99) < 82
    assert (np.abs(points[:, 2] + 1.73) < 0.1).mean() > 0.3
    assert np.array_equal(points, measure.street(0))
    assert not np.array_equal(points, measure.street(1))


def test_stages_end_with_figures_or_say_how_they_failed() -> None:
    good = run.run(run.Stage("good", [sys.executable, "-c", "print('x'); print('{\"a\": 1}')"], 20, {}), 20)
    assert (good["code"], good["figures"]) == (0, {"a": 1})
    bad = run.run(run.Stage("bad", [sys.executable, "-c", "raise SystemExit('broken')"], 20, {}), 20)
    assert bad["code"] == 1
    assert "broken" in bad["errors"]
    late = run.run(run.Stage("late", [sys.executable, "-c", "import time; time.sleep(30)"], 1, {}), 20)
    assert late["code"] == 124
    assert "cut off" in run.summary(late)
    told = run.run(run.Stage("told", [sys.executable, "-c", "import os; print(os.environ['X'])"], 20, {"X": "7"}), 20)
    assert told["figures"] == 7


def test_junit_counts(tmp_path: Path) -> None:
    path = tmp_path / "pytest.xml"
    assert run.tests_of(path) == {}
    path.write_text(
        "<testsuites><testsuite><testcase classname='a' name='b'/>"
        "<testcase classname='a' name='c'><failure/></testcase>"
        "<testcase classname='a' name='d'><skipped/></testcase></testsuite></testsuites>"
    )
    assert run.tests_of(path) == {"passed": 1, "failed": ["a::c"], "skipped": 1}


def test_versions_are_named() -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "measure.py"), "--device", "cpu", "versions"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert json.loads(done.stdout)["numpy"]


def test_only_the_stages_that_are_named_run(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "run.py"), "--out", str(tmp_path), "--device", "cpu", "--only", "versions"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
    assert [row["stage"] for row in json.loads((tmp_path / "cuda.json").read_text())] == ["versions"]
