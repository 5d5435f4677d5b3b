"""What the program prints beside its results: lines, warnings, and with -v what the package does."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest
from console_script import kd_seg
from typer.testing import CliRunner

from kd_seg.cli import console
from kd_seg.cli.main import app


def test_lines_warnings_and_details(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("kd_seg.somewhere")
    console.listen()
    console.say("a [line]")
    console.warn("a warning")
    log.debug("a detail")
    log.warning("%d of the package", 1)
    assert capsys.readouterr().err.splitlines() == ["a [line]", "warning: a warning", "warning: 1 of the package"]
    console.listen(verbose=True)
    log.debug("a detail")
    console.listen()
    log.debug("another")
    found = capsys.readouterr()
    assert found.err == "kd_seg.somewhere: a detail\n"
    assert found.out == ""
    assert sum(isinstance(handler, console._Lines) for handler in logging.getLogger("kd_seg").handlers) == 1


def test_verbose_names_the_caches_that_are_built(tmp_path: Path) -> None:
    from instances_world import make_world

    world = make_world(tmp_path / "world", scans=2, background=200)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"data: {{root: {world.root}, train: ['00']}}\nstudent: {{input: fused}}\nrun: {{steps: 1}}\n"
        "fusion: {cloud: {alignment: ego}}\n"
    )
    quiet = kd_seg("prepare", config)
    assert "DEBUG" not in quiet.stderr
    assert "shards" not in quiet.stderr
    told = kd_seg("-v", "prepare", config, "--json")
    assert re.search(
        r"kd_seg\.caches: instance library .*instances-[0-9a-f]+: 1 shards, 0 of them missing", told.stderr
    )
    assert json.loads(told.stdout)["prepared"]


def test_verbose_is_an_option_of_the_program() -> None:
    answer = CliRunner().invoke(app, ["--help"])
    assert "--verbose" in re.sub(r"\x1b\[[0-9;]*m", "", answer.output)
