"""What several rooms share: one thread, patient property tests, a tiny data set and student, and a node to talk to."""

from __future__ import annotations

import os

# Before torch and Numba are imported: on a busy machine two threads that wait for each other are ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Machines are shared, kernels compile.
settings.register_profile("kd_seg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kd_seg")


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root of two labelled sequences with three scans each (tiny_data.py); nobody writes into it."""
    from tiny_data import write_tiny

    return write_tiny(tmp_path_factory.mktemp("tiny_root"))


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano student with random weights."""
    from random_student import write_student

    return write_student(tmp_path_factory.mktemp("random_checkpoint") / "student.safetensors")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    os.environ.setdefault("NUMBA_CACHE_DIR", str(tmp_path_factory.mktemp("numba")))
    from ros_clouds import tiny_checkpoint

    return tiny_checkpoint(tmp_path_factory.mktemp("ck") / "tiny.safetensors")  # type: ignore[no-any-return]


@pytest.fixture
def peer() -> Iterator[Any]:
    from ros_harness import Peer

    one = Peer()
    yield one
    one.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    from ros_harness import NodeProcess

    running: list[NodeProcess] = []

    def begin(*extra: str, **parameters: Any) -> NodeProcess:
        running.append(NodeProcess(tmp_path, *extra, name=f"node{len(running)}", **parameters))
        return running[-1]

    yield begin
    for node in running:
        if node.process.poll() is None:
            node.process.kill()
            node.process.wait()
