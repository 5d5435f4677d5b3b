"""What is installed and works on this machine, found by running it, and the fix for what does not.

What may end the process (a NumPy that spconv's binaries do not know, a broken driver) runs in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_seg.core.environment import installed, version
from kd_seg.core.errors import KdSegError
from kd_seg.core.imports import import_failure

FORESEEN = (KdSegError, OSError, ImportError, subprocess.SubprocessError)
LONGEST_S = 300.0
"""A check in a process of its own ends within seconds; where it compiles on a busy computer, within minutes."""

_GIGABYTE = 1024**3


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was checked.
        ok: whether kd_seg can do its work; a missing option (CUDA, ROS) is ok and reported.
        says: one sentence: what was found, and the fix where it is not ok.
    """

    name: str
    ok: bool
    says: str


def examine() -> Iterator[Check]:
    """All checks in order, each as soon as it is done; none of them raises."""
    for name, check in CHECKS.items():
        try:
            ok, says = check()
        except Exception as error:
            failure = import_failure(error)
            if failure is None and not isinstance(error, FORESEEN):
                raise
            ok, says = False, str(failure or error)
        yield Check(name, ok, says)


def _python() -> tuple[bool, str]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        return False, f"Python {version}; kd_seg needs 3.10 to 3.13: make setup PYTHON=python3.11."
    return True, f"Python {version}"


def _numpy() -> tuple[bool, str]:
    """The trap of NumPy 2 beside an old cumm shows only where cumm takes a NumPy array, and ends the process."""
    import numpy as np

    if importlib.util.find_spec("cumm") is None:
        return True, f"NumPy {np.__version__}; cumm is not installed"
    code = "import numpy as np; from cumm import tensorview as tv; assert tv.from_numpy(np.arange(3)).size == 3"
    ended = _ended(code)
    versions = f"NumPy {np.__version__} with {_installed('cumm')}"
    if ended is None:
        return True, f"{versions} work together"
    return False, f'{versions}: handing over an array {ended}; run pip install "numpy<2", or make setup.'


def _torch() -> tuple[bool, str]:
    import torch

    kind = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    number = torch.get_num_threads()
    threads = "1 thread" if number == 1 else f"{number} threads"
    return True, f"torch {torch.__version__}, {kind}, {threads}"


def _convolution_cpu() -> tuple[bool, str]:
    import torch

    from kd_seg.sparse import choose, widths

    backend, reason = choose.explain(torch.device("cpu"))
    with_what = f"backend {backend}: {reason}"
    return _convolution("cpu", f"{with_what}; {widths.ISA}" if backend == "numba" else with_what)


def _convolution_cuda() -> tuple[bool, str]:
    import torch

    if not torch.cuda.is_available():
        return True, "no CUDA device: students train and run on the CPU"
    from kd_seg.sparse import choose

    backend, reason = choose.explain(torch.device("cuda"))
    with_what = f"{torch.cuda.get_device_name()}, {_installed('spconv')}, backend {backend}: {reason}"
    if backend == "torch":
        with_what += "; spconv is several times as fast, where it has a wheel: pip install spconv-cu120==2.3.6"
    return _convolution("cuda", with_what)


def _convolution(device: str, with_what: str) -> tuple[bool, str]:
    ended = _ended(f"from kd_seg.doctor import convolve; convolve({device!r})")
    if ended is None:
        return True, f"a sparse convolution and its gradient ran ({with_what})"
    return False, f"a sparse convolution {ended} ({with_what}); run make setup for the tested versions."


def convolve(device: str) -> None:
    """Run a 3x3x3 convolution of ones over a 2x2x2 block, forward and backward; each output must be 8.

    Raises KdSegError where the numbers are wrong.
    """
    import torch

    from kd_seg.sparse import Submanifold, sparse_tensor

    block = torch.cartesian_prod(torch.arange(1), *[torch.arange(2)] * 3).int().to(device)
    features = torch.ones(8, 4, device=device, requires_grad=True)
    layer = Submanifold(4, 4, (3, 3, 3), "doctor").to(device)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(0.25)
    answer = layer(sparse_tensor(features, block, (4, 4, 4), 1)).features
    answer.sum().backward()
    gradient = features.grad
    if gradient is None or not torch.allclose(answer, torch.full_like(answer, 8.0)) or not gradient.eq(8.0).all():
        raise KdSegError("gave wrong numbers")


def _open3d() -> tuple[bool, str]:
    from kd_seg.core.open3d import SYSTEM_LIBRARIES
    from kd_seg.core.system_libraries import missing_libraries

    if importlib.util.find_spec("open3d") is None:
        return (
            True,
            "Open3D is not installed; view --window needs it (pip install open3d==0.19.0), simulate takes embreex too",
        )
    ended = _ended("from kd_seg.core.open3d import open3d; open3d().t.geometry.RaycastingScene()")
    if ended is None:
        return True, f"Open3D {version('open3d')} imports and makes a scene to cast rays in"
    packages = [SYSTEM_LIBRARIES[name] for name in missing_libraries()]
    fix = f"install {' '.join(packages)}, or run make setup" if packages else "run make setup"
    return False, f"Open3D {ended}; {fix} (needed for view --window, and for simulate without embreex)."


def _kernels() -> tuple[bool, str]:
    import numpy as np

    from kd_seg.core.kernels import kernel
    from kd_seg.voxels import CartesianGrid, voxelize

    add: Any = kernel(_add)

    grid = CartesianGrid((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (4.0, 4.0, 4.0))
    voxels = voxelize(np.array([[0.5, 0.5, 0.5, 0.0], [0.6, 0.5, 0.5, 0.0], [9.0, 0.0, 0.0, 0.0]], np.float32), grid)
    if voxels.inverse.tolist() != [0, 0, -1]:
        return False, "a compiled kernel gave wrong numbers; delete the __pycache__ folders of kd_seg and try again."
    folder = Path(add.stats.cache_path)
    if add(2, 3) != 5 or not any(folder.glob("doctor._add*")):
        return False, f"compiled code cannot be kept in {folder}, so every start compiles again; set NUMBA_CACHE_DIR."
    return True, f"Numba {version('numba')} compiles; compiled code is kept in {folder}"


def _add(a: int, b: int) -> int:
    return a + b


def _ros() -> tuple[bool, str]:
    if importlib.util.find_spec("rclpy") is None:
        return True, "no rclpy here: the node needs it (source /opt/ros/DISTRO/setup.bash), bags and all else do not"
    ended = _ended("import rclpy, sensor_msgs.msg, diagnostic_msgs.msg, lifecycle_msgs.msg")
    distro = os.environ.get("ROS_DISTRO", "unknown distro")
    middleware = os.environ.get("RMW_IMPLEMENTATION", "default middleware")
    if ended is None:
        return True, f"rclpy of {distro}, {middleware}"
    return False, f"rclpy of {distro} is there, but importing the messages {ended}; source the distro's setup.bash."


def _fonts() -> tuple[bool, str]:
    if importlib.util.find_spec("matplotlib") is None:
        return True, "matplotlib is not installed; view and report need it: pip install matplotlib"
    from matplotlib import font_manager

    try:
        path = font_manager.findfont("DejaVu Sans", fallback_to_default=False)
    except ValueError:
        return False, "matplotlib's own font DejaVu Sans is missing; reinstall matplotlib."
    return True, f"pictures use {Path(path).name}"


def _checkpoint() -> tuple[bool, str]:
    from kd_seg.serving.segmenter import Segmenter, made_up_cloud

    student = Segmenter(device="cpu")
    answer = student.segment(made_up_cloud(2000, 0))
    size = student.checkpoint_path.stat().st_size / 1e6
    return len(answer.class_id) == 2000, f"{student.checkpoint_path.name} ({size:.1f} MB) loads and labels a cloud"


def _configs() -> tuple[bool, str]:
    from kd_seg.core.config import config_folders

    folders = config_folders()
    if not folders:
        return False, "the shipped configs were not found; install kd_seg again."
    return True, f"{sum(1 for _ in folders[0].rglob('*.yaml'))} files in {folders[0]}"


def _disk() -> tuple[bool, str]:
    free = shutil.disk_usage(Path.cwd()).free / _GIGABYTE
    if free < 2:
        return False, f"{free:.1f} GB free in {Path.cwd()}; the demo needs about 2 GB: make room."
    return True, f"{free:.0f} GB free in {Path.cwd()}"


def _ended(code: str) -> str | None:
    """How a Python process with ``code`` ended: None well, else a few words such as "died of SIGFPE"."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    code = f"from kd_seg.core.imports import say_import_failures; say_import_failures(); {code}"
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, env=environment)
    except subprocess.TimeoutExpired:
        return f"did not end within {LONGEST_S:.0f} s; where the computer is busy run the doctor again"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"died of {signal.Signals(-done.returncode).name}"
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return f"failed ({lines[-1].strip()[:400] if lines else f'exit code {done.returncode}'})"


def _installed(family: str) -> str:
    """Name and version of the installed build of spconv or cumm."""
    return str(installed(family) or f"no {family}")


CHECKS: dict[str, Callable[[], tuple[bool, str]]] = {
    "python": _python,
    "torch": _torch,
    "numpy": _numpy,
    "convolution on the CPU": _convolution_cpu,
    "convolution on CUDA": _convolution_cuda,
    "compiled kernels": _kernels,
    "open3d": _open3d,
    "ros": _ros,
    "fonts": _fonts,
    "configs": _configs,
    "shipped student": _checkpoint,
    "disk": _disk,
}
