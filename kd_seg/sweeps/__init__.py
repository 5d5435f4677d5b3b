"""Sweeps as files: configurations x seeds, run side by side, resumable, and put into one table."""

from kd_seg.sweeps.plan import EvaluationSettings, Job, RowSettings, Sweep, plan, read_sweep
from kd_seg.sweeps.results import write_results
from kd_seg.sweeps.runner import Runner, run_sweep
from kd_seg.sweeps.slurm import array_script
from kd_seg.sweeps.statistics import Interval, interval, paired
from kd_seg.sweeps.table import Table, collect

__all__ = [
    "EvaluationSettings",
    "Interval",
    "Job",
    "RowSettings",
    "Runner",
    "Sweep",
    "Table",
    "array_script",
    "collect",
    "interval",
    "paired",
    "plan",
    "read_sweep",
    "run_sweep",
    "write_results",
]
