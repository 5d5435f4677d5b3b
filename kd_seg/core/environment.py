"""What is installed and what runs: versions of distributions, processor, commit of the checkout."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import kd_seg


@dataclass(frozen=True)
class Installed:
    """An installed distribution, such as spconv-cu120 2.3.6."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@lru_cache
def installed(family: str) -> Installed | None:
    """The distribution of that name, or a build of it whose name carries a CUDA version ("spconv": spconv-cu120).

    None where there is none.
    """
    try:
        return Installed(family, metadata.version(family))
    except metadata.PackageNotFoundError:
        pass
    for found in metadata.distributions():
        name = (found.metadata["Name"] or "").lower().replace("_", "-")
        if name.startswith(f"{family}-cu"):
            return Installed(name, found.version)
    return None


def version(family: str) -> str:
    """Version of a distribution or of a CUDA build of it; "not installed" where there is none."""
    found = installed(family)
    return found.version if found is not None else "not installed"


def processor() -> str:
    """Name of the processor's model, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or an architecture without the line
        return platform.processor() or platform.machine()


def machine() -> str:
    """Processor, cores, system and versions in one line."""
    versions = f"Python {platform.python_version()}, torch {version('torch')}, kd_seg {kd_seg.__version__}"
    return f"{processor()}, {os.cpu_count()} cores, {platform.system()}, {versions}"


def commit(folder: Path) -> str | None:
    """Commit of the git checkout that holds ``folder``, with ``+`` where files were changed; None outside one."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
