"""The study of killed commands: shares, what is resumed, and digests that see a difference."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
import typer

from kd_seg.cli.main import app
from kd_seg.studies.kills.jobs import JOBS, _files, _train

PROGRAM: click.Group = typer.main.get_command(app)  # type: ignore[assignment]


def test_shares_sum_to_one_and_names_differ() -> None:
    assert sum(job.share for job in JOBS) == pytest.approx(1.0)
    assert len({job.name for job in JOBS}) == len(JOBS)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_the_program_knows_every_command_and_option(job, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    name, *words = job.arguments(tmp_path / "out", tmp_path / "inputs")
    options = {option for parameter in PROGRAM.commands[name].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_training_is_resumed_where_it_has_a_state(tmp_path: Path) -> None:
    assert "--resume" not in _train(tmp_path, tmp_path / "inputs")
    (tmp_path / "run").mkdir()
    assert "--resume" not in _train(tmp_path, tmp_path / "inputs"), "killed before its first save"
    (tmp_path / "run" / "state.pt").touch()
    assert _train(tmp_path, tmp_path / "inputs") == ["train", "--resume", str(tmp_path / "run")]


def test_a_digest_of_files_sees_names_and_bytes_and_nothing_else(tmp_path: Path) -> None:
    def made(name: str, files: dict[str, bytes]) -> str:
        for path, content in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return _files("data/**/*", "data/*")(tmp_path / name)

    one = made("a", {"data/x": b"1", "data/deep/y": b"2", "log.txt": b"at noon"})
    assert made("b", {"data/x": b"1", "data/deep/y": b"2", "log.txt": b"at night"}) == one
    assert made("c", {"data/x": b"1", "data/deep/y": b"3"}) != one
    assert made("d", {"data/x": b"1", "data/deep/z": b"2"}) != one
    assert made("e", {"data/x": b"12", "data/deep/y": b""}) != one
