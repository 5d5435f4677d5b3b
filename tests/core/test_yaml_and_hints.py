"""YAML as people write it, names as they misremember them, and failures of the machine as sentences."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from kd_seg.core.config import apply_overrides, read_yaml
from kd_seg.core.errors import ConfigError, DataError, KdSegError
from kd_seg.core.failures import expected, naming
from kd_seg.core.hints import nearest
from kd_seg.core.ownership import check_replaceable
from kd_seg.core.yaml_text import load_text, parse_value
from kd_seg.serving.parameters import read_parameters
from kd_seg.training import read_training_config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E-3", 1e-3), (".5", 0.5), ("5.", 5.0), ("-1.5e+2", -150.0), ("010", "010"),
        ("[010, 08, 4]", ["010", "08", 4]),
        ("0", 0), ("-7", -7), ("1:30", "1:30"), ("0x1f", "0x1f"), ("true", True), ("null", None),
        (".inf", float("inf")),
        ("2026-01-02x", "2026-01-02x"), ("1_000", "1_000"), ("", None),
    ],
)  # fmt: skip
def test_numbers_are_read_one_way(text: str, value: object) -> None:
    assert parse_value(text, "--set a") == value
    assert apply_overrides({}, [f"a={text}"]) == {"a": value}


def test_one_number_parser_for_parameters_and_configurations() -> None:
    assert read_parameters(None, ["input.z_offset_m=1e-1"]) == {"input.z_offset_m": 0.1}
    assert read_training_config("demo_baseline", ["optim.lr=1e-3"]).optim.lr == 1e-3
    assert read_training_config("demo_baseline", ["data.valid=[010, 04, 8]"]).data.valid == ["010", "04", "08"]


LAUGHS = "a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml, line 3: the key 'a' stands twice"),
        ("a: {b: 1, b: 2}\n", "the key 'b' stands twice"),
        ("a: &a [*a]\n", "its aliases grow"),
        (LAUGHS, "its aliases grow"),
        ("[" * 5000, "fix the YAML"), ("a: !!python/object:os.system x\n", "fix the YAML"), ("a:\n\tb: 1\n", "line 2"),
        ("a: 2001-99-99\n", "fix the YAML"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"x\.yaml") as caught:
        read_yaml(tmp_path / "x.yaml")
    assert said in str(caught.value)


def test_merge_keys_still_work() -> None:
    assert load_text("a: &a {b: 1}\nc: {<<: *a, d: 2}\n", "x") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


def test_files_of_any_size_and_kind_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_bytes(b"# " + b"x" * (1 << 20))
    with pytest.raises(ConfigError, match="is larger than 1 MiB"):
        read_yaml(tmp_path / "big.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)
    with pytest.raises(ConfigError, match="There is no config"):
        read_training_config("x" * 300, [])
    with pytest.raises(ConfigError, match="There is no config"):
        read_training_config("a\0b", [])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("lr=1e-3", "did you mean 'optim.lr'"), ("optim.learning_rate=1", "did you mean 'lr'"),
        ("learning_rate=1", "did you mean 'optim.lr'"), ("optim.wight_decay=1", "did you mean 'weight_decay'"),
        ("batch=2", "did you mean 'run.batch'"), ("run.batch_size=2", "did you mean 'batch'"),
        ("optim.lr=.inf", "finite"), ("optim.lr=inf", "number"), ("optim.lr=.nan", "finite"),
        ("grid.voxel_size=1e-320", "is too small"),
        ("grid.voxel_size=-1", "voxel_size"),
        ("grid.voxel_size=0", "voxel_size"), ("grid.upper=[-500,0,0]", "grid"), ("run.batch=2.5", "run.batch"),
    ],
)  # fmt: skip
def test_overrides_that_are_refused_at_once(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_training_config("demo_baseline", [override])
    assert said in str(caught.value)


def test_hints_of_parameters() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'input\.intensity_range'"):
        read_parameters(None, ["intensity_range=byte"])
    with pytest.raises(ConfigError, match=r"did you mean 'input\.z_offset_m'"):
        read_parameters(None, ["z_offset=1.0"])
    assert nearest("nothing_like_it_at_all", ["lr", "batch"]) is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out.png"), "out.png cannot be read or written (No space"),
        (OSError(errno.EROFS, "Read-only file system", b"m/a"), "m/a cannot be read or written"),
        (OSError(errno.EXDEV, "Invalid link", "a", None, "b"), "a and b cannot"),
        (MemoryError(), "not enough memory"), (RecursionError(), "nested too deeply"),
        (sqlite3.OperationalError("disk I/O error"), "A .db3 file cannot be read or written"),
        (DataError("two\nlines\x1b[1m"), "two lines?[1m"),
        (KeyError("x"), "in a way that it should not (KeyError: 'x'"),
    ],
)  # fmt: skip
def test_every_failure_has_a_sentence(error: Exception, said: str) -> None:
    sentence = str(expected(error))
    assert said in sentence
    assert sentence.isprintable()
    assert isinstance(expected(error), KdSegError)


def test_a_full_disk_names_the_output(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, naming(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "out")


def test_what_is_replaceable(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "new")
    (tmp_path / "own").write_bytes(b"x" * 200_000 + b"kd_seg")
    check_replaceable(tmp_path / "own")
    for name in ("folder", "other"):
        (tmp_path / name).mkdir() if name == "folder" else (tmp_path / name).write_text("mine")
        with pytest.raises(KdSegError, match=name):
            check_replaceable(tmp_path / name)
