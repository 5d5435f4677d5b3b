"""Scans to batches: one stateless stream of samples, the same whatever the number of workers, resumable anywhere."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from kd_seg.classes import ClassTable
from kd_seg.core.errors import KdSegError
from kd_seg.networks import Batch, Encoding, collate, encode
from kd_seg.objectives import Sample, View
from kd_seg.scans import Cloud, Key, Scan, SemanticKitti
from kd_seg.training.augment import augment
from kd_seg.training.config import AugmentSettings

Fuse = Callable[[Scan, Cloud, np.random.Generator], Cloud]
Paste = Callable[[Cloud, np.random.Generator], Cloud]
Mix = Callable[[Cloud, Callable[[], Cloud], np.random.Generator], Cloud]


@dataclass(frozen=True)
class Pipeline:
    """How one sample is made; pickles and forks into workers.

    Attributes:
        labelled: keys whose labels may be read; None where none may (an annotation-free run).
        fuse: adds fused rows and gives the student all of them, as a multi-scan teacher is trained; None: own rows.
        fused_share: share of the samples that ``fuse`` is applied to; the others are single scans.
    """

    data: SemanticKitti
    keys: tuple[Key, ...]
    classes: ClassTable
    encoding: Encoding
    settings: AugmentSettings
    views: tuple[View, ...]
    labelled: frozenset[Key] | None
    fuse: Fuse | None
    paste: Paste | None
    mix: Mix | None
    fused_share: float = 1.0

    def cloud(self, key: Key, rng: np.random.Generator, fuse: Fuse | None) -> tuple[Any, Cloud]:
        """Scan and cloud before augmentation: own rows, fused ones, pasted instances, and what views add."""
        scan = self.data.scan(*key)
        cloud = Cloud.of_scan(scan, with_labels=self.labelled is not None and key in self.labelled)
        if fuse is not None:
            cloud = fuse(scan, cloud, rng)
        fused = fuse is not None
        for view in self.views:
            if not (view.adds_fused and fused):  # the student's fused rows, or one view's, serve all of them
                cloud = view.extend(scan, cloud, rng)
            fused = fused or view.adds_fused
        if self.paste is not None:
            cloud = self.paste(cloud, rng)
        return scan, cloud

    def sample(self, key: Key, rng: np.random.Generator) -> tuple[Sample, list[Any]]:
        """One augmented, encoded sample and its views."""
        fuse = self.fuse if self.fused_share == 1.0 or rng.random() < self.fused_share else None
        scan, cloud = self.cloud(key, rng, fuse)
        if self.mix is not None:
            other = self.keys[int(rng.integers(len(self.keys)))]
            cloud = self.mix(cloud, lambda: self.cloud(other, rng, fuse)[1], rng)
        cloud = augment(cloud, self.settings, rng)
        if fuse is not None:
            cloud = replace(cloud, own=len(cloud))
        labels = self.classes.to_train(cloud.words, scan.name)
        encoded = encode(cloud.points[: cloud.own], labels[: cloud.own], self.encoding)
        made = Sample(scan, cloud, encoded, labels, rng)
        return made, [view.build(made) for view in self.views]


class Batches(Dataset[Batch]):
    """Batch number n of the run: which scans and which random numbers depend on (seed, n) alone.

    Args:
        rank, world: this process among several; each takes its own part of every batch.
        first: number of the first batch (on resuming); count: batches of the whole run.
    """

    def __init__(
        self, pipeline: Pipeline, seed: int, batch: int, first: int, count: int, rank: int = 0, world: int = 1
    ) -> None:
        self.pipeline = pipeline
        self.seed, self.batch, self.first, self.count = seed, batch, first, count
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.count - self.first

    def __getitem__(self, item: int) -> Batch:
        number = self.first + item
        if item < 0 or number >= self.count:
            raise IndexError(item)
        size = self.batch * self.world
        positions = [number * size + self.rank * self.batch + i for i in range(self.batch)]
        made = [self.pipeline.sample(self._key(p), np.random.default_rng([self.seed, 1, p])) for p in positions]
        batch = collate([sample.encoded for sample, _ in made], self.pipeline.encoding.grid)
        views = {
            view.name: view.collate([built[i] for _, built in made], batch)
            for i, view in enumerate(self.pipeline.views)
        }
        return replace(batch, views=views)

    def _key(self, position: int) -> Key:
        """Scans in a new random order each time all have been seen."""
        total = len(self.pipeline.keys)
        order = np.random.default_rng([self.seed, 0, position // total]).permutation(total)
        return self.pipeline.keys[order[position % total]]


def _enter_worker(_: int) -> None:
    """First thing in a worker: take one thread, leave Ctrl-C to the trainer."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def stream(batches: Batches, workers: int) -> Iterator[Batch]:
    """The batches in order, made by ``workers`` processes (0 = in this one)."""
    loader: DataLoader[Batch] = DataLoader(
        batches,
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        worker_init_fn=_enter_worker if workers else None,
        generator=torch.Generator(),  # else it draws from the global one, and a resumed run would differ
    )
    return _sentences(iter(loader))


def _sentences(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches; an error of a worker without the traceback that torch wraps it in."""
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except KdSegError as error:
            text = str(error.args[0]) if error.args else ""
            if "Original Traceback" not in text:
                raise
            raise type(error)(text.strip().rpartition(f"{type(error).__name__}: ")[2]) from None
        yield batch


@contextmanager
def deaths_of_workers() -> Iterator[None]:
    """One sentence where a worker is killed, which torch tells by an error in whatever this process does just then."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        if "shared memory" in str(error):
            raise KdSegError(
                "A process that makes batches found no room in shared memory (/dev/shm); give a container more of it, "
                "as docker run --shm-size=2g does, or set run.workers=0."
            ) from None
        raise KdSegError(
            "A process that makes batches was killed, perhaps for want of memory; use a smaller run.batch or fewer "
            "run.workers."
        ) from None


def choose_labelled(keys: list[Key], fraction: float, seed: int) -> frozenset[Key]:
    """The scans whose labels may be used: at least one, drawn by seed, nested (1 % lies within 10 %)."""
    order = np.random.default_rng([seed, 2]).permutation(len(keys))
    count = max(1, round(fraction * len(keys)))
    return frozenset(keys[i] for i in order[:count])
