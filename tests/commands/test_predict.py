"""kd-seg predict with what people give it: folders, several sources, wrong outputs, other layouts, a stop midway."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from in_process import call, refused
from made_files import XYZ, XYZI, columns_of, pcd, ply, street
from random_student import write_student
from tiny_data import write_tiny

from kd_seg.scans import read_words
from kd_seg.serving import label_files

POINTS = street(20)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("student") / "s.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three loose .bin files of one cloud, and a note."""
    (tmp_path / "flat").mkdir()
    for number in range(3):
        POINTS.tofile(tmp_path / "flat" / f"{number:06d}.bin")
    (tmp_path / "flat" / "notes.md").write_text("")
    return tmp_path / "flat"


def labels(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.label"))


def test_doors_that_people_try(
    capsys: pytest.CaptureFixture[str], student: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tiny(folder.parent / "data", scans=2)
    files = sorted(folder.glob("*.bin"))
    monkeypatch.setenv("HOME", str(folder.parent))
    doors = {
        "folder": [folder], "files": files, "twice": [*files, *files],
        "pattern": [folder / "*.bin"], "home": ["~/flat"],
    }  # fmt: skip
    for name, sources in doors.items():
        answer = call(capsys, "predict", *sources, "--out", folder.parent / name, "--checkpoint", student, "--json")
        assert (answer.code, answer.json["scans"]) == (0, 3), answer
        assert labels(folder.parent / name) == ["000000.label", "000001.label", "000002.label"]
    inside = [f"sequences/{s}/predictions/00000{n}.label" for s in ("00", "01") for n in (0, 1)]
    for name, source, wanted in (
        ("root", root, inside),
        ("sequences", root / "sequences", inside),
        ("sequence", root / "sequences" / "01", inside[2:]),
        ("velodyne", root / "sequences" / "01" / "velodyne", inside[2:]),
    ):
        assert call(capsys, "predict", source, "--out", folder.parent / name, "--checkpoint", student).code == 0
        assert labels(folder.parent / name) == wanted


def test_what_is_no_source(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    out = folder.parent / "out"
    assert "standard input" in refused(capsys, "predict", "-", "--out", out, code=2)
    assert "No file matches" in refused(capsys, "predict", folder / "*.pcd", "--out", out, code=2)
    assert "does not exist" in refused(capsys, "predict", folder / "no.bin", "--out", out, code=2)
    (folder.parent / "link.bin").symlink_to(folder / "gone")
    assert "is a link to something" in refused(capsys, "predict", folder.parent / "link.bin", "--out", out, code=2)
    (folder.parent / "docs").mkdir()
    (folder.parent / "docs" / "a.txt").write_text("")
    assert "it holds a.txt" in refused(capsys, "predict", folder.parent / "docs", "--out", out, code=2)
    twin = folder.parent / "twin"
    twin.mkdir()
    POINTS.tofile(twin / "000000.bin")
    assert "would both be written" in refused(capsys, "predict", folder, twin, "--out", out, code=2)
    empty = folder.parent / "empty"
    (empty / "sequences" / "00" / "velodyne").mkdir(parents=True)
    assert "holds no scan" in refused(capsys, "predict", empty, "--out", out)
    assert not out.exists()


def test_options_that_do_not_apply(capsys: pytest.CaptureFixture[str], folder: Path, student: Path) -> None:
    one, out = folder / "000000.bin", folder.parent / "out"
    for options, said in (
        (["--topic", "/a"], "--topic is for bags"), (["--outputs", "filtered"], "--outputs is for bags"),
        (["--copy-all"], "--copy-all is for bags"), (["--shard", "1/2"], "there is only one"),
        (["--set", "input.intensity_fields=[i]"], "input.intensity_fields is for files that name"),
        (["--set", "input.max_age_s=1"], "input.max_age_s does not apply to files"),
        (["--set", "qos_depth=1"], "qos_depth does not apply to files"),
    ):  # fmt: skip
        assert said in refused(capsys, "predict", one, "--out", out, *options, code=2)
    for name in ("x.npy", "x.pcd", "x.mcap", "x.txt"):
        assert "labels are written as .label files" in refused(capsys, "predict", one, "--out", out / name, code=2)
    assert "must be a folder" in refused(capsys, "predict", folder, "--out", out / "x.label", code=2)
    assert call(capsys, "predict", one, "--out", out, "--threads", "-1").code == 2


def test_true_labels_are_never_an_output(capsys: pytest.CaptureFixture[str], student: Path, tmp_path: Path) -> None:
    root = write_tiny(tmp_path / "data", scans=2)
    sequence = root / "sequences" / "00"
    before = (sequence / "labels" / "000000.label").read_bytes()
    (tmp_path / "link").symlink_to(sequence / "labels")
    scan = sequence / "velodyne" / "000000.bin"
    for out in (sequence / "labels", sequence / "labels" / "000000.label", tmp_path / "link"):
        for more in ([], ["--overwrite"]):
            said = refused(capsys, "predict", scan, "--out", out, "--checkpoint", student, *more, code=2)
            assert "true labels of a data set" in said
    assert (sequence / "labels" / "000000.label").read_bytes() == before


def test_only_own_files_are_replaced(capsys: pytest.CaptureFixture[str], student: Path, folder: Path) -> None:
    out = folder.parent / "out"
    out.mkdir()
    (out / "000001.label").write_bytes(b"mine")
    said = refused(capsys, "predict", folder, "--out", out, "--checkpoint", student, code=2)
    assert "000001.label exists and kd-seg predict did not write it" in said
    assert labels(out) == ["000001.label"]
    assert (out / "000001.label").read_bytes() == b"mine"
    assert call(capsys, "predict", folder, "--out", out, "--checkpoint", student, "--overwrite").code == 0
    assert len(read_words(out / "000001.label")) == len(POINTS)
    single = folder.parent / "one.label"
    for _ in range(2):  # its own it may replace
        assert call(capsys, "predict", folder / "000000.bin", "--out", single, "--checkpoint", student).code == 0


def test_predictions_go_on_and_never_mix(
    capsys: pytest.CaptureFixture[str], student: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder.parent / "out"
    write = label_files.write_bytes

    def dying(path: Path, content: bytes) -> None:
        if path.name == "000001.label":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(label_files, "write_bytes", dying)
    assert call(capsys, "predict", folder, "--out", out, "--checkpoint", student).code == 130
    assert labels(out) == ["000000.label"]
    stamp = (out / "000000.label").stat().st_mtime_ns
    monkeypatch.undo()
    answer = call(capsys, "predict", folder, "--out", out, "--checkpoint", student, "--json")
    assert (answer.json["scans"], answer.json["skipped"]) == (2, 1)
    assert "1 were done already" in answer.err
    assert (out / "000000.label").stat().st_mtime_ns == stamp
    other = ["--set", "input.z_offset_m=0.5"]
    said = refused(capsys, "predict", folder, "--out", out, "--checkpoint", student, *other, code=2)
    assert "predictions of another checkpoint or other settings" in said
    (POINTS * 2).astype("<f4").tofile(folder / "000002.bin")  # another scan under the same name
    answer = call(capsys, "predict", folder, "--out", out, "--checkpoint", student, "--json")
    assert (answer.json["scans"], answer.json["skipped"]) == (1, 2)
    with (out / ".kd_seg_predictions.jsonl").open("a") as file:
        file.write('{"file": "00')  # a kill in the middle of a line
    assert call(capsys, "predict", folder, "--out", out, "--checkpoint", student, "--json").json["skipped"] == 3


def test_shards_share_a_folder(capsys: pytest.CaptureFixture[str], student: Path, folder: Path) -> None:
    out = folder.parent / "out"
    for part in (1, 2):
        assert call(capsys, "predict", folder, "--out", out, "--checkpoint", student, "--shard", f"{part}/2").code == 0
    answer = call(capsys, "predict", folder, "--out", out, "--checkpoint", student, "--json")
    assert (answer.json["scans"], answer.json["skipped"]) == (0, 3)


def test_empty_scans_are_counted_and_told(capsys: pytest.CaptureFixture[str], student: Path, folder: Path) -> None:
    (folder / "000001.bin").write_bytes(b"")
    answer = call(capsys, "predict", folder, "--out", folder.parent / "out", "--checkpoint", student, "--json")
    assert (answer.code, answer.json["empty"]) == (0, 1)
    assert "warning: 1 of 3 scans hold no point" in answer.err


@pytest.mark.parametrize("scale", [[1000, 1000, 1000, 1], [1, 1, 1, 1]])
def test_points_that_are_no_metres(
    capsys: pytest.CaptureFixture[str], student: Path, tmp_path: Path, scale: list[int]
) -> None:
    shift = [0, 0, 0, 0] if scale[0] > 1 else [450_000, 5_400_000, 100, 0]
    (POINTS * scale + shift).astype("<f4").tofile(tmp_path / "far.bin")
    for _ in range(2):  # the first call must not leave labels behind that the second finds done
        said = refused(capsys, "predict", tmp_path / "far.bin", "--out", tmp_path / "x.label", "--checkpoint", student)
        assert "are these metres in the sensor's frame?" in said
        assert not (tmp_path / "x.label").exists()
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for number, points in enumerate([POINTS * scale + shift, POINTS[:0], POINTS]):
        points.astype("<f4").tofile(scans / f"{number}.bin")
    answer = call(capsys, "predict", scans, "--out", out, "--checkpoint", student, "--json")
    assert answer.json["scans"] == 3, "one scan shows that the range fits"
    assert [len(read_words(out / f"{number}.label")) for number in range(3)] == [len(POINTS), 0, len(POINTS)]
    assert not read_words(out / "0.label").any()


def test_what_the_calibration_measures_can_be_set(
    capsys: pytest.CaptureFixture[str], student: Path, folder: Path
) -> None:
    """One by one, and from a file, which may name the fields of a bag beside .bin files."""
    one, out = folder / "000000.bin", folder.parent / "out"
    params = folder.parent / "sensor.yaml"
    params.write_text(
        "/**:\n  ros__parameters:\n    input: {intensity_range: unit, intensity_fields: [i], roll_deg: 3.0}\n"
    )
    measured = ["input.intensity_gain=2.0", "input.pitch_deg=1.0", "input.own_vehicle=[-1.0,-1.0,-1.0,1.0,1.0,1.0]"]
    options = [word for override in measured for word in ("--set", override)]
    call_ = ("predict", one, "--out", out, "--checkpoint", student, "--params", params, *options)
    answer = call(capsys, *call_)
    assert answer.code == 0, answer
    said = refused(capsys, *call_, "--set", "input.own_vehicle=[1.0,1.0,1.0,-1.0,-1.0,-1.0]", code=2)
    assert "first corner must lie below the second" in said


def test_layouts_and_intensities(capsys: pytest.CaptureFixture[str], student: Path, tmp_path: Path) -> None:
    reference = tmp_path / "plain.label"
    POINTS.tofile(tmp_path / "plain.bin")
    call(capsys, "predict", tmp_path / "plain.bin", "--out", reference, "--checkpoint", student)
    five = np.column_stack([POINTS, np.arange(len(POINTS)) % 32]).astype("<f4")
    five.tofile(tmp_path / "five.bin")
    said = refused(capsys, "predict", tmp_path / "five.bin", "--out", tmp_path / "x.label", "--checkpoint", student)
    assert "add --set input.columns=5" in said
    assert not (tmp_path / "x.label").exists()
    (tmp_path / "a.pcd").write_bytes(
        pcd([*XYZ, ("_", 1, "U", 4), ("SIG", 4, "F", 1), ("_", 1, "U", 12)], columns_of(POINTS, "SIG"))
    )
    (tmp_path / "a.ply").write_bytes(
        ply([("f8", "x"), ("f4", "y"), ("f4", "z"), ("f4", "Intensity")], columns_of(POINTS, "Intensity"))
    )
    unit = ["--set", "input.intensity_range=unit"]
    for name, more in (
        ("five.bin", ["--set", "input.columns=5"]),
        ("a.pcd", [*unit, "--set", "input.intensity_fields=[sig]"]),
        ("a.ply", unit),
    ):
        answer = call(
            capsys, "predict", tmp_path / name, "--out", tmp_path / f"{name}.label", "--checkpoint", student, *more
        )
        assert answer.code == 0, answer
        np.testing.assert_array_equal(read_words(tmp_path / f"{name}.label"), read_words(reference))
    blind = call(capsys, "predict", tmp_path / "a.pcd", "--out", tmp_path / "y.label", "--checkpoint", student, *unit)
    assert "hold no intensity, taken as 0; its fields: x, y, z, SIG; name one with" in blind.err


def test_every_file_error_is_one_sentence(capsys: pytest.CaptureFixture[str], student: Path, folder: Path) -> None:
    (folder.parent / "afile").write_text("")
    one = folder / "000000.bin"
    below = refused(capsys, "predict", one, "--out", folder.parent / "afile" / "x.label", "--checkpoint", student)
    assert "something of this name is in the way" in below
    assert "afile" in refused(capsys, "predict", one, "--out", folder.parent / "afile", "--checkpoint", student)
    long = folder.parent / ("x" * 300)
    assert "choose a shorter name" in refused(
        capsys, "predict", one, "--out", long / "x.label", "--checkpoint", student
    )
    cut = pcd(XYZI, columns_of(POINTS), "ascii")
    (folder.parent / "cut.pcd").write_bytes(cut[: len(cut) // 2])
    out = folder.parent / "cut.label"
    unit = ["--set", "input.intensity_range=unit", "--json"]
    assert "cut off" in refused(capsys, "predict", folder.parent / "cut.pcd", "--out", out, *unit)
    assert not out.exists()


def test_closed_streams_and_odd_locales(student: Path, folder: Path) -> None:
    import subprocess
    import sys

    script = Path(sys.executable).parent / "kd-seg"
    out = folder.parent / "out"
    closed = f"{script} predict {folder / '000000.bin'} --out {out} --checkpoint {student} --json >&- 2>&- <&-"
    assert subprocess.run(["sh", "-c", closed]).returncode == 0
    assert len(read_words(out / "000000.label")) == len(POINTS)
    plain = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([script, "info", folder / "stra\u00dfe.bin"], capture_output=True, text=True, env=plain)
    assert done.returncode == 2
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_results_on_a_full_disk(student: Path, folder: Path) -> None:
    import subprocess
    import sys

    script = Path(sys.executable).parent / "kd-seg"
    command = [script, "info", student, "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


def test_what_libraries_print_stays_out_of_the_answer(
    capfd: pytest.CaptureFixture[str], student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kd_seg.views import contents

    def chatty(path: Path, *settings: object) -> dict[str, str]:
        print("a library's greeting")
        return {"kind": "checkpoint"}

    monkeypatch.setattr(contents, "contents", chatty)
    answer = call(capfd, "info", student, "--json")
    assert json.loads(answer.out) == {"kind": "checkpoint"}
    assert "a library's greeting" in answer.err
