"""The site builds without a warning, and the commands of the tutorials run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import DOCS, ROOT, fences
from ros_clouds import street

from kd_seg.serving.bag_io import CLOUD, CLOUD_QOS, PLUGINS, BagWriter, cloud_message, make_typestore
from kd_seg.serving.pointcloud2 import Field, Packed, to_array

pytestmark = pytest.mark.slow


def write_drive(path: Path, count: int = 3) -> None:
    """The recording that the reader of a tutorial has: ``count`` clouds of a street at 10 Hz on /points."""
    store = make_typestore()
    writer = BagWriter(path.with_suffix(""), PLUGINS["mcap"], store)
    for number in range(count):
        cloud = street(4000, number, sec=1 + number)
        fields = tuple(Field(f.name, f.offset, f.datatype, f.count) for f in cloud.fields)
        steps = (cloud.is_bigendian, cloud.point_step, cloud.row_step, to_array(bytes(cloud.data)), cloud.is_dense)
        message = cloud_message(store, cloud.header, Packed(cloud.height, cloud.width, fields, *steps))
        writer.write("/points", CLOUD, CLOUD_QOS, 10**9 + number * 10**8, message)
    writer.close()
    next(path.with_suffix("").glob("*.mcap")).rename(path)


def steps(page: str) -> list[tuple[str, str, str]]:
    """(language, title, text) of the fences of a page that a reader carries out, in order."""
    return [step for step in fences(DOCS / page) if step[0] == "bash" or step[1]]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", ["vehicle", "researcher", "evaluator"])
def test_tutorial_runs_as_it_stands(page: str, tmp_path: Path) -> None:
    """Files with a title are written, bash fences are run line by line in one folder."""
    (tmp_path / "kd_seg").symlink_to(ROOT / "kd_seg")
    if page == "vehicle":
        write_drive(tmp_path / "drive.mcap")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    commands = 0
    for language, title, text in steps(f"tutorials/{page}.md"):
        if language != "bash":
            (tmp_path / title).write_text(text)
            continue
        for line in text.strip().splitlines():
            done = subprocess.run(
                ["bash", "-euc", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            commands += 1
    assert commands >= 4


@pytest.mark.timeout(300)
def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index", "tutorials/vehicle", "api", "commands", "studies/real_scans"):
        assert (tmp_path / "site" / f"{page}.html").stat().st_size > 5000
