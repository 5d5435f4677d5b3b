"""docs/vehicle.md quotes what the program really prints."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "vehicle.md").read_text(encoding="utf-8")
OF_OTHERS = {"Package 'kd_seg' not found", "ModuleNotFoundError: kd_seg", "no messages"}
"""Messages of ROS, Python and RViz."""


def source() -> str:
    files = [*(ROOT / "ros_nodes").rglob("*.py"), *(ROOT / "kd_seg" / "core").rglob("*.py")]
    files += (ROOT / "kd_seg" / "serving").rglob("*.py")
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def test_messages_of_the_symptom_table_exist() -> None:
    table = PAGE[PAGE.index("| symptom |") :].split("\n\n")[0]
    quoted = {text for row in table.splitlines() for text in re.findall(r'"([^"]+)"', row.split(" | ")[0])}
    assert len(quoted) > 8
    code = source()
    for text in quoted - OF_OTHERS:
        pieces = [piece.strip(" .:;") for piece in re.split(r"\d+(?:\.\d+)?|\.\.\.", text)]
        for piece in pieces:
            assert piece in code, f"{text!r}: {piece!r}"


def test_every_parameter_and_topic_of_the_page_exists() -> None:
    from kd_seg.serving.parameters import BY_NAME

    named = set(re.findall(r"`((?:input|filter)\.\w+)`", PAGE)) | set(re.findall(r"`(input_\w+|num_threads)`", PAGE))
    launch = (ROOT / "launch" / "segmentation.launch.py").read_text(encoding="utf-8")
    assert named
    for name in named:
        assert name in BY_NAME or f'"{name}"' in launch, name


def test_every_launch_argument_of_the_page_exists() -> None:
    files = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "launch").glob("*.py"))
    arguments = {name for name in re.findall(r"(\w+):=", PAGE) if name not in ("NAME",)}
    sides = {name.removeprefix(f"{side}_") for name in arguments for side in ("front", "rear") if name.startswith(side)}
    for name in (arguments - {f"{side}_{one}" for side in ("front", "rear") for one in sides}) - {"num_threads"}:
        assert f'"{name}"' in files, name
