"""Call ``kd-seg`` inside the test's own process, which saves its start."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from kd_seg.cli.main import app


@dataclass(frozen=True)
class TeacherOutput:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be JSON and nothing else."""
        return json.loads(self.out)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> TeacherOutput:
    """Run a command; its failures must be one sentence."""
    capsys.readouterr()
    try:
        app([str(argument) for argument in arguments])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return TeacherOutput(code, out, err)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 1) -> str:
    """The sentence of a command that must fail, and print no result."""
    answer = call(capsys, *arguments)
    assert (answer.code, answer.out) == (code, ""), answer
    lines = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, answer.err
    return lines[0]
