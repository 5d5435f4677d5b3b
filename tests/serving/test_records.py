"""What kd-seg predict remembers of a folder: what is done, what is another's, what a kill left."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from kd_seg.core.errors import DataError, UsageError
from kd_seg.scans import Sensor
from kd_seg.serving.records import NAME, Record, fingerprint
from kd_seg.serving.sources import Task


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    made = []
    for k in range(4):
        np.ones((k + 1, 4), "<f4").tofile(tmp_path / f"{k}.bin")
        made.append(Task(tmp_path / f"{k}.bin", tmp_path / "out" / f"{k}.label"))
    return made


def write(record: Record, task: Task, points: int, cut: int = 0) -> None:
    content = bytes(4 * points)
    record.begin(task, content, 0)
    task.target.parent.mkdir(exist_ok=True)
    task.target.write_bytes(content[: len(content) - cut])


def waiting(tasks: list[Task], print_: str = "f", overwrite: bool = False) -> list[str]:
    left = Record(tasks[0].target.parent, print_).waiting(tasks, overwrite)
    return [task.target.stem for task in left]


def test_only_whole_files_of_unchanged_sources_are_done(tasks: list[Task]) -> None:
    record = Record(tasks[0].target.parent, "f")
    assert waiting(tasks) == ["0", "1", "2", "3"]
    for k, task in enumerate(tasks):
        write(record, task, k + 1, cut=2 if k == 1 else 0)
    assert waiting(tasks) == ["1"], "a file that is cut off is written again"
    np.ones((9, 4), "<f4").tofile(tasks[2].points)
    assert waiting(tasks) == ["1", "2"], "so is one whose points changed"
    os.utime(tasks[3].points, ns=(1, 1))
    assert waiting(tasks) == ["1", "2", "3"]
    tasks[0].target.unlink()
    assert waiting(tasks) == ["0", "1", "2", "3"]


def test_files_of_somebody_else_are_never_replaced_unasked(tasks: list[Task]) -> None:
    tasks[1].target.parent.mkdir()
    tasks[1].target.write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"1\.label exists and kd-seg predict did not write it"):
        waiting(tasks)
    assert waiting(tasks, overwrite=True) == ["0", "1", "2", "3"]


def test_overwriting_replaces_what_was_edited_and_resumes(tasks: list[Task]) -> None:
    record = Record(tasks[0].target.parent, "f")
    for k in (0, 1, 2):
        write(record, tasks[k], k + 1)
    tasks[1].target.write_bytes(b"\1" * 8)
    assert waiting(tasks) == ["3"], "labels that somebody edited are kept"
    assert waiting(tasks, overwrite=True) == ["1", "3"], "unless they shall be replaced"
    path = tasks[0].target.parent / f"{NAME}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({k: v for k, v in one.items() if k != "content"}) + "\n" for one in lines))
    assert waiting(tasks) == ["3"], "a record of an earlier release has no digests"
    assert waiting(tasks, overwrite=True) == ["0", "1", "2", "3"]


def test_predictions_of_two_checkpoints_are_never_mixed(tasks: list[Task]) -> None:
    write(Record(tasks[0].target.parent, "one"), tasks[0], 1)
    with pytest.raises(UsageError, match=r"another checkpoint or other settings, such as 0\.label"):
        waiting(tasks, "other")
    left = Record(tasks[0].target.parent, "other").waiting(tasks[1:], False, mixes=False)
    assert len(left) == 3
    assert waiting(tasks, "other", overwrite=True) == ["0", "1", "2", "3"]
    assert waiting(tasks, "one") == ["1", "2", "3"]
    tasks[0].target.unlink()
    assert waiting(tasks, "other") == ["0", "1", "2", "3"], "what is gone is not mixed"


def test_parts_know_of_each_other(tasks: list[Task]) -> None:
    for part, task in enumerate(tasks):
        write(Record(task.target.parent, "f", f"{part}of4"), task, part + 1)
    assert len(list(tasks[0].target.parent.glob(f"{NAME}*.jsonl"))) == 4
    assert waiting(tasks) == []


@pytest.mark.parametrize("keep", [1, 10, -1])
def test_a_line_that_was_cut_off_costs_that_file_alone(tasks: list[Task], keep: int) -> None:
    """A full disk or a kill may end the record anywhere; what is noted later must be found again."""
    record = Record(tasks[0].target.parent, "f")
    write(record, tasks[0], 1)
    path = tasks[0].target.parent / f"{NAME}.jsonl"
    whole = len(path.read_bytes())
    record.begin(tasks[1], bytes(8), 0)
    content = path.read_bytes()
    path.write_bytes(content[: whole + keep] if keep > 0 else content[:keep])
    again = Record(tasks[0].target.parent, "f")
    for k in (1, 2, 3):
        write(again, tasks[k], k + 1)
    assert waiting(tasks) == []


@pytest.mark.parametrize("line", ["", "null", "[]", "{}", '{"file": "0.label", "source": 3}', "\ufffd", "[" * 99_999])
def test_lines_that_are_none_are_left_out(tasks: list[Task], line: str) -> None:
    write(Record(tasks[0].target.parent, "f"), tasks[0], 1)
    path = tasks[0].target.parent / f"{NAME}.jsonl"
    path.write_text(line + "\n" + path.read_text())
    assert waiting(tasks) == ["1", "2", "3"]


def test_a_source_that_is_gone_is_named(tasks: list[Task]) -> None:
    record = Record(tasks[0].target.parent, "f")
    tasks[0].points.unlink()
    with pytest.raises(DataError, match=r"0\.bin cannot be read"):
        record.begin(tasks[0], bytes(4), 0)


def test_a_fingerprint_is_of_checkpoint_and_settings() -> None:
    one = fingerprint("abc", Sensor())
    assert fingerprint("abc", Sensor()) == one
    assert fingerprint("abd", Sensor()) != one
    assert fingerprint("abc", Sensor("byte")) != one
