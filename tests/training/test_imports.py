"""What training does not load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tiny_data import write_tiny

CONFIG = """
data: {{root: {root}, train: ["00"], valid: ["01"]}}
grid: {{voxel_size: 0.4}}
objectives: [{{kind: supervised}}]
run: {{steps: 2, batch: 1, workers: 0, threads: 1}}
"""


def test_training_does_not_load_the_simulator(tmp_path: Path) -> None:
    """Readers of the simulator's truth lie among the scans; a whole run needs nothing of ``kd_seg.streets``."""
    config = tmp_path / "tiny.yaml"
    config.write_text(CONFIG.format(root=write_tiny(tmp_path / "data")))
    folder = f"run.folder={tmp_path / 'run'}"
    script = (
        "import sys\n"
        "from kd_seg.cli.main import main\n"
        f"sys.argv = ['kd-seg', 'train', {str(config)!r}, {folder!r}]\n"
        "try:\n    main()\n"
        "finally:\n    print('loaded', sorted(m for m in sys.modules if m.startswith('kd_seg.streets')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=280, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "loaded []" in done.stdout
    assert (tmp_path / "run").is_dir()
