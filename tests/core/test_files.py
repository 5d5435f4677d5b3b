"""Files are written whole: an interrupted writer leaves the old content and nothing else."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from kd_seg.core import files


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    files.write_text(path, "old")

    def interrupted() -> None:
        with files.whole_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("folder", ["/proc", "a folder in the way"])
def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path, folder: str) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "full").touch()
    path = Path(folder) / "t.yaml" if folder == "/proc" else tmp_path / "target"
    with pytest.raises(OSError, match=re.escape(str(path))) as caught:
        files.write_text(path, "x")
    assert caught.value.filename == str(path)
    assert caught.value.filename2 is None
    assert [p.name for p in tmp_path.iterdir()] == ["target"]


def test_each_writer_writes_what_it_was_given(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "b", b"\x00\x01")
    assert (tmp_path / "b").read_bytes() == b"\x00\x01"
    files.write_text(tmp_path / "t", "grün\n")
    assert (tmp_path / "t").read_bytes() == "grün\n".encode()
    files.write_json(tmp_path / "j", {"b": 1, "a": [None]}, sort_keys=True)
    assert json.loads((tmp_path / "j").read_text()) == {"a": [None], "b": 1}
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "j", float("nan"))
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    files.write_array(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)
    files.write_arrays(tmp_path / "a.npz", {"x": array, "y": array[0]})
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["y"], array[0])
    first = (tmp_path / "a.npz").read_bytes()
    files.write_arrays(tmp_path / "a.npz", {"x": array, "y": array[0]})
    assert (tmp_path / "a.npz").read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "a.npz", "b", "j", "t"]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        files.write_text(tmp_path / "t", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o640


def test_file_and_folder_are_synced_around_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: done.append(os.readlink(f"/proc/self/fd/{handle}")))
    rename = os.replace
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append("renamed"), rename(a, b)))
    files.write_bytes(tmp_path / "b", b"x")
    assert done[0].endswith(".tmp")
    assert done[1:] == ["renamed", str(tmp_path)]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with files.whole_folder(tmp_path / "f") as temporary:
        (temporary / "in").mkdir()
        (temporary / "in" / "x").write_text("1")
        assert not (tmp_path / "f").exists()
    assert (tmp_path / "f/in/x").read_text() == "1"
    with pytest.raises(FileExistsError, match="f"), files.whole_folder(tmp_path / "f") as temporary:
        (temporary / "y").touch()
    with pytest.raises(RuntimeError), files.whole_folder(tmp_path / "g"):
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["in"]


def test_what_is_finished_takes_the_place_of_a_file_but_not_of_a_full_folder(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    files.put_in_place(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "new"
    for name in ("folder", "full"):
        (tmp_path / name / "in").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="full"):
        files.put_in_place(tmp_path / "folder", tmp_path / "full")
    files.put_in_place(tmp_path / "folder", tmp_path / "moved")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "moved", "old"]


def test_leftovers_are_removed_by_name_or_all(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    names = [".a.npz.0badcafe.tmp", ".b.0badcafe.tmp", "kept.tmp", ".kept", "below/.a.npz.0badcafe.tmp"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / ".c.0badcafe.tmp").mkdir()

    def left() -> set[str]:
        return {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")} - {"below"}

    files.remove_temporaries(tmp_path, ["a.npz"])
    assert left() == {*names[1:], ".c.0badcafe.tmp"}
    files.remove_temporaries(tmp_path)
    assert left() == {"kept.tmp", ".kept", "below/.a.npz.0badcafe.tmp"}
    files.remove_temporaries(tmp_path, below=True)
    assert left() == {"kept.tmp", ".kept"}
