"""Building a cache: shards side by side, each written whole, so that an interrupted build continues."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kd_seg.caches.header import CachePlan, write_header
from kd_seg.caches.shards import FOLDER, Record, blocks, shard_path, write_shard
from kd_seg.caches.work import Work
from kd_seg.core.files import in_use, remove_temporaries
from kd_seg.core.processes import run_tasks
from kd_seg.core.progress import Advance
from kd_seg.core.shard import WHOLE
from kd_seg.scans import Key

LOG = logging.getLogger("kd_seg.caches")

Maker = Callable[[Sequence[Key]], Iterable[Record]]
"""``maker(keys)`` yields the record of each scan of one shard, in order."""


def build_cache(
    plan: CachePlan, setup: Callable[[], Maker], work: Work, before: Callable[[list[Key]], None] = lambda keys: None
) -> None:
    """Build what is missing of a cache; shards that are there stay.

    With several parts (``work.shard``) each does every n-th shard; a merge of folders is a merge of caches.

    Args:
        setup: called once in each process, and only where something is missing; gives what makes records. It pickles
            for several workers.
        before: called here with the scans that are missing, once the folder is begun and before any is made.

    Raises:
        DataError: the folder holds a cache that does not fit (unless ``work.rebuild``).
    """
    if work.rebuild and plan.folder.exists() and work.shard[0] == 1:
        shutil.rmtree(plan.folder)
    write_header(plan, work.fix_command)
    part, parts = work.shard
    mine = list(blocks(plan.keys, plan.kind.block).items())[part - 1 :: parts]
    tasks = [(shard_path(plan.folder, name), keys) for name, keys in mine]
    missing = [(path, keys) for path, keys in tasks if not path.is_file()]
    LOG.debug("%s %s: %d shards, %d of them missing", plan.kind.name, plan.folder, len(tasks), len(missing))
    before([key for _, keys in missing for key in keys])
    with in_use(plan.folder / FOLDER) as alone:
        try:
            with work.progress(_title(plan, work), sum(len(keys) for _, keys in tasks)) as advance:
                advance(sum(len(keys) for _, keys in tasks) - sum(len(keys) for _, keys in missing))
                run_tasks(partial(_Writer.start, setup), missing, work.workers, advance)
        except BaseException:
            if alone():  # another build may be writing the same shards
                remove_temporaries(plan.folder / FOLDER, [path.name for path, _ in missing])
            raise


def missing_shards(plan: CachePlan) -> list[str]:
    """Names of the shards that a cache still lacks."""
    return [name for name in blocks(plan.keys, plan.kind.block) if not shard_path(plan.folder, name).is_file()]


def _title(plan: CachePlan, work: Work) -> str:
    part, parts = work.shard
    return plan.kind.name if work.shard == WHOLE else f"{plan.kind.name}, part {part} of {parts}"


@dataclass(frozen=True)
class _Writer:
    """Makes and writes shards, one process's worth."""

    maker: Maker

    @classmethod
    def start(cls, setup: Callable[[], Maker]) -> _Writer:
        return cls(setup())

    def __call__(self, path: Path, keys: Sequence[Key], advance: Advance) -> None:
        records = []
        for record in self.maker(keys):
            records.append(record)
            advance(1)
        write_shard(path, keys, records)
