"""What an import that failed means to the user: which library, why, and the command that fixes it."""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from types import TracebackType

from kd_seg.core.errors import MissingDependencyError

OWN = ("kd_seg", "ros_nodes")
SITE_FOLDERS = ("site-packages", "dist-packages")
ROS_PACKAGES = ("rclpy", "sensor_msgs", "std_msgs", "diagnostic_msgs", "lifecycle_msgs", "rcl_interfaces")

COVERAGE = "coverage>=7.6.1"
"""Numba imports ``coverage`` where it finds one, and dies of older ones, such as those that come with colcon."""

NUMPY = "numpy>=1.24,<2"

DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image", "yaml": "PyYAML"}
"""What pip calls a module that has another name."""


def import_failure(error: Exception) -> MissingDependencyError | None:
    """The error to show for an exception that came out of importing a library; None for any other exception.

    An exception belongs to an import where a module body of a library is on its traceback, or where a module that is
    not ours was not found.
    """
    library = _library(error.__traceback__)
    if library is None and isinstance(error, ModuleNotFoundError) and error.name:
        library = error.name.partition(".")[0]
    if library is None or library in OWN:
        return None
    missing = error.name.partition(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else None
    lines = str(error).strip().splitlines() or ["no message"]
    cannot = f"{library} cannot be imported ({type(error).__name__}: {lines[0]})"
    if library in ROS_PACKAGES or missing in ROS_PACKAGES:
        return MissingDependencyError(
            f"{cannot}; source /opt/ros/DISTRO/setup.bash in this terminal, "
            "and start it with the Python of that distribution."
        )
    if missing is not None:
        return MissingDependencyError(_not_installed(missing, library))
    return MissingDependencyError(f"{cannot}; {_fix(library, lines[0])}")


def _library(traceback: TracebackType | None) -> str | None:
    """The outermost library whose module body is on a traceback."""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        parts = Path(code.co_filename).parts
        folders = [k for k, part in enumerate(parts[:-1]) if part in SITE_FOLDERS]
        if code.co_name == "<module>" and folders:
            name = parts[folders[-1] + 1].partition(".")[0]
            if name not in OWN:
                return name
        traceback = traceback.tb_next
    return None


def _not_installed(module: str, library: str) -> str:
    """Such as "tensorboard is not installed here, and torch needs it: run python -m pip install tensorboard."."""
    package = DISTRIBUTIONS.get(module, module)
    for_whom = "" if library == module else f", and {library} needs it"
    return f"{package} is not installed here{for_whom}: run {sys.executable} -m pip install {package}."


def _fix(library: str, reason: str) -> str:
    """What to do about a library that is there and cannot be imported for a reason."""
    pip = f"{sys.executable} -m pip install"
    if "coverage" in reason:
        return f"{_found('coverage')} is too old for {library}: run {pip} '{COVERAGE}'."
    if "numpy" in reason.lower() or "_ARRAY_API" in reason:
        return f"{_found('numpy')} does not fit {library}: run {pip} '{NUMPY}'."
    return f"{_found(library)} is broken: run {pip} --force-reinstall {library}, under constraints.txt."


def _found(package: str) -> str:
    """Name, version and folder of an installed package, as far as they can be told."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        return package
    folder = Path(spec.origin).parent.parent
    versions = [one.version for one in metadata.distributions(name=package, path=[str(folder)])]
    return f"{package} {versions[0]} in {folder}" if versions else f"{package} in {folder}"


def say_import_failures() -> None:
    """Have the interpreter print one sentence, instead of a traceback, where it ends of an import that failed."""

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        failure = import_failure(error) if isinstance(error, Exception) else None
        if failure is None:
            sys.__excepthook__(kind, error, traceback)
        else:
            print(failure, file=sys.stderr)

    sys.excepthook = hook
