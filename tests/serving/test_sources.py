"""From names to point files and the places of their labels."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from tiny_data import write_tiny

from kd_seg.core.errors import DataError, UsageError
from kd_seg.serving.sources import expand, home, loose_files, plan, sequences_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "data", ("00", "03"), 2)


def points(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.ones((5, 4), "<f4").tofile(path)
    return path


def placed(sources: list[Path], out: Path, **part: int) -> list[str]:
    return [task.target.relative_to(out).as_posix() for task in plan(sources, out, **part)]


LABELS = [
    f"sequences/{name}/predictions/{stem}.label" for name in ("00", "03") for stem in ("000000", "000001")
]  # fmt: skip


def test_a_data_root_and_its_parts_go_to_the_same_places(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert placed([root], out) == LABELS
    assert placed([root / "sequences"], out) == LABELS
    assert placed([root / "sequences" / "03"], out) == LABELS[2:]
    assert placed([root / "sequences" / "03" / "velodyne"], out) == LABELS[2:]
    assert placed([root / "sequences" / "03", root / "sequences" / "00"], out) == LABELS[2:] + LABELS[:2]


def test_the_folder_one_stands_in_has_its_own_name(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "sequences" / "03")
    assert placed([Path(".")], tmp_path / "out") == LABELS[2:]
    monkeypatch.chdir(root / "sequences" / "03" / "velodyne")
    assert placed([Path(".")], tmp_path / "out") == LABELS[2:]
    monkeypatch.chdir(root / "sequences")
    assert placed([Path(".")], tmp_path / "out") == LABELS


def test_shards_share_the_files_out(root: Path, tmp_path: Path) -> None:
    parts = [placed([root], tmp_path / "out", part=part, parts=3) for part in (1, 2, 3)]
    assert sorted(chain(*parts)) == LABELS
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(UsageError, match="there is only one"):
        plan([points(tmp_path / "a.bin")], tmp_path / "out", 1, 2)


def test_loose_files_keep_their_stems(tmp_path: Path) -> None:
    folder, out = tmp_path / "loose", tmp_path / "out"
    for name in ("b.bin", "a.BIN", "c.pcd", "notes.txt", ".hidden.bin"):
        points(folder / name)
    assert [path.name for path in loose_files(folder)] == ["a.BIN", "b.bin", "c.pcd"]
    assert placed([folder], out) == ["a.label", "b.label", "c.label"]
    assert [task.target for task in plan([folder / "b.bin"], tmp_path / "x.label")] == [tmp_path / "x.label"]
    assert sequences_of(folder) is None


def test_two_scans_never_share_a_file(tmp_path: Path) -> None:
    one, other = points(tmp_path / "a" / "x.bin"), points(tmp_path / "b" / "x.bin")
    with pytest.raises(UsageError, match=r"would both be written to .*x\.label"):
        plan([one, other], tmp_path / "out")
    points(tmp_path / "a" / "x.npy")
    with pytest.raises(UsageError, match="would both be written"):
        plan([tmp_path / "a"], tmp_path / "out")
    assert len(plan([one, one], tmp_path / "out")) == 2, "the same file twice is no conflict; expand takes it once"


def test_true_labels_are_no_place_for_predictions(root: Path, tmp_path: Path) -> None:
    cloud = points(tmp_path / "000000.bin")
    labels = root / "sequences" / "00" / "labels"
    for out in (labels, labels / "000000.label"):
        with pytest.raises(UsageError, match="true labels of a data set"):
            plan([cloud], out)
    (tmp_path / "link").symlink_to(labels)
    with pytest.raises(UsageError, match="true labels"):
        plan([cloud], tmp_path / "link")


@pytest.mark.parametrize(
    ("sources", "out", "fault"),
    [
        (["data"], "x.label", "several scans are labelled"),
        (["a.bin"], "x.bin", "labels are written as .label files"),
        (["a.txt"], "out", "is no point file or bag"),
        (["a.mcap"], "out", "is a bag, which is labelled alone"),
        (["empty"], "out", "holds no point file"),
    ],
)
def test_what_cannot_be_planned(root: Path, tmp_path: Path, sources: list[str], out: str, fault: str) -> None:
    for name in ("a.bin", "a.txt", "a.mcap"):
        points(tmp_path / name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=fault):
        plan([tmp_path / name for name in sources], tmp_path / out)


def test_an_empty_sequence_is_nothing_to_label(tmp_path: Path) -> None:
    (tmp_path / "sequences" / "00" / "velodyne").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no scan"):
        plan([tmp_path], tmp_path / "out")


def test_names_are_expanded_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    a, b, odd = (points(tmp_path / name) for name in ("a.bin", "b.bin", "[1].bin"))
    assert expand([tmp_path / "?.bin"]) == [a, b]
    assert expand([Path("~/a.bin"), a, tmp_path / "*.bin"]) == [a, odd, b]
    assert expand([odd]) == [odd], "a file whose name is a pattern is that file"
    assert home(Path("~no_such_user_here/x")) == Path("~no_such_user_here/x")
    for name, fault in (("-", "standard input"), ("*.none", "No file matches"), ("absent", "does not exist")):
        with pytest.raises(UsageError, match=fault):
            expand([tmp_path / name if name != "-" else Path("-")])
    os.symlink(tmp_path / "gone", tmp_path / "dangling.bin")
    with pytest.raises(UsageError, match="a link to something that does not exist"):
        expand([tmp_path / "dangling.bin"])
