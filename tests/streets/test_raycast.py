"""Two ray casters, one answer; and simulation on a machine without Open3D."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kd_seg.core.errors import MissingDependencyError
from kd_seg.scans import SemanticKitti
from kd_seg.streets import raycast, simulate
from kd_seg.streets.layout.world import World
from kd_seg.streets.raycast import CASTERS, RayScene, choose_caster, scene_maker
from kd_seg.streets.scenario import compose
from kd_seg.streets.sensors.patterns import shots_of
from kd_seg.streets.sensors.ranges import load_sensor

pytest.importorskip("embreex")


def wall(caster: raycast.Caster) -> RayScene:
    """A square of two triangles, 2 m wide, 5 m ahead."""
    corners = np.array([[5, -1, -1], [5, 1, -1], [5, 1, 1], [5, -1, 1]], np.float32)
    return scene_maker(caster)(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32))


@pytest.mark.parametrize("caster", CASTERS)
def test_hits_and_misses(caster: raycast.Caster) -> None:
    rays = np.array([[0, 0, 0, 1, 0, 0], [0, 0.5, 0, 1, 0, 0], [0, 0, 0, -1, 0, 0], [0, 0, 3, 1, 0, 0]], np.float32)
    hits = wall(caster).cast(rays)
    assert hits.distance == pytest.approx([5.0, 5.0, np.inf, np.inf], abs=1e-5)
    assert hits.triangle.dtype == np.int32
    assert hits.triangle[1:].tolist() == [0, -1, -1]
    normal = hits.normal[1] / np.linalg.norm(hits.normal[1])
    assert np.abs(normal) == pytest.approx([1, 0, 0])


@pytest.mark.parametrize("caster", CASTERS)
def test_no_ray_slips_through_an_edge(caster: raycast.Caster) -> None:
    """Rays along the diagonal that both triangles share."""
    place = np.linspace(-0.999, 0.999, 4001, dtype=np.float32)
    rays = np.zeros((len(place), 6), np.float32)
    rays[:, 1], rays[:, 2], rays[:, 3] = place, place, 1.0
    assert np.isfinite(wall(caster).cast(rays).distance).all()


def test_both_casters_see_the_same_streets() -> None:
    """Moving objects included: 99.99 % of an HDL-64E's rays within 1 mm, and no other triangle but at edges."""
    sensor = load_sensor("hdl64e")
    scenario = compose(2, 1, 3, 4.0, sensor)
    pose = scenario.ego.poses[1]
    worlds = [
        World(scenario.plan, scenario.items, scenario.tracks, scenario.ego.poses[:, :2, 3], scene_maker(caster))
        for caster in CASTERS
    ]
    directions = shots_of(scenario.sensor, 0).direction.astype(np.float64) @ pose[:3, :3].T
    first, second = (world.cast(pose[:3, 3], directions, 1) for world in worlds)
    both = np.isfinite(first.distance) & np.isfinite(second.distance)
    assert both.mean() > 0.8
    gap = np.abs(first.distance[both] - second.distance[both])
    agree = int((gap <= 1e-3).sum()) + int((~np.isfinite(first.distance) & ~np.isfinite(second.distance)).sum())
    assert agree >= 0.9999 * len(directions)
    assert (first.triangle == second.triangle).mean() > 0.9995
    same = first.triangle == second.triangle
    assert np.abs(first.cosine[same & both] - second.cosine[same & both]).max() < 1e-3


def test_the_setting_chooses_and_auto_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_caster("embreex") == "embreex"
    assert choose_caster("auto") == "open3d"

    def missing() -> None:
        raise MissingDependencyError("Open3D cannot be imported.")

    monkeypatch.setattr(raycast, "open3d", missing)
    assert choose_caster("auto") == "embreex"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install embreex"):
        choose_caster("auto")
    with pytest.raises(MissingDependencyError, match="pip install embreex"):
        choose_caster("embreex")


def test_streets_are_simulated_where_open3d_is_missing(tmp_path: Path) -> None:
    """A process in which open3d cannot be imported; its scan is Open3D's but for rays at edges."""
    script = (
        "import sys; sys.modules['open3d'] = None\n"
        "from kd_seg.cli.main import main\n"
        f"sys.argv = ['kd-seg', 'simulate', {str(tmp_path / 'e')!r}, '--sequences', '1', '--scans', '1']\n"
        "main()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=200)
    assert json.loads((tmp_path / "e" / "simulation.json").read_text())["caster"] == "embreex"
    simulate(tmp_path / "o", 1, 1, workers=1, caster="open3d")
    ours, reference = (SemanticKitti(tmp_path / name).scan("00", 0).points for name in "eo")
    assert len(ours) == pytest.approx(len(reference), abs=20)
    assert np.percentile(ours, [5, 50, 95], axis=0) == pytest.approx(
        np.percentile(reference, [5, 50, 95], axis=0), abs=0.01
    )
