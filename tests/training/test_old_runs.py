"""A run folder that kd_seg 0.1.0 wrote (fixtures/run_0_1_0.tar.xz, made at commit c034ef6) still resumes and is read.

It learned from labels and knowledge units for 3 of 6 steps, began with all weights at 0 (so that it packs into 20 kB),
and was stopped by an exception.
"""

import json
import tarfile
from pathlib import Path

import pytest
import torch
from images_runs import WORK, World, write_world

from kd_seg.checkpoint import load_checkpoint, read_tensors
from kd_seg.evaluation.request import kind_of
from kd_seg.training import RunFolder, Trainer
from kd_seg.training.prepare import prepare

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "run_0_1_0.tar.xz"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def run(world: World, tmp_path: Path) -> RunFolder:
    """The folder, its paths moved to where the data are now."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = RunFolder(tmp_path / "run")
    text = folder.config.read_text()
    for old, new in (("world/data", world[0]), ("world/maps", world[1]), ("it/cache", tmp_path / "cache")):
        text = text.replace(old, str(new))
    folder.config.write_text(text.replace("it/run", str(folder.path)))
    prepare(folder.read_config(), WORK)
    return folder


def test_it_resumes_and_ends_as_a_run_of_today(run: RunFolder, tmp_path: Path) -> None:
    config = run.read_config()
    assert json.loads(run.environment.read_text())["kd_seg"] == "0.1.0"
    Trainer(config, resume=True).fit()
    assert load_checkpoint(run.last).spec.training["steps"] == 6
    assert [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()] == [1, 2, 3, 4, 5, 6]
    rounds = [json.loads(line) for line in run.log("units").read_text().splitlines()]
    assert [line["round"] for line in rounds] == [1, 2]
    assert ("step" in rounds[0], rounds[1]["step"]) == (False, 6)


def test_all_weights_but_the_bias_of_the_head_started_at_zero_and_moved_alike(run: RunFolder, tmp_path: Path) -> None:
    """A run of today from the same start ends with the same weights as the resumed one."""
    before = read_tensors(run.last)
    zero = tmp_path / "zero.safetensors"
    config = run.read_config()
    trainer = Trainer(config, resume=True)
    with torch.no_grad():
        for value in trainer.student.state_dict().values():
            value.zero_()
    from kd_seg.checkpoint import save_checkpoint

    save_checkpoint(zero, trainer.student, trainer.saver.spec)
    Trainer(config, resume=True).fit()
    student = config.student.model_copy(update={"init": str(zero)})
    place = config.run.model_copy(update={"folder": str(tmp_path / "today")})
    Trainer(config.model_copy(update={"student": student, "run": place})).fit()
    ours, theirs = read_tensors(run.last), read_tensors(tmp_path / "today/checkpoints/last.safetensors")
    for name in theirs:  # sums of today may round otherwise than those of 0.1.0 did
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6, msg=name)
    assert not torch.equal(before["head.bias"], ours["head.bias"])


def test_it_is_scored_and_replaced_as_any_other(run: RunFolder) -> None:
    assert kind_of(run.path) == "run"
    run.begin(run.read_config(), overwrite=True)
    assert not run.log("units").exists()
    assert not run.state.exists()
