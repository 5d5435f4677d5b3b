"""What is installed: builds whose names carry a CUDA version, packages that are not there, the checkout's commit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from kd_seg.core import environment
from kd_seg.core.device import choose_device
from kd_seg.core.errors import MissingDependencyError


@pytest.fixture
def distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only these are installed: plain 1.2, and fast in a build for CUDA 12.1."""
    for name, version in (("plain", "1.2"), ("fast_cu121", "2.3.6"), ("faster", "9")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n")
    found = [metadata.Distribution.at(path) for path in sorted(tmp_path.iterdir())]
    by_name = {one.metadata["Name"]: one.version for one in found}

    def version_of(name: str) -> str:
        if name not in by_name:
            raise metadata.PackageNotFoundError(name)
        return by_name[name]

    monkeypatch.setattr(environment.metadata, "version", version_of)
    monkeypatch.setattr(environment.metadata, "distributions", lambda: iter(found))
    environment.installed.cache_clear()
    yield
    environment.installed.cache_clear()


@pytest.mark.usefixtures("distributions")
def test_a_build_for_cuda_is_found_by_its_family() -> None:
    assert str(environment.installed("plain")) == "plain 1.2"
    assert str(environment.installed("fast")) == "fast-cu121 2.3.6"
    assert environment.installed("fas") is None
    assert environment.version("fast") == "2.3.6"
    assert environment.version("nothing") == "not installed"


def test_the_commit_is_the_checkouts(tmp_path: Path) -> None:
    assert environment.commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    clean = environment.commit(tmp_path)
    assert clean is not None
    assert not clean.endswith("+")
    (tmp_path / "file").write_text("2")
    assert environment.commit(tmp_path) == f"{clean}+"


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "cuda:x", "auto:0", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(MissingDependencyError, match="is unknown; use auto, cpu, cuda or cuda:N"):
        choose_device(name)


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    for name in ("cuda", "cuda:1"):
        with pytest.raises(MissingDependencyError, match=f"device {name} requested, no CUDA device found"):
            choose_device(name)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert str(choose_device("cuda:1")) == "cuda:1"
    with pytest.raises(MissingDependencyError, match="the last is cuda:1"):
        choose_device("cuda:2")
