"""The kernels compiled for AVX-512, AVX2 and 128-bit vectors give the same numbers; their cache knows their version."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from kd_seg.sparse import compiled, widths
from kd_seg.sparse.kernels import convolve

SCRIPT = """
import torch
from kd_seg.sparse import Down, Submanifold, Up, sparse_tensor, widths
from sparse_voxels import random_voxels
from torch import nn

torch.manual_seed(0)
shape = (12, 20, 9)
coordinates = random_voxels(0, 900, shape)
layers = nn.ModuleList([
    Submanifold(5, 24, (3, 3, 3), "a"), Submanifold(24, 64, (3, 3, 3), "a"), Down(64, 40, (2, 2, 2), (2, 2, 2), "d"),
    Up(40, 19, (2, 2, 2), "d"),
])
start = torch.randn(len(coordinates), 5)
answers = []
for kind in (torch.float32, torch.float64):
    layers.to(kind).zero_grad()
    features = start.detach().to(kind).clone().requires_grad_()
    x = sparse_tensor(features, coordinates, shape, 2)
    for layer in layers:
        x = layer(x)
    x.features.square().sum().backward()
    answers.append([x.features.detach(), features.grad, *(p.grad.clone() for p in layers.parameters())])
for mine, theirs in zip(*answers, strict=True):
    assert mine.dtype == torch.float32
    assert float((mine - theirs).abs().max() / theirs.abs().max()) < 1e-5
print(widths.ISA)
"""

AVX2 = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2,+popcnt,+lzcnt,+f16c"
TARGETS = {
    "AVX-512": {},
    "AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": AVX2},
    "128-bit vectors": {"NUMBA_CPU_NAME": "generic"},
}


def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    support = Path(__file__).parents[1] / "support"
    path = os.pathsep.join([str(Path(compiled.__file__).parents[2]), str(support), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.mark.slow
@pytest.mark.parametrize("isa", TARGETS)
def test_every_vector_length_gives_the_same_numbers(isa: str) -> None:
    features = {name for name, present in llvm.get_host_cpu_features().items() if present}
    if isa == "AVX-512" and "avx512f" not in features:
        pytest.skip("this processor has no AVX-512")
    if isa == "AVX2" and not {"avx2", "fma"} <= features:
        pytest.skip("this processor has no AVX2")
    if isa != "AVX-512" and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("feature names of x86 processors")
    done = run(TARGETS[isa])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == isa


@pytest.mark.parametrize(
    ("features", "width"), [("+avx512f,+avx2,+fma", 16), ("+avx2,+fma", 8), ("+avx2", 4), ("", 4), ("-avx512f", 4)]
)
def test_vectors_are_as_long_as_the_processor_that_is_compiled_for(
    monkeypatch: pytest.MonkeyPatch, features: str, width: int
) -> None:
    monkeypatch.setattr(widths.config, "CPU_FEATURES", features, raising=False)
    assert widths.vector_width() == width


def test_the_cache_knows_the_version_of_all_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = convolve._cache  # type: ignore[attr-defined]
    assert isinstance(cache, compiled.VersionedCache)
    signature = convolve.signatures  # type: ignore[attr-defined]
    codegen = convolve.targetctx.codegen()  # type: ignore[attr-defined]
    before = cache._index_key(signature, codegen)
    monkeypatch.setattr(compiled, "version", lambda: "another")
    assert cache._index_key(signature, codegen) != before


def test_version_changes_with_any_source(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text("a = 1")
    (tmp_path / "vectors.py").write_text("b = 1")
    first = compiled.digest(tmp_path)
    (tmp_path / "vectors.py").write_text("b = 2")
    assert compiled.digest(tmp_path) != first


def test_nothing_needs_a_writable_cache(tmp_path: Path) -> None:
    """Without a home, a cache folder or a writable package the kernels compile and run."""
    code = "import torch; from kd_seg.sparse import Submanifold, sparse_tensor; " + (
        "layer = Submanifold(2, 2, (3, 3, 3), 'a'); "
        "print(layer(sparse_tensor(torch.ones(1, 2), torch.zeros(1, 4).int(), (2, 2, 2), 1)).features.shape)"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "none"), "HOME": "/nonexistent"}
    tmp_path.chmod(0o500)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "torch.Size([1, 2])"
