"""Inputs that ended a reader in a traceback or a signal when the mutation campaign first found them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
import yaml

from kd_seg.classes import load_classes
from kd_seg.core.config import find_config, read_yaml
from kd_seg.core.errors import ConfigError, DataError, KdSegError
from kd_seg.evaluation.result import read_evaluation
from kd_seg.scans.pictures import read_picture
from kd_seg.serving.pointcloud2 import CloudDecoder, CloudRejectedError
from kd_seg.studies.mutations import seeds
from kd_seg.studies.mutations.readers import READERS, cloud_of
from kd_seg.training import RunFolder

BY_NAME = {reader.name: reader for reader in READERS}


@pytest.mark.parametrize(
    ("key", "value"),
    [("scans", 10**400), ("points", float("inf")), ("counts.outside", 10**40), ("counts.outside", -1),
     ("classes.raw", [[10**30, "x", 1, 0]]),
     ("classes.things", [-1]), ("classes.things", [1.5]),
     ("classes.hard", ["a"]), ("classes.colours", [[10**20, 0, 0]])],
)  # fmt: skip
def test_evaluations_with_impossible_numbers(tmp_path: Path, key: str, value: object) -> None:
    content = json.loads(seeds.evaluations()[0])
    target = content
    *path, last = key.split(".")
    for part in path:
        target = target[part]
    target[last] = value
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError):
        read_evaluation(tmp_path / "a.json")


def test_colours_beyond_a_byte(tmp_path: Path) -> None:
    content = read_yaml(find_config("classes/semantic_kitti_19.yaml"))
    content["classes"][3]["rgb"] = [99_999_999_999, 0, 0]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"classes\.3\.rgb"):
        load_classes(str(tmp_path / "c.yaml"))


def test_a_base_that_no_file_can_be_called(tmp_path: Path) -> None:
    for name in ("x" * 5000, "a\0b"):
        (tmp_path / "a.yaml").write_text(json.dumps({"base": name}))
        with pytest.raises(ConfigError, match="There is no config"):
            read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("cut", [0, 10, 200, 1000])
def test_a_state_that_torch_cannot_read(tmp_path: Path, cut: int) -> None:
    run = RunFolder(tmp_path)
    run.state.write_bytes(seeds.states()[0][:cut])
    with pytest.raises(DataError, match=r"state\.pt is damaged"):
        run.read_state()


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"string name", b"string nam0"), (b"uint32 height", b"string height"), (b"Header header", b"Header headr ")],
)  # fmt: skip
def test_bags_that_define_a_cloud_of_their_own(tmp_path: Path, old: bytes, new: bytes) -> None:
    content = seeds.bags(tmp_path, ".mcap")[0]
    assert old in content
    BY_NAME[".mcap"].read(content.replace(old, new), tmp_path / "input")  # its clouds are rejected, one by one


@pytest.mark.parametrize("value", ["many", "[]", "null", "-"])
def test_metadata_whose_counts_are_none(tmp_path: Path, value: str) -> None:
    reader = BY_NAME["bag folders"]
    content = reader.seeds(tmp_path)[0].replace(b"message_count: 2", f"message_count: {value}".encode())
    with pytest.raises(KdSegError, match="is not a readable bag"):
        reader.read(content, tmp_path / "input")


@pytest.mark.parametrize("column", ["name", "type"])
def test_topics_without_a_name(tmp_path: Path, column: str) -> None:
    path = tmp_path / "seed.db3"
    path.write_bytes(seeds.bags(tmp_path, ".db3")[0])
    with sqlite3.connect(path) as database:
        schema = "id INTEGER PRIMARY KEY, name, type, serialization_format, offered_qos_profiles, type_description_hash"
        known = [row[1] for row in database.execute("PRAGMA table_info(topics)")]
        kept = ", ".join(name for name in schema.replace(" INTEGER PRIMARY KEY", "").split(", ") if name in known)
        database.execute(f"CREATE TABLE other AS SELECT {kept} FROM topics")
        database.execute("DROP TABLE topics")
        database.execute("ALTER TABLE other RENAME TO topics")
        database.execute(f"UPDATE topics SET {column} = NULL")
    with pytest.raises(KdSegError):
        BY_NAME[".db3"].read(path.read_bytes(), tmp_path / "input")


def test_names_that_no_terminal_shows() -> None:
    message = cloud_of(seeds.clouds()[0].replace(b"field z ", b"field \x00\x1b[1m\x85 "))
    with pytest.raises(CloudRejectedError) as caught:
        CloudDecoder().decode(message)
    assert str(caught.value).isprintable()


def test_pictures_that_unfold(tmp_path: Path) -> None:
    content = bytearray(seeds.pictures()[0])
    content[16:24] = (12_000).to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="12000x12000 pixels"):
        read_picture(tmp_path / "a.png")
