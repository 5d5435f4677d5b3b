"""The jobs of a sweep as job arrays for Slurm: one script per stage, printed for the user to submit."""

from __future__ import annotations

import shlex

from kd_seg.sweeps.plan import Job


def stages(jobs: list[Job]) -> list[list[Job]]:
    """Jobs that may run at the same time, stage by stage: each job comes after the one it needs, if that is here."""
    depth: dict[str, int] = {}
    for job in jobs:
        depth[job.key] = depth[job.needs] + 1 if job.needs is not None and job.needs in depth else 0
    return [[job for job in jobs if depth[job.key] == level] for level in range(max(depth.values(), default=-1) + 1)]


def array_script(sweep: str, prepare: list[str], jobs: list[Job], overwrite: bool = False) -> str:
    """Text of the array scripts; submit each with ``--dependency=afterok`` on the one before it.

    Args:
        sweep: the file, as ``kd-seg sweep`` takes it. jobs: those to run, each after the one it needs.
        overwrite: train runs again whose settings have changed.
    """
    called = ["kd-seg", "sweep", sweep]
    more = ["--overwrite"] if overwrite else []
    lines = [f"# kd-seg {command}    (once, before the first array)" for command in prepare]
    levels = stages(jobs)
    for number, level in enumerate(levels, 1):
        lines += [
            f"# ---- stage {number} of {len(levels)}",
            "#!/bin/bash",
            f"#SBATCH --array=0-{len(level) - 1}",
            "#SBATCH --cpus-per-task=1",
            "commands=(",
            *(f"  {shlex.quote(shlex.join([*called, '--only', job.key, *more]))}" for job in level),
            ")",
            'eval "${commands[$SLURM_ARRAY_TASK_ID]}"',
        ]
    lines.append(f"# then: {shlex.join([*called, '--table'])}")
    return "\n".join(lines)
