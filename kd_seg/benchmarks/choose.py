"""Which benchmark, on what: the scan given or a simulated one; and the machine that ran it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kd_seg.benchmarks.timing import BenchRow
from kd_seg.core.device import choose_device
from kd_seg.core.errors import UsageError
from kd_seg.scans import Points, SemanticKitti, read_points
from kd_seg.serving.segmenter import on_device


@dataclass(frozen=True)
class Request:
    """What to time.

    Attributes:
        scan: a point file; None = a simulated scan.
        data: a data root, for the benchmarks that need more than one scan; None = a simulated one.
        voxel_size: metres; None = the benchmark's own (voxelize 0.05, maps and train 0.1).
        repeats: turns taken; the best counts. None = the benchmark's own, enough for a busy machine: with few turns a
            slow rival is interrupted in all of them, a fast one is not, and the ratio flatters.
        threads: of torch, for all rivals.
        checkpoint: for predict; None = the shipped student.
        size: of the network, for train and convolution; None = the benchmark's own.
        device: cpu, cuda or cuda:N, for train and predict; the others time what is done on the CPU alone.
    """

    scan: Path | None = None
    data: Path | None = None
    voxel_size: float | None = None
    repeats: int | None = None
    threads: int = 1
    checkpoint: Path | None = None
    device: str = "cpu"
    size: str | None = None

    def points(self) -> Points:
        """The cloud [N, 4] to time on."""
        if self.scan is not None:
            return read_points(self.scan)
        with tempfile.TemporaryDirectory() as folder:
            points: Points = simulated(Path(folder), scans=1, images=False)[0].points
            return points


def simulated(folder: Path, scans: int, images: bool) -> SemanticKitti:
    """One short simulated sequence, always the same."""
    from kd_seg.streets import simulate

    simulate(folder, 1, scans, 0, images, 1.0, workers=1)
    return SemanticKitti(folder)


def _voxelize(request: Request) -> list[BenchRow]:
    from kd_seg.benchmarks.voxelize import rows

    return rows(request.points(), request.voxel_size or 0.05, request.repeats or 30)


def _maps(request: Request) -> list[BenchRow]:
    from kd_seg.benchmarks.maps import rows

    return rows(request.points(), request.voxel_size or 0.1, request.repeats or 10)


def _fuse(request: Request) -> list[BenchRow]:
    from kd_seg.benchmarks.fuse import rows

    size, repeats = request.voxel_size or 0.1, request.repeats or 5
    if request.data is not None:
        return rows(SemanticKitti(request.data), size, repeats)
    with tempfile.TemporaryDirectory() as folder:
        return rows(simulated(Path(folder), scans=12, images=False), size, repeats)


def _project(request: Request) -> list[BenchRow]:
    from kd_seg.benchmarks.project import rows

    return rows(request.points(), request.repeats or 10)


def _distil(request: Request) -> list[BenchRow]:
    from kd_seg.benchmarks.distil import rows

    return _on_streets(request, rows, scans=8, images=False)


def _images(request: Request) -> list[BenchRow]:
    from kd_seg.benchmarks.images import rows

    return _on_streets(request, rows, scans=4, images=True)


def _on_streets(
    request: Request, rows: Callable[[Path, float, int], list[BenchRow]], scans: int, images: bool
) -> list[BenchRow]:
    """Rows of the data asked for, else of so many simulated scans."""
    size, repeats = request.voxel_size or 0.2, request.repeats or 3
    if request.data is not None:
        return rows(request.data, size, repeats)
    with tempfile.TemporaryDirectory() as folder:
        simulated(Path(folder), scans, images)
        return rows(Path(folder), size, repeats)


def _train(request: Request) -> list[BenchRow]:
    from kd_seg.benchmarks.train import rows

    return rows(
        request.points(), request.voxel_size or 0.1, request.repeats or 3, request.size or "small", request.device
    )


def _convolution(request: Request) -> list[BenchRow]:
    from kd_seg.benchmarks.convolution import rows

    return rows(request.points(), request.voxel_size or 0.2, request.repeats or 10, request.size or "nano")


def _predict(request: Request) -> list[BenchRow]:
    from kd_seg.benchmarks.predict import rows

    return rows(request.points(), request.repeats or 10, request.checkpoint, request.device)


BENCHES: dict[str, Callable[[Request], list[BenchRow]]] = {
    "voxelize": _voxelize,
    "maps": _maps,
    "fuse": _fuse,
    "project": _project,
    "distil": _distil,
    "images": _images,
    "train": _train,
    "predict": _predict,
    "convolution": _convolution,
}


ON_DEVICES = ("train", "predict")
"""Benchmarks of what may run on CUDA."""


READS: dict[str, tuple[str, ...]] = {
    "voxelize": ("scan", "voxel"),
    "maps": ("scan", "voxel"),
    "fuse": ("data", "voxel"),
    "project": ("scan",),
    "distil": ("data", "voxel"),
    "images": ("data", "voxel"),
    "train": ("scan", "voxel", "size", "device"),
    "predict": ("scan", "checkpoint", "device"),
    "convolution": ("scan", "voxel", "size"),
    "front": ("scan", "sweep", "hz"),
}
"""Options that each benchmark reads, beside --repeats and --threads."""


def check_options(what: str, request: Request) -> None:
    """UsageError for a benchmark that is none, and for an option that it does not read."""
    if what not in READS:
        raise UsageError(f"There is no benchmark {what!r}; there are: {', '.join(READS)}.")
    given = {"scan": request.scan, "data": request.data, "voxel": request.voxel_size, "size": request.size}
    given |= {"checkpoint": request.checkpoint}
    for name, value in given.items():
        if value is not None and name not in READS[what]:
            takes = ", ".join(f"--{option}" for option in READS[what])
            raise UsageError(f"bench {what} does not take --{name}; it takes {takes}.")


def bench(what: str, request: Request) -> list[BenchRow]:
    """Run one benchmark; UsageError lists those there are, and the options that it takes."""
    check_options(what, request)
    if request.device != "cpu" and what not in ON_DEVICES:
        raise UsageError(f"What bench {what} times is done on the CPU; --device is for {' and '.join(ON_DEVICES)}.")
    device = choose_device(request.device)
    before = torch.get_num_threads()
    torch.set_num_threads(request.threads)
    try:
        with on_device(device):
            return BENCHES[what](replace(request, device=str(device)))
    finally:
        torch.set_num_threads(before)
