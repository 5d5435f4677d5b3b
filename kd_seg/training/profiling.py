"""Where the time of a training step goes: torch's profiler over a few steps of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from kd_seg.core.files import whole_file, write_text
from kd_seg.training.run import RunFolder

SKIPPED, WARM_UP, STEPS = 1, 2, 10
"""Steps that compile kernels, steps that the profiler needs itself, and steps that are measured."""
ROWS = 30


@contextmanager
def profiled(run: RunFolder, steps: int) -> Iterator[Callable[[], None]]:
    """A function to call after each training step; the first ten that count go into two files of the run folder.

    ``profile.txt`` is a table of the parts of a step and the longest operations, ``trace.json`` a timeline for
    chrome://tracing or Perfetto.

    Args:
        steps: that the run still has; where they are few, the first ones count too.
    """
    skipped, warm_up = (SKIPPED, WARM_UP) if steps > SKIPPED + WARM_UP else (0, 0)
    active = max(1, min(STEPS, steps - skipped - warm_up))
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
    plan = schedule(wait=skipped, warmup=warm_up, active=active, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=lambda found: _keep(found, run)) as watching:
        yield watching.step


def _keep(found: profile, run: RunFolder) -> None:
    """Write the table and the timeline."""
    order = "cuda_time_total" if torch.cuda.is_available() else "cpu_time_total"
    table = found.key_averages().table(sort_by=order, row_limit=ROWS, max_name_column_width=60)
    write_text(run.profile, table)
    with whole_file(run.trace) as temporary:
        found.export_chrome_trace(str(temporary))
