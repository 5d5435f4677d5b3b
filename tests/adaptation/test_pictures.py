"""Image teachers of a drive: from pictures to what places get, on a scene whose every point is known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from guarded_labels import GUARDED
from images_runs import World, write_world
from images_scene import Scene, write_scene
from PIL import Image
from random_student import write_student
from tiny_data import write_tiny

from kd_seg.adaptation.adapt import AdaptRequest, label
from kd_seg.adaptation.consolidate import Drive, Voter
from kd_seg.adaptation.evidence import LEVELS, NO_ANSWER, read_answers
from kd_seg.adaptation.pictures import PictureReader, with_pictures, write_answers
from kd_seg.adaptation.settings import AdaptSettings, DriveImagesSettings, sensor_settings
from kd_seg.adaptation.teacher import Teacher
from kd_seg.classes import load_classes
from kd_seg.core.errors import ConfigError, DataError, UsageError
from kd_seg.core.files import write_array
from kd_seg.core.progress import silent
from kd_seg.scans import SemanticKitti

CLASSES = load_classes()
CAR, TRUCK = CLASSES.names.index("car"), CLASSES.names.index("truck")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three scans of a scene, pictures of the first and the last, and exported maps of those."""
    return write_world(tmp_path_factory.mktemp("pictures"))


def images(world: World, **changes: Any) -> dict[str, Any]:
    return {"teacher": {"kind": "maps", "root": str(world[1]), "confidence_scale": 250}, **changes}


def reader(world: World, **changes: Any) -> PictureReader:
    settings = DriveImagesSettings.model_validate(images(world, **changes))
    return PictureReader(settings, SemanticKitti(world[0]), CLASSES, "cpu")


def true_classes(root: Path, index: int) -> np.ndarray:
    words = SemanticKitti(root).scan("00", index).labels
    assert words is not None
    return CLASSES.train_to_class(CLASSES.to_train(words, "scene")).astype(np.int64)


def unsure(class_id: np.ndarray) -> np.ndarray:
    """A point teacher that takes cars for trucks, though it is not sure of it, and is right about all else."""
    values = np.full((len(class_id), len(CLASSES)), 0.01, np.float32)
    values[np.arange(len(class_id)), class_id] = 0.8
    values[class_id == CAR, CAR], values[class_id == CAR, TRUCK] = 0.35, 0.45
    return values / values.sum(axis=1, keepdims=True)


def drive_of(world: World, folder: Path) -> Drive:
    drive = Drive(SemanticKitti(world[0]), folder)
    for index in range(3):
        write_array(drive.path("00", index), unsure(true_classes(world[0], index)).astype(np.float16))
    return drive


def test_answers_are_what_the_picture_shows_at_visible_points(world: World) -> None:
    found = reader(world)
    sequence = SemanticKitti(world[0]).sequences["00"]
    answers = found.answers(sequence, 0)
    seen = answers != NO_ANSWER
    assert 0.3 < seen.mean() < 1
    named, truth = answers[seen] // LEVELS, true_classes(world[0], 0)[seen]
    assert found.class_map.sets[named, truth].mean() > 0.97
    assert set(np.unique(answers[seen] % LEVELS)) == {LEVELS - 1}  # 200 of 250 is 0.8
    assert (found.answers(sequence, 1) == NO_ANSWER).all()
    lent = reader(world, projection={"offsets": [0, 1]}).answers(sequence, 1)
    assert (lent != NO_ANSWER).mean() > 0.2


def test_a_teacher_with_our_own_classes_needs_no_map_of_classes(world: World) -> None:
    found = reader(world, teacher={"kind": "class_images", "confidence": 0.6}, class_map="same")
    answers = found.answers(SemanticKitti(world[0]).sequences["00"], 0)
    seen = answers != NO_ANSWER
    assert (answers[seen] // LEVELS == true_classes(world[0], 0)[seen]).mean() > 0.97
    assert set(np.unique(answers[seen] % LEVELS)) == {1}


def test_votes_carry_what_pictures_show_to_scans_without_one(world: World, tmp_path: Path) -> None:
    drive = drive_of(world, tmp_path / "predictions")
    found = reader(world)
    write_answers(found, drive.data, tmp_path / "answers", silent)
    shown, figures = with_pictures(drive, found, tmp_path / "answers", silent)
    assert figures["classes"]["car"]["agreement"] < 0.5
    assert figures["classes"]["building"]["agreement"] > 0.7

    def cars_found(drive: Drive, index: int) -> float:
        settings = AdaptSettings.model_validate({"vote": {"voxel_m": 0.3}})  # no face of the scene lies on its borders
        voted = Voter(drive, drive.data.sequences["00"], settings).vote(index).distribution.argmax(axis=1)
        return float((voted[true_classes(world[0], index) == CAR] == CAR).mean())

    car = true_classes(world[0], 0) == CAR
    answered = car & (read_answers(tmp_path / "answers", "00", 0) != NO_ANSWER)
    assert (drive.read("00", 0)[answered].argmax(axis=1) == CAR).mean() == 0
    assert (shown.read("00", 0)[answered].argmax(axis=1) == CAR).mean() > 0.95
    np.testing.assert_array_equal(shown.read("00", 1), drive.read("00", 1))  # it has no picture
    assert cars_found(drive, 1) < 0.2
    assert cars_found(shown, 1) > 0.6


def request(world: World, out: Path, settings: dict[str, Any] | None) -> AdaptRequest:
    folder = world[0].parent
    student = str(folder / "student.safetensors")
    if not (folder / "streets").exists():
        write_tiny(folder / "streets", sequences=("00",), scans=1)
        write_student(Path(student))
    content = {"teacher": {"checkpoint": student, "views": 1, "images": settings}, "student": student}
    adaptation = AdaptSettings.model_validate(content)
    return AdaptRequest(world[0], folder / "streets", out, adaptation, sensor_settings({}), "cpu", 1)


def test_a_folder_holds_labels_with_or_without_pictures_not_both(world: World, tmp_path: Path) -> None:
    root, figures = label(request(world, tmp_path / "out", images(world)), silent)
    assert figures["pictures"]["classes"]["car"]["points"] > 100
    assert figures["pictures"]["provenance"]["labels"] == "2d"
    assert len(list((root / "sequences/drive_00/labels").iterdir())) == 3
    _, again = label(request(world, tmp_path / "out", images(world)), silent)
    assert again == figures
    with pytest.raises(UsageError, match="differs in images"):
        label(request(world, tmp_path / "out", None), silent)
    _, alone = label(request(world, tmp_path / "alone", None), silent)
    assert "pictures" not in alone
    with pytest.raises(UsageError, match="differs in images"):
        label(request(world, tmp_path / "alone", images(world)), silent)


def test_missing_and_broken_maps_are_named(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Teacher, "predict", lambda *_: pytest.fail("pictures are read before the drive is predicted"))
    with pytest.raises(DataError, match="no sequences/ folder"):
        label(request(world, tmp_path / "a", images((world[0], tmp_path / "nowhere"))), silent)
    (tmp_path / "empty/sequences").mkdir(parents=True)
    with pytest.raises(DataError, match="no class for any point"):
        label(request(world, tmp_path / "b", images((world[0], tmp_path / "empty"))), silent)
    small = tmp_path / "small/sequences/00/class"
    small.mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(small / "000000.png")
    with pytest.raises(DataError, match=r"000000\.png is 9x9"):
        label(request(world, tmp_path / "c", images((world[0], tmp_path / "small"))), silent)
    (small / "000000.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"000000\.png"):
        label(request(world, tmp_path / "d", images((world[0], tmp_path / "small"))), silent)
    features = tmp_path / "features/sequences/00/features"
    features.mkdir(parents=True)
    np.save(features / "000000.npy", np.zeros((2, 3, 4), np.float32))
    with pytest.raises(ConfigError, match="gives no map of classes"):
        label(request(world, tmp_path / "e", images((world[0], tmp_path / "features"))), silent)
    with pytest.raises(ConfigError, match="maps onto semantic_kitti_25"):
        label(request(world, tmp_path / "f", images(world, class_map="cityscapes_25")), silent)


def test_a_drive_without_pictures_is_refused(world: World, tmp_path: Path) -> None:
    bare = write_scene(tmp_path / "bare", Scene(), count=1, pictures=())
    made = request((bare, world[1]), tmp_path / "out", images(world))
    with pytest.raises(DataError, match="has no picture with a calibration"):
        label(made, silent)
    assert not (tmp_path / "out").exists()


def test_labels_of_the_drive_are_never_opened(world: World, tmp_path: Path) -> None:
    made = request(world, tmp_path / "out", images(world))
    config = tmp_path / "adapt.yaml"
    config.write_text(made.settings.model_dump_json())
    assert (world[0] / "sequences/00/labels").is_dir()
    arguments = ["adapt", world[0], "--streets", made.streets, "--out", made.out, "--config", config]
    command = [sys.executable, "-c", GUARDED, str(world[0]), *map(str, arguments), "--labels-only", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pictures"]["classes"]["car"]["points"] > 100
