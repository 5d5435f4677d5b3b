"""The package on a read-only install without a writable home: everything imports, kernels are kept elsewhere."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kd_seg
from kd_seg.core import kernels

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_FOWNER = 1, 3

CODE = """
import importlib, os, pkgutil, sys
from pathlib import Path

for folder in (Path(sys.argv[1]) / "kd_seg" / "core", Path(os.environ["HOME"])):
    try:
        (folder / "written").touch()
    except OSError:
        continue
    sys.exit(f"{folder} can be written, so this test shows nothing")

import kd_seg

assert Path(kd_seg.__file__).parent.parent == Path(sys.argv[1]), kd_seg.__file__
names = [module.name for module in pkgutil.walk_packages(kd_seg.__path__, "kd_seg.") if "__main__" not in module.name]
for name in names:
    importlib.import_module(name)

import numpy as np
from kd_seg.voxels import CartesianGrid, voxelize

voxelize(np.zeros((3, 3), np.float32), CartesianGrid((1, 1, 1)))
print(len(names), os.environ["NUMBA_CACHE_DIR"])
"""


def obey_permissions() -> None:
    """Root may write anywhere; without these capabilities it has to obey the permissions too."""
    if os.getuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (CAP_DAC_OVERRIDE, CAP_FOWNER):
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Path]:
    site = tmp_path / "site"
    shutil.copytree(Path(kd_seg.__file__).parent, site / "kd_seg", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "home").mkdir()
    (tmp_path / "temporary").mkdir()
    for path in [tmp_path / "home", site, *site.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield site
    for path in [site, *site.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_everything_imports(install: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(install)}
    environment |= {"MPLCONFIGDIR": str(tmp_path / "temporary")}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(install)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, preexec_fn=obey_permissions,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count, _, folder = done.stdout.strip().partition(" ")
    assert int(count) > 200
    assert Path(folder).parent == tmp_path / "temporary"
    assert list(Path(folder).rglob("*.nbi"))
    assert Path(folder).stat().st_mode & 0o077 == 0


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No place for compiled code but the temporary folder, which is this test's."""
    monkeypatch.setattr(kernels.numba_config, "CACHE_DIR", "")
    monkeypatch.setattr(kernels, "_writable", lambda folder: False)
    monkeypatch.setattr(kernels.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    return tmp_path


def test_a_numba_that_was_imported_before_is_told(nowhere: Path) -> None:
    assert kernels._find_cache()
    folder = nowhere / f"kd_seg_numba_{os.getuid()}"
    assert kernels.numba_config.CACHE_DIR == os.environ["NUMBA_CACHE_DIR"] == str(folder)


@pytest.mark.parametrize("trap", ["open to others", "a link"])
def test_a_folder_of_somebody_else_is_not_used(nowhere: Path, trap: str) -> None:
    """What lies in the cache is run, so a folder that others can write to must not be it."""
    folder = nowhere / f"kd_seg_numba_{os.getuid()}"
    if trap == "a link":
        (nowhere / "theirs").mkdir()
        folder.symlink_to(nowhere / "theirs")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    assert kernels._find_cache()
    used = Path(kernels.numba_config.CACHE_DIR)
    assert used != folder
    assert used.parent == nowhere
    assert used.stat().st_mode & 0o077 == 0


def test_without_any_folder_kernels_compile_at_every_start(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full() -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernels, "_temporary_folder", full)
    with caplog.at_level(logging.WARNING, "kd_seg"):
        assert not kernels._find_cache()
    assert "No space left on device" in caplog.text
    monkeypatch.setattr(kernels, "CACHING", False)
    assert kernels.kernel(_double)(4) == 8


def _double(value: int) -> int:
    return value + value
