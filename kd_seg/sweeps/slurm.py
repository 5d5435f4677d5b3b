"""The jobs of a sweep as job arrays for Slurm: one script per stage, printed for the user to submit."""

from __future__ import annotations

from kd_seg.sweeps.plan import Job


def stages(jobs: list[Job]) -> list[list[Job]]:
    """Jobs that may run at the same time, stage by stage: each job comes after the one it needs."""
    depth: dict[str, int] = {}
    for job in jobs:
        depth[job.key] = 0 if job.needs is None else depth[job.needs] + 1
    return [[job for job in jobs if depth[job.key] == level] for level in range(max(depth.values(), default=-1) + 1)]


def array_script(sweep: str, prepare: list[str], jobs: list[Job]) -> str:
    """Text of the array scripts; submit each with ``--dependency=afterok`` on the one before it."""
    lines = [f"# kd-seg {command}    (once, before the first array)" for command in prepare]
    levels = stages(jobs)
    for number, level in enumerate(levels, 1):
        lines += [
            f"# ---- stage {number} of {len(levels)}",
            "#!/bin/bash",
            f"#SBATCH --array=0-{len(level) - 1}",
            "#SBATCH --cpus-per-task=1",
            "commands=(",
            *(f"  'kd-seg sweep {sweep} --only {job.key}'" for job in level),
            ")",
            "${commands[$SLURM_ARRAY_TASK_ID]}",
        ]
    lines.append(f"# then: kd-seg sweep {sweep} --table")
    return "\n".join(lines)
