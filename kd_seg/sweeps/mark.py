"""What a sweep remembers in a run folder: its settings, whether it is trained, and how it was scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kd_seg.core.errors import DataError, KdSegError
from kd_seg.core.files import write_json
from kd_seg.sweeps.plan import Job
from kd_seg.training import RunFolder, read_training_config

VERSION = 2
"""Digests of version 1 (kd_seg 0.1.0) are over all keys, so that they change with each key a release adds or drops."""


class Mark:
    """``sweep.json`` of a job's run folder."""

    def __init__(self, job: Job) -> None:
        self.job, self.run = job, RunFolder(job.run)
        path = self.run.sweep
        self.content = _read(path) if path.is_file() else {}

    @property
    def exists(self) -> bool:
        """Whether the sweep has begun the run."""
        return bool(self.content)

    @property
    def empty(self) -> bool:
        """Whether training ended before it wrote anything, as where a teacher is missing."""
        return not self.trained and not self.run.config.is_file() and not self.run.state.is_file()

    @property
    def trained(self) -> bool:
        """Whether training is at its end."""
        return bool(self.content.get("trained"))

    @property
    def fits(self) -> bool:
        """Whether the run is made with the settings that the job has now."""
        if self.content.get("digest") == self.job.digest:
            return True
        return "version" not in self.content and self._same_settings()

    def _same_settings(self) -> bool:
        if not self.run.config.is_file():
            return False
        try:
            made_with = self.run.read_config()
        except KdSegError:
            return False
        return made_with == read_training_config(self.job.config, list(self.job.overrides))

    def write(self, trained: bool) -> None:
        """Note the job's settings, and whether it is trained."""
        self._put({"version": VERSION, "digest": self.job.digest, "trained": trained})

    def note_scored(self, evaluation: str) -> None:
        """Note the arguments that a scoring was made with."""
        args = {item.name: item.args for item in self.job.evaluations}
        self._put({"scored": {**self.content.get("scored", {}), evaluation: args[evaluation]}})

    @property
    def outdated(self) -> list[str]:
        """Scorings whose arguments have changed since they were made; earlier releases noted none."""
        known = self.content.get("scored", {})
        return [item.name for item in self.job.evaluations if known.get(item.name, item.args) != item.args]

    def drop_outdated(self) -> None:
        """Remove results of scorings whose arguments have changed since."""
        for name in self.outdated:
            self.job.result(name).unlink(missing_ok=True)

    def _put(self, entries: dict[str, Any]) -> None:
        self.content = {**self.content, **entries}
        write_json(self.run.sweep, self.content)

    def remove(self) -> None:
        """Forget the run, so that it is trained and scored again."""
        # The mark last: a kill on the way would else leave scores that nothing tells from those of the new settings.
        for path in (*(self.job.result(e.name) for e in self.job.evaluations), self.run.state, self.run.sweep):
            path.unlink(missing_ok=True)
        self.content = {}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise DataError(f"{path} is broken; delete it and give --overwrite, so that the run is trained again.")
    return content
