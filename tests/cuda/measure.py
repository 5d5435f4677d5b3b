"""Measurements of one device, called by ``run.py``; each prints its figures as one line of JSON."""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from kd_seg.core.errors import ConfigError
from kd_seg.networks import Batch, Encoding, build_network, collate, encode
from kd_seg.networks.spv import BOXES, FEATURES
from kd_seg.scans import Points
from kd_seg.voxels import CartesianGrid, CylindricalGrid, feature_width

BOUNDS = {"logits": 1e-4, "gradient": 5e-2, "half_logits": 0.25, "served_classes": 0.99}
"""What a device may differ by: logits absolutely, gradients relatively, a trained network's classes by share."""


def street(seed: int, points: int = 120_000) -> Points:
    """A scan [N, 4] without a ray caster: 64 rings on a road, two walls and boxes beside it, as dense as a real one."""
    rng = np.random.default_rng(seed)
    elevation = np.radians(np.repeat(np.linspace(2.0, -24.5, 64), points // 64))
    azimuth = np.tile(np.linspace(-np.pi, np.pi, points // 64, endpoint=False), 64)
    direction = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], 1
    )
    with np.errstate(divide="ignore"):
        road = np.where(direction[:, 2] < 0, -1.73 / direction[:, 2], np.inf)
        wall = np.where(direction[:, 1] > 0, 9.0, 7.0) / np.abs(direction[:, 1])
    distance = np.minimum(np.minimum(road, wall), 80.0)
    sector = (azimuth * 40 / np.pi).astype(int)
    boxes = rng.uniform(4.0, 40.0, 82)[sector + 40] * np.where(rng.random(82)[sector + 40] < 0.3, 1.0, np.inf)
    hit = (direction[:, 2] * boxes > -1.73) & (direction[:, 2] * boxes < 0.2)
    distance = np.where(hit, np.minimum(distance, boxes), distance) + rng.normal(0, 0.02, len(distance))
    xyz = direction * distance[:, None]
    return np.concatenate([xyz, rng.uniform(0, 0.6, (len(xyz), 1))], axis=1).astype(np.float32)


def encoding_of(network: str) -> Encoding:
    """Grid and features that a network is timed with."""
    if network == "cylinder":
        return Encoding(CylindricalGrid((480, 360, 32), (0.0, -np.pi, -4.0), (50.0, np.pi, 2.0)), ("cylinder9",))
    if network == "minkunet":
        return Encoding(CartesianGrid((0.1,) * 3, (-80.0, -80.0, -8.0), (80.0, 80.0, 8.0)), ("xyz", "remission"))
    if network == "spv":
        return Encoding(BOXES["semantickitti"], FEATURES)
    return Encoding(CartesianGrid((0.2,) * 3), ("xyz", "remission", "offset"))


def network_of(name: str, size: str, encoding: Encoding) -> nn.Module:
    """A network with settled batch norms."""
    torch.manual_seed(0)
    return build_network(name, size, feature_width(encoding.features), 19)


def versions(device: torch.device) -> dict[str, Any]:
    """What runs where."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
    for name in ("numba", "numpy", "spconv-cu126", "spconv-cu121", "spconv-cu120", "cumm-cu126"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"card": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
        found["capability"] = f"{properties.major}.{properties.minor}"
    return found


def equal(device: torch.device) -> dict[str, Any]:
    """Logits, gradients and half precision of both students against the CPU, as far as the bounds allow."""
    found: dict[str, Any] = {"backend": os.environ.get("KD_SEG_BACKEND")}
    for name, size in (("unet", "nano"), ("unet", "small"), ("cylinder", "nano")):
        encoding = encoding_of(name)
        batch = collate([encode(street(seed, 20_000), None, encoding) for seed in (0, 1)], encoding.grid)
        here = network_of(name, size, encoding)
        with _backend("numba"), torch.no_grad():
            for _ in range(5):
                here.train()(batch)
        there = copy.deepcopy(here).to(device)
        row = _compare(here, there, batch, device)
        found[f"{name} {size}"] = row
        assert row["logits"] <= BOUNDS["logits"], (name, size, row)
        assert row["gradient"] <= BOUNDS["gradient"], (name, size, row)
        assert row.get("half_logits", 0.0) <= BOUNDS["half_logits"], (name, size, row)
    return found


def _compare(here: nn.Module, there: nn.Module, batch: Batch, device: torch.device) -> dict[str, float]:
    moved = batch.to(device)
    with torch.no_grad():
        with _backend("numba"):
            expected = here.eval()(batch).logits
        logits = there.eval()(moved).logits.float().cpu()
    row = {"logits": float((logits - expected).abs().max())}
    slopes = []
    for network, given, backend in ((here, batch, "numba"), (there, moved, None)):
        with _backend(backend):
            network.train()(given).logits.square().mean().backward()
        slopes.append(torch.cat([p.grad.reshape(-1).float().cpu() for p in network.parameters() if p.grad is not None]))
    row["gradient"] = float((slopes[1] - slopes[0]).norm() / slopes[0].norm())
    if device.type == "cuda":
        with torch.no_grad(), torch.autocast("cuda", torch.float16):
            half = there.eval()(moved).logits.float().cpu()
        row["half_classes"] = float((half.argmax(1) == expected.argmax(1)).float().mean())
        row["half_logits"] = float((half - expected).abs().max())
    return row


class _backend:
    """Within it convolutions take one backend; None = what the environment asks for."""

    def __init__(self, name: str | None) -> None:
        self._name = name

    def __enter__(self) -> None:
        from kd_seg.sparse import using

        self._inner = using(self._name) if self._name else None
        if self._inner is not None:
            self._inner.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self._inner is not None:
            self._inner.__exit__(*error)


def speed(device: torch.device, what: str) -> dict[str, Any]:
    """Forward (float32 and float16) and training step of one network, batch 1: ms at p50 and p95, and peak memory."""
    name, _, size = what.partition(":")
    encoding = encoding_of(name)
    try:
        network = network_of(name, size, encoding).to(device)
    except ConfigError as error:
        return {"left out": str(error)}
    batch = collate([encode(street(3), None, encoding)], encoding.grid).to(device)
    found: dict[str, Any] = {"backend": os.environ.get("KD_SEG_BACKEND"), "voxels": len(batch.coordinates)}

    def forward(half: bool) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=half):
                network.eval()(batch)

        return run

    optimiser = torch.optim.AdamW(network.parameters(), 1e-4)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            loss = network.train()(batch).logits.float().square().mean()
        loss.backward()
        optimiser.step()

    found["float32"] = timed(forward(False), device)
    if device.type == "cuda":
        found["float16"] = timed(forward(True), device)
    found["step"] = timed(step, device)
    return found


def timed(run: Callable[[], None], device: torch.device, seconds: float = 2.0) -> dict[str, float]:
    """Milliseconds at p50 and p95 over at most ``seconds`` after three runs to warm up, and peak memory in MiB."""
    for _ in range(3):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end and len(times) < 100:
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - started))
    memory = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else 0.0
    p50, p95 = np.percentile(times, [50, 95])
    return {"p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2), "runs": len(times), "mib": round(memory, 1)}


def serving(device: torch.device) -> dict[str, Any]:
    """The Segmenter as the node runs it: points to classes, in the precision it chooses, after its warm-up."""
    from kd_seg.serving.segmenter import Segmenter

    segmenter = Segmenter(device=device.type)
    segmenter.warm_up(60_000, 2)
    scans = [street(seed) for seed in range(4)]
    expected = Segmenter(device="cpu").segment(scans[0]).class_id
    found = segmenter.segment(scans[0]).class_id
    times = []
    for number in range(40):
        started = time.perf_counter()
        segmenter.segment(scans[number % 4])
        times.append(1e3 * (time.perf_counter() - started))
    p50, p95 = np.percentile(times, [50, 95])
    same = float((expected == found).mean())
    assert same > BOUNDS["served_classes"], same
    return {
        "precision": segmenter.precision,
        "p50_ms": round(p50, 2),
        "p95_ms": round(p95, 2),
        "classes as on the CPU": same,
    }


def two_processes(device: torch.device) -> dict[str, Any]:
    """Whether two processes can share one device under NCCL (gloo on a CPU); what it answers where they cannot."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    code = (
        "import os, torch, torch.distributed as d\n"
        f"d.init_process_group('{backend}')\n"
        f"x = torch.ones(4, device='{device.type}') * (d.get_rank() + 1)\n"
        "d.all_reduce(x)\n"
        "assert x.tolist() == [3.0] * 4\n"
        "print('reduced')\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    done = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True, timeout=55)
    answer = next((line for line in done.stderr.splitlines() if "Duplicate GPU" in line), "")
    return {"backend": backend, "works": done.returncode == 0, "answer": answer or done.stderr.strip()[-200:]}


def main() -> None:
    """Print one measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("what", choices=("versions", "equal", "speed", "serving", "two_processes"))
    parser.add_argument("network", nargs="?")
    given = parser.parse_args()
    device = torch.device(given.device, 0) if given.device == "cuda" else torch.device(given.device)
    if given.what == "speed":
        print(json.dumps(speed(device, given.network)))
    else:
        print(
            json.dumps(
                {"versions": versions, "equal": equal, "serving": serving, "two_processes": two_processes}[given.what](
                    device
                )
            )
        )


if __name__ == "__main__":
    main()
