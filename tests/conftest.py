"""Fixtures of the tests that need a real rclpy; without one they are never asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("kd_seg", deadline=None)  # machines are shared
settings.load_profile("kd_seg")


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
