"""The system libraries that Open3D needs: which are missing, and how to get them without changing the system.

``python -m kd_seg.core.system_libraries`` (run by ``make setup``) downloads the Debian or Ubuntu packages that hold the
missing ones and unpacks them beside the environment, where ``kd_seg.core.open3d`` preloads them. No root is needed.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from kd_seg.core.errors import KdSegError, MissingDependencyError
from kd_seg.core.open3d import SYSTEM_LIBRARIES, library_folder, preload

PACKAGES: dict[str, tuple[str, ...]] = {
    "libGL.so.1": ("libgl1", "libglx0", "libglvnd0"),
    "libX11.so.6": ("libx11-6", "libxcb1", "libxau6", "libxdmcp6", "libbsd0", "libmd0"),
    "libudev.so.1": ("libudev1", "libcap2"),
    "libgomp.so.1": ("libgomp1",),
}
"""Packages to unpack for a missing library: the one that holds it, and what that one needs in turn.

libGL needs X11 too. A package that a release no longer has is skipped; whether the library loads decides."""

SONAME = re.compile(r".+\.so\.\d+")
"""The name under which a library is asked for; the longer names are the same files, and would be loaded twice."""


def missing_libraries() -> list[str]:
    """Libraries that cannot be loaded, neither from the system nor from beside the environment."""
    preload(library_folder())
    return [name for name in SYSTEM_LIBRARIES if not _loads(name)]


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def unpack(missing: list[str], folder: Path) -> None:
    """Put the libraries of ``missing`` into ``folder``, flat; MissingDependencyError names the packages to install."""
    wanted = dict.fromkeys(package for name in missing for package in PACKAGES[name])
    if "libGL.so.1" in missing:
        wanted |= dict.fromkeys(PACKAGES["libX11.so.6"])
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise MissingDependencyError(_sentence(missing, "there is no apt-get here"))
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        options = _private_lists(scratch)
        _quiet(["apt-get", *options, "update"], scratch)
        for package in wanted:
            _quiet(["apt-get", *options, "download", package], scratch)
        archives = sorted(scratch.glob("*.deb"))
        if not archives:
            raise MissingDependencyError(_sentence(missing, "apt-get could not download them"))
        for archive in archives:
            subprocess.run(["dpkg", "-x", archive.name, "tree"], cwd=scratch, check=True)
        folder.mkdir(parents=True, exist_ok=True)
        for library in sorted((scratch / "tree").rglob("*.so.*")):
            if SONAME.fullmatch(library.name):
                shutil.copy2(library, folder / library.name)


def _private_lists(scratch: Path) -> list[str]:
    """Options that keep apt-get's lists and locks in ``scratch``: no root is needed, the system's stay as they are."""
    for inner in ("lists/partial", "cache/archives/partial"):
        (scratch / inner).mkdir(parents=True)
    return [
        "-qq",
        *("-o", f"Dir::State::lists={scratch / 'lists'}"),
        *("-o", f"Dir::Cache={scratch / 'cache'}"),
        *("-o", "Debug::NoLocking=1"),
        *("-o", "APT::Sandbox::User="),
    ]


def _quiet(command: list[str], folder: Path) -> None:
    """Run a step that may fail on its own (no network, unknown package): the libraries are checked at the end."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=300)


def _sentence(missing: list[str], reason: str) -> str:
    packages = " ".join(SYSTEM_LIBRARIES[name] for name in missing)
    return (
        f"Open3D needs {', '.join(missing)}, and {reason}; ask an administrator to install {packages}. "
        "Without them everything works but view --window, and simulate without embreex."
    )


def main() -> int:
    """Get what is missing; 0 also where it stays missing, since most of kd_seg works without (the sentence says so)."""
    missing = missing_libraries()
    if not missing:
        return 0
    sys.stderr.write(f"== getting {', '.join(missing)} for Open3D\n")
    try:
        unpack(missing, library_folder())
        still = missing_libraries()
        if still:
            raise MissingDependencyError(_sentence(still, "the unpacked packages do not load"))
    except (KdSegError, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"warning: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
