"""Packaging of kd_seg: one description for pip and for colcon (ament_python)."""

from pathlib import Path

from setuptools import find_packages, setup

NAME = "kd_seg"
HERE = Path(__file__).parent


def version() -> str:
    for line in (HERE / NAME / "__init__.py").read_text(encoding="utf-8").splitlines():
        if line.startswith("__version__"):
            return line.split('"')[1]
    raise RuntimeError("kd_seg/__init__.py has no __version__")


def shared(folder: str, patterns: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """Files below ``folder`` for share/kd_seg, subfolders kept."""
    rows: dict[str, list[str]] = {}
    for pattern in patterns:
        for path in sorted(Path(folder).rglob(pattern)):
            rows.setdefault(f"share/{NAME}/{path.parent.as_posix()}", []).append(path.as_posix())
    return sorted(rows.items())


EMBREE = ["embreex>=4"]
TEST = [
    "psutil",
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "ruff",
    "mypy",
    "import-linter",
    "types-PyYAML",
    "mcap",
    "mcap-ros2-support",
    *EMBREE,
    "kiss-icp",
]
DRIVES = ["kiss-icp>=1.2"]
TEACHERS = ["transformers>=5,<6"]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.7,<10", "mkdocstrings[python]>=1,<2"]

LINUX_X86 = '(platform_system == "Linux" and platform_machine == "x86_64")'

setup(
    name=NAME,
    version=version(),
    description="Compact networks for LiDAR semantic segmentation, distilled from multi-scan and image teachers",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The kd_seg developers",
    author_email="kd-seg@example.org",
    maintainer="The kd_seg developers",
    maintainer_email="kd-seg@example.org",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=[NAME, f"{NAME}.*", "ros_nodes", "ros_nodes.*"]),
    package_data={NAME: ["py.typed", "assets/*"], "ros_nodes": ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared("launch", ("*.launch.py",)),
        *shared("configs", ("*.yaml", "*.rviz", "*.xml", "*.json")),
    ],
    zip_safe=False,
    # spconv serves CUDA alone and has wheels for x86-64 Linux up to Python 3.12: elsewhere students run on the CPU, or
    # on CUDA by torch. Python 3.12 has no spconv-cu120. NumPy 2 kills the process under spconv-cu120, 3.13 has no
    # older one. Open3D 0.20 needs a newer glibc; 0.19 has no wheel for ARM Linux or Python 3.13.
    install_requires=[
        "setuptools",
        'numpy>=1.24,<2; python_version < "3.13"',
        'numpy>=2.1; python_version >= "3.13"',
        "torch>=2.4",
        f'spconv-cu120==2.3.6; python_version < "3.12" and {LINUX_X86}',
        f'spconv-cu121==2.3.8; python_version == "3.12" and {LINUX_X86}',
        "numba>=0.59",
        # Numba imports coverage where it finds one, and dies of the old one that colcon brings on Ubuntu.
        "coverage>=7.6.1",
        f'open3d==0.19.0; python_version < "3.13" and ({LINUX_X86} or platform_system != "Linux")',
        "scipy>=1.11",
        "scikit-image>=0.22",
        "pydantic>=2.7,<3",
        "PyYAML>=6",
        "typer>=0.12",
        "rich>=13",
        "safetensors>=0.4",
        "tensorboard>=2.16",
        "matplotlib>=3.8",
        "pillow>=10",
        "rosbags>=0.10.9",
    ],
    extras_require={
        "test": TEST,
        "teachers": TEACHERS,
        "drives": DRIVES,
        "docs": DOCS,
        "embree": EMBREE,
        "all": TEST + TEACHERS + DRIVES + DOCS,
    },
    entry_points={
        "console_scripts": [
            "kd-seg = kd_seg.cli.main:main",
            "segmentation_node = ros_nodes.segmentation_node:main",
            "replay_latency = ros_nodes.measure.latency:main",
            "check_transport = ros_nodes.measure.check_transport:main",
        ]
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
