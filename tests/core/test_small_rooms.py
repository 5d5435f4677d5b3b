"""Errors, the registry, rigid motions, and what every command shares."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from console_script import kd_seg
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.core import errors
from kd_seg.core.errors import CheckpointError, ConfigError, DataError, KdSegError, MissingDependencyError, UsageError
from kd_seg.core.geometry import check_rigid, invert, rigid, rotation_z, transform, yaw_of
from kd_seg.core.registry import Registry

ANGLES = st.floats(-10, 10)
SHIFTS = st.tuples(*[st.floats(-100, 100)] * 3)


def test_wrong_use_ends_with_2_and_failure_with_1() -> None:
    assert {kind.exit_code for kind in (UsageError, ConfigError)} == {2}
    assert {kind.exit_code for kind in (KdSegError, DataError, CheckpointError, MissingDependencyError)} == {1}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(issubclass(kind, KdSegError) and kind.__doc__ for kind in kinds)


def test_registry_finds_modules_of_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shapes_of_test"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from kd_seg.core.registry import Registry\nSHAPES = Registry('shape', 'shapes_of_test')\n"
    )
    (package / "round.py").write_text(
        "from shapes_of_test import SHAPES\n@SHAPES.register('circle')\nclass Circle: ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import shapes_of_test  # type: ignore[import-not-found]

    table: Registry[type] = shapes_of_test.SHAPES
    assert list(table) == table.names() == ["circle"]
    assert table.get("circle").__name__ == "Circle"
    with pytest.raises(ConfigError, match=r"no shape called 'circel'; did you mean 'circle'\?"):
        table.get("circel")
    with pytest.raises(ConfigError, match=r"no shape called 'q'; known: circle\."):
        table.get("q")
    with pytest.raises(ValueError, match="registered twice"):
        table.register("circle")(int)


def test_a_module_that_fails_to_import_fails_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "broken_of_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "bad.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    table: Registry[type] = Registry("shape", "broken_of_test")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
            table.get("circle")


@given(ANGLES, SHIFTS)
def test_inverse_and_transform(yaw: float, shift: tuple[float, float, float]) -> None:
    pose = rigid(rotation_z(yaw), shift)
    np.testing.assert_allclose(pose @ invert(pose), np.eye(4), atol=1e-12)
    points = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(transform(invert(pose), transform(pose, points)), points, atol=1e-9)
    assert np.cos(yaw_of(pose) - yaw) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        (np.diag([2.0, 2, 2, 1]), "poses, row 3 is not a rigid motion .*off by 3"),
        (np.diag([1.0, 1, -1, 1]), "not a rigid motion"),
        (np.full((3, 4), np.nan), "NaN or infinity"),
        (np.array([[1.0, 0, 0, np.inf], [0, 1, 0, 0], [0, 0, 1, 0]]), "NaN or infinity"),
    ],
)
def test_what_is_no_rigid_motion(pose: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_rigid(pose, "poses, row 3")


def test_rigid_motion_of_three_rows_gets_its_fourth() -> None:
    pose = rigid(rotation_z(0.3), (1, 2, 3))
    np.testing.assert_array_equal(check_rigid(pose[:3], "here"), pose)


def test_help_version_and_wrong_words() -> None:
    assert kd_seg("--version").stdout.startswith("kd-seg ")
    listing = kd_seg("--help").stdout
    for name in ("doctor", "simulate", "train", "eval", "predict", "view", "report", "sweep", "info"):
        assert name in listing
    assert "No such command" in kd_seg("trian", code=2).stderr
    assert "No such option" in kd_seg("train", "--fast", code=2).stderr


def test_every_command_has_an_example() -> None:
    from kd_seg.cli.main import app

    for command in app.registered_commands:
        assert "Example: kd-seg" in (command.callback.__doc__ or ""), command.name


def test_an_error_is_one_sentence_and_a_code(tmp_path: Path) -> None:
    wrong = kd_seg("train", "no_such_config", code=2, cwd=tmp_path)
    assert wrong.stdout == ""
    assert wrong.stderr.startswith("error: There is no config 'no_such_config'")
    assert len(wrong.stderr.strip().splitlines()) == 1
    failed = kd_seg("info", tmp_path / "nothing[1].safetensors", code=2)
    assert "nothing[1].safetensors" in failed.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "kd-seg"
    done = subprocess.run(
        [script, "--debug", "train", "no_such_config"], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "ConfigError" in done.stderr


def test_help_needs_neither_torch_nor_open3d() -> None:
    code = (
        "import sys; import kd_seg.cli.main; "
        "heavy = {'torch', 'open3d', 'spconv', 'matplotlib', 'skimage', 'transformers', 'numba'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
