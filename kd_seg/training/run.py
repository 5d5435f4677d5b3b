"""The run folder: what a training writes, where, and how it is read back."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

import kd_seg
from kd_seg.core.config import read_yaml, validate
from kd_seg.core.environment import commit, installed
from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.files import whole_file, write_bytes, write_json, write_text
from kd_seg.training.config import TrainingConfig

PACKAGES = ("torch", "numpy", "numba", "spconv", "cumm", "scipy", "open3d", "safetensors")


class RunFolder:
    """``runs/NAME/`` and the names of all files in it; nothing else of the package writes there by a name of its own.

    Attributes:
        config: resolved configuration. environment: versions, command, machine. metrics: the log, one line each.
        last, best: checkpoints. state: what a resumed run continues from.
        evaluation: scores of ``data.valid``. evaluations: folder of a sweep's scorings; sweep: its mark.
        report: of kd-seg report. profile, trace: of kd-seg train --profile.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.metrics = self.log("metrics")
        self.tensorboard = self.path / "tensorboard"
        self.last = self.path / "checkpoints" / "last.safetensors"
        self.best = self.path / "checkpoints" / "best.safetensors"
        self.state = self.path / "state.pt"
        self.evaluation = self.path / "evaluation.json"
        self.evaluations = self.path / "evaluations"
        self.sweep = self.path / "sweep.json"
        self.report = self.path / "report.html"
        self.profile = self.path / "profile.txt"
        self.trace = self.path / "trace.json"

    def log(self, name: str) -> Path:
        """``NAME.jsonl``: the metrics, and logs of objectives such as ``units``."""
        return self.path / f"{name}.jsonl"

    def begin(self, config: TrainingConfig, overwrite: bool) -> None:
        """Make the folder and write configuration and environment; UsageError if it was used and not ``overwrite``."""
        if self.config.exists():
            if not overwrite:
                raise UsageError(
                    f"{self.path} already holds a run; continue with kd-seg train --resume {self.path}, give another "
                    "run.folder, or replace it with --overwrite."
                )
            self._clear()
        self.path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.to_plain(), sort_keys=False, width=100)
        write_json(self.environment, environment())
        write_text(self.config, text)

    def _clear(self) -> None:
        """Remove what a run wrote, nothing else; a sweep's mark stays, as the sweep begins the run."""
        for folder in (self.tensorboard, self.last.parent, self.evaluations):
            shutil.rmtree(folder, ignore_errors=True)
        files = [self.environment, self.state, self.evaluation, self.report, self.profile, self.trace]
        # The configuration last: without it the folder would pass for an unused one, with the state of another run.
        for file in [*files, *self.path.glob("*.jsonl"), self.config]:
            file.unlink(missing_ok=True)

    def read_config(self) -> TrainingConfig:
        """The resolved configuration of the run; DataError if the folder holds none."""
        if not self.config.is_file():
            raise DataError(f"{self.path} is no run folder (it has no config.yaml); give one that kd-seg train made.")
        return validate(TrainingConfig, read_yaml(self.config), str(self.config))

    def save_state(self, state: dict[str, Any]) -> None:
        """Write ``state.pt`` whole."""
        with whole_file(self.state) as temporary:
            torch.save(state, temporary)

    def read_state(self) -> dict[str, Any]:
        """Read ``state.pt`` without running code from it; DataError if there is none."""
        if not self.state.is_file():
            raise DataError(f"{self.path} has no state.pt to continue from; start it again with --overwrite.")
        try:
            state: dict[str, Any] = torch.load(self.state, weights_only=True, map_location="cpu")
        except Exception as error:  # a damaged file makes torch fail in many ways; all mean the same
            reason = next(iter(str(error).splitlines()), "")[:120]
            raise DataError(
                f"{self.state} is damaged ({type(error).__name__}: {reason}); start the run again with --overwrite."
            ) from None
        if not isinstance(state, dict):
            raise DataError(f"{self.state} holds no state of a run; start it again with --overwrite.")
        return state

    def record(self, name: str, step: int, line: dict[str, Any]) -> None:
        """Add a line to a log of few lines; the file is whole at any time."""
        path = self.log(name)
        before = path.read_bytes() if path.is_file() else b""
        write_bytes(path, before + (json.dumps({"step": step, **line}) + "\n").encode())

    def trim(self, step: int, epoch_steps: int) -> None:
        """Drop the lines of all logs for steps after ``step`` (written after the last save, before a kill).

        Args:
            epoch_steps: steps of an epoch; kd_seg 0.1.0 gave only epochs in ``units.jsonl``.
        """
        for path in self.path.glob("*.jsonl"):
            kept = []
            for text in path.read_text(encoding="utf-8").splitlines():
                try:
                    line = json.loads(text)
                    if line.get("step", line.get("epoch", 0) * epoch_steps) <= step:
                        kept.append(text)
                except (ValueError, AttributeError):
                    continue  # a line cut off by the kill
            write_text(path, "".join(f"{text}\n" for text in kept))


def environment() -> dict[str, Any]:
    """Versions, command, commit and machine, for ``environment.json``."""
    found = [one for one in map(installed, PACKAGES) if one is not None]
    return {
        "kd_seg": kd_seg.__version__,
        "commit": commit(Path(kd_seg.__file__).resolve().parent.parent),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "versions": {one.name: one.version for one in found},
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }
