"""Quality against latency: the students of a sweep, what each is worth and how long it takes for one scan."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from kd_seg.core.errors import DataError
from kd_seg.networks import collate, encode
from kd_seg.networks.work import multiply_adds
from kd_seg.scans import Points
from kd_seg.serving.segmenter import Segmenter
from kd_seg.sweeps.plan import Job, Sweep
from kd_seg.sweeps.table import collect
from kd_seg.training import RunFolder

MEASURE = "mIoU present"
"""Column of a sweep's table: IoU over the classes that a scoring has."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from points to classes: the median, and what 95 of 100 scans take at most."""

    median: float
    p95: float


@dataclass(frozen=True)
class Student:
    """One row of a sweep.

    Attributes:
        row: its name. network: name and size. voxel: edge length in metres; None where voxels are no cubes.
        values: of the network. gmacs: thousands of millions of multiply-adds for the scan.
        miou: percent by scoring, mean over the seeds.
        latency: by number of threads.
    """

    row: str
    network: str
    voxel: float | None
    values: int
    gmacs: float
    miou: dict[str, float]
    latency: dict[int, Latency]

    @property
    def mean(self) -> float:
        """Mean over the scorings."""
        return float(np.mean(list(self.miou.values())))


@dataclass(frozen=True)
class Front:
    """Students in the order of the sweep; the scan's points; threads that were timed."""

    name: str
    points: int
    threads: tuple[int, ...]
    students: tuple[Student, ...]

    def best(self, threads: int) -> list[Student]:
        """Those that no other beats in both latency and mean mIoU, fastest first."""
        kept: list[Student] = []
        for student in sorted(self.students, key=lambda s: (s.latency[threads].median, -s.mean)):
            if not kept or student.mean > kept[-1].mean:
                kept.append(student)
        return kept

    def choice(self, hz: float, threads: int) -> Student | None:
        """The best that answers 95 of 100 scans within the period of a rate; None where none does."""
        able = [student for student in self.students if student.latency[threads].p95 <= 1e3 / hz]
        return max(able, key=lambda student: student.mean, default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def measure(sweep: Sweep, jobs: list[Job], points: Points, threads: Sequence[int], repeats: int) -> Front:
    """Time the students of all finished rows on one scan, in turns, so that a busy minute slows all of them alike.

    Args:
        points: [N, 4] x, y, z in metres, intensity 0-1. threads: numbers of torch's threads to time with.
        repeats: scans per student and number of threads.

    Raises DataError where no row is finished.
    """
    scores = _scores(sweep, jobs)
    if not scores:
        raise DataError(f"No row of {sweep.name} is trained and scored; run kd-seg sweep first.")
    folders = {row: next(job.run for job in jobs if job.row == row) for row in scores}
    students = {row: Segmenter(RunFolder(folder).last, device="cpu") for row, folder in folders.items()}
    times = _timed(list(students.values()), points, threads, repeats)
    made = [
        _student(row, student, scores[row], points, latency)
        for (row, student), latency in zip(students.items(), times, strict=True)
    ]
    return Front(sweep.name, len(points), tuple(threads), tuple(made))


def _scores(sweep: Sweep, jobs: list[Job]) -> dict[str, dict[str, float]]:
    """Percent by row and scoring, of rows whose scorings are all there."""
    found: dict[str, dict[str, float]] = {}
    finished = {job.row for job in jobs} - {job.row for job in jobs if not job.finished}
    for line in collect(sweep, jobs).lines:
        value = line.cells[MEASURE].value
        if line.row in finished and value is not None:
            found.setdefault(line.row, {})[line.evaluation] = value.mean
    return found


def _timed(students: list[Segmenter], points: Points, threads: Sequence[int], repeats: int) -> list[dict[int, Latency]]:
    """Latency of each student by number of threads; the first scan of each compiles and is left out."""
    taken: list[dict[int, list[float]]] = [{count: [] for count in threads} for _ in students]
    before = torch.get_num_threads()
    try:
        for student in students:
            student.segment(points)
        for _ in range(repeats):
            for student, mine in zip(students, taken, strict=True):
                for count in threads:
                    torch.set_num_threads(count)
                    start = time.perf_counter()
                    student.segment(points)
                    mine[count].append(1e3 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(before)
    return [{n: Latency(float(np.median(t)), float(np.percentile(t, 95))) for n, t in mine.items()} for mine in taken]


def _student(
    row: str, student: Segmenter, miou: dict[str, float], points: Points, latency: dict[int, Latency]
) -> Student:
    spec, grid = student.spec, student.spec.encoding.grid
    sides = set(getattr(grid, "voxel_size", ()))
    batch = collate([encode(spec.as_trained(points), None, spec.encoding)], grid)
    return Student(
        row=row,
        network=f"{spec.network} {spec.size}",
        voxel=sides.pop() if len(sides) == 1 else None,
        values=sum(p.numel() for p in student.network.parameters()),
        gmacs=1e-9 * multiply_adds(student.network, batch),
        miou=miou,
        latency=latency,
    )
