"""A sweep of three rows on a tiny data set."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tiny_data import write_tiny

CONFIG = {
    "data": {"train": ["00"], "valid": ["01"]},
    "grid": {"voxel_size": 0.5},
    "run": {"steps": 2, "batch": 1, "workers": 0, "threads": 1, "device": "cpu"},
}
SWEEP = {
    "name": "small",
    "purpose": "Does anything help?",
    "base": "base.yaml",
    "seeds": [0, 1],
    "baseline": "plain",
    "set": {"run.steps": 3},
    "rows": [
        {"name": "plain"},
        {"name": "first", "seeds": [1], "set": {"grid.voxel_size": 0.4}},
        {
            "name": "tuned",
            "needs": "first",
            "set": {"student.init": "{needs.checkpoint}", "optim.lr": 1e-5},
            "note": "x",
        },
    ],
    "classes": ["car", "pole"],
}


@pytest.fixture(name="folder")
def sweep_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with base.yaml, sweep.yaml and their data."""
    monkeypatch.chdir(tmp_path)
    write_tiny(tmp_path / "data", scans=1)
    content = {**CONFIG, "data": {**CONFIG["data"], "root": "data"}}  # type: ignore[dict-item]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    return tmp_path


def change(folder: Path, **changes: object) -> Path:
    """changed.yaml: the sweep with other entries."""
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, **changes}))
    return path
