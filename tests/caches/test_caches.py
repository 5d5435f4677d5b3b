"""The cache engine: whole shards, interruption, parts, processes, refusal with the command, damage."""

from __future__ import annotations

import errno
import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kd_seg.caches import Cache, CacheKind, CachePlan, Header, Maker, Record, Work, build_cache, read_header
from kd_seg.core.errors import DataError
from kd_seg.core.files import in_use
from kd_seg.scans import Key

COMMAND = "kd-seg prepare CONFIG"
WORK = Work(COMMAND)
REBUILD = Work(COMMAND, rebuild=True)
KIND = CacheKind("cache of things", version=1, block=50)
KEYS = [("00", k) for k in range(120)] + [("02", k) for k in range(40, 60)]
HEADER = Header(
    content="units",
    settings={"a": 1},
    data={"00": {"poses": "1"}, "02": {"poses": "2"}},
    teacher={"files": "x"},
    provenance={"labels": "2d"},
    vocabulary=["road"],
)


def plan(folder: Path, keys: list[Key] = KEYS, **changes: Any) -> CachePlan:
    return CachePlan(folder / "c", KIND, replace(HEADER, **changes), keys)


def record(key: Key) -> Record:
    """Arrays of odd lengths, empty for every third scan."""
    count = 0 if key[1] % 3 == 0 else key[1] % 7
    rng = np.random.default_rng(key[1])
    return {
        "rows": rng.integers(0, 100, count).astype(np.int32),
        "table": rng.normal(size=(count, 4)).astype(np.float16),
        "word": rng.integers(0, 1 << 32, count).astype(np.uint32),
        "counts": np.array([key[1]], dtype=np.int32),
    }


def setup() -> Maker:
    return records


def records(keys: Sequence[Key]) -> Iterator[Record]:
    return map(record, keys)


def each(make: Callable[[Key], Record]) -> Callable[[], Maker]:
    return lambda: lambda keys: map(make, keys)


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "c/shards").iterdir())


def test_round_trip(tmp_path: Path) -> None:
    build_cache(plan(tmp_path), setup, WORK)
    assert shards(tmp_path) == [
        f"{name}.safetensors" for name in ("00_000000", "00_000001", "00_000002", "02_000000", "02_000001")
    ]
    cache = pickle.loads(pickle.dumps(Cache(plan(tmp_path), COMMAND)))
    for key in KEYS[::-1]:
        found = cache.record(key, ("rows", "table", "word", "counts"))
        for name, wanted in record(key).items():
            assert found[name].dtype == wanted.dtype
            np.testing.assert_array_equal(found[name], wanted)
            np.testing.assert_array_equal(cache.view(key, name), wanted)
        assert cache.count(key, "table") == len(record(key)["table"])
        assert all(array.flags.writeable for array in found.values())
    assert cache.width("table") == 4
    assert cache.width("rows") == 1
    assert [index for index, _ in cache.each("02", "rows")] == list(range(40, 60))
    assert cache.bytes() == sum(path.stat().st_size for path in (tmp_path / "c/shards").iterdir())
    with pytest.raises(DataError, match="00/000149"):
        cache.record(("00", 149), ("rows",))


def test_views_are_memory_mapped_and_read_only(tmp_path: Path) -> None:
    build_cache(plan(tmp_path), setup, WORK)
    cache = Cache(plan(tmp_path), COMMAND)
    view = cache.view(("00", 5), "table")
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 0
    base: Any = view
    while not isinstance(base, np.memmap):
        base = base.base
    cache.record(("02", 41), ("rows",))
    assert cache.__getstate__()["_open"] == {}


def test_only_so_many_shards_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_cache(plan(tmp_path), setup, WORK)
    monkeypatch.setattr("kd_seg.caches.cache.OPEN_SHARDS", 2)
    cache = Cache(plan(tmp_path), COMMAND)
    for key in [*KEYS, *KEYS[:1]]:
        np.testing.assert_array_equal(cache.record(key, ("counts",))["counts"], [key[1]])
        assert len(cache.__dict__["_open"]) <= 2


def test_an_interrupted_build_goes_on(tmp_path: Path) -> None:
    made: list[Key] = []

    def stopping(key: Key) -> Record:
        if key == ("00", 110):
            raise KeyboardInterrupt
        return record(key)

    def remembering(key: Key) -> Record:
        made.append(key)
        return record(key)

    with pytest.raises(KeyboardInterrupt):
        build_cache(plan(tmp_path), each(stopping), WORK)
    assert len(shards(tmp_path)) == 2  # no part of the third
    with pytest.raises(DataError, match=rf"lacks 3 of 5 shards \(first 00_000002\).*finish it with: {COMMAND}$"):
        Cache(plan(tmp_path), COMMAND)
    build_cache(plan(tmp_path), each(remembering), WORK)
    assert made == [key for key in KEYS if key >= ("00", 100)]
    np.testing.assert_array_equal(Cache(plan(tmp_path), COMMAND).view(KEYS[-1], "rows"), record(KEYS[-1])["rows"])


def test_what_killed_jobs_left_goes_away_with_the_shard_of_this_build_only(tmp_path: Path) -> None:
    def failing(key: Key) -> Record:
        (tmp_path / "c/shards").mkdir(exist_ok=True)
        (tmp_path / "c/shards/.00_000000.safetensors.1234abcd.tmp").touch()
        (tmp_path / "c/shards/.00_000001.safetensors.1234abcd.tmp").touch()
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        build_cache(plan(tmp_path), each(failing), Work(COMMAND, shard=(1, 2)))
    assert shards(tmp_path) == [".00_000001.safetensors.1234abcd.tmp"]  # of the other part, which may be at work


def test_what_another_build_of_the_same_shards_is_writing_stays(tmp_path: Path) -> None:
    writing = tmp_path / "c" / "shards" / ".00_000000.safetensors.1234abcd.tmp"

    def failing(key: Key) -> Record:
        writing.touch()
        raise RuntimeError("broken")

    for others in (1, 0):
        with ExitStack() as stack:
            for _ in range(others):
                stack.enter_context(in_use(writing.parent))
            with pytest.raises(RuntimeError, match="broken"):
                build_cache(plan(tmp_path), each(failing), WORK)
            assert writing.exists() == bool(others)


def test_a_whole_cache_is_built_again_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    build_cache(plan(tmp_path), setup, WORK)
    monkeypatch.setattr("kd_seg.caches.header.write_json", refused)
    build_cache(plan(tmp_path), setup, WORK)
    with pytest.raises(OSError, match="Read-only"):
        build_cache(plan(tmp_path, data={**HEADER.data, "77": {"poses": "3"}}), setup, WORK)


def test_parts_merge_by_being_there(tmp_path: Path) -> None:
    for part in (2, 1, 3):
        build_cache(plan(tmp_path), setup, Work(COMMAND, shard=(part, 3)))
    Cache(plan(tmp_path), COMMAND)


def test_progress_counts_scans_and_what_is_there_already(tmp_path: Path) -> None:
    told: list[tuple[str, int | None, list[int]]] = []

    @contextmanager
    def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        told.append((what, total, []))
        yield told[-1][2].append

    build_cache(plan(tmp_path), setup, Work(COMMAND, progress, shard=(1, 2)))
    build_cache(plan(tmp_path), setup, Work(COMMAND, progress))
    what, total, counts = told[0]
    assert (what, total, sum(counts)) == ("cache of things, part 1 of 2", 50 + 20 + 10, 80)
    what, total, counts = told[1]
    assert (what, total, counts[0], sum(counts)) == ("cache of things", 140, 80, 140)


def test_workers_build_the_same(tmp_path: Path) -> None:
    done: list[int] = []

    @contextmanager
    def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        yield done.append

    build_cache(plan(tmp_path / "one"), setup, WORK)
    build_cache(plan(tmp_path / "two"), setup, Work(COMMAND, progress, workers=2))
    assert sum(done) == len(KEYS)
    assert shards(tmp_path / "one") == shards(tmp_path / "two")
    for name in shards(tmp_path / "one"):
        content = [(tmp_path / part / "c/shards" / name).read_bytes() for part in ("one", "two")]
        assert content[0] == content[1]


def test_before_is_told_what_is_missing(tmp_path: Path) -> None:
    asked: list[list[Key]] = []
    build_cache(plan(tmp_path, KEYS[:60]), setup, WORK, asked.append)
    build_cache(plan(tmp_path, KEYS[:110]), setup, WORK, asked.append)
    build_cache(plan(tmp_path, KEYS[:110]), setup, WORK, asked.append)
    assert asked[0] == KEYS[:60]
    assert asked[1:] == [KEYS[100:110], []]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"settings": {"a": 2}}, "other settings"),
        ({"content": "regions"}, "other settings"),
        ({"teacher": {"files": "y"}}, "teacher's files changed"),
        ({"data": {"00": {"poses": "9"}}}, "poses of sequence 00 changed"),
    ],
)
def test_a_cache_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    build_cache(plan(tmp_path, KEYS[:5]), setup, WORK)
    wanted = plan(tmp_path, KEYS[:5], **change)
    with pytest.raises(DataError, match=f"{why}.*{COMMAND} --rebuild$"):
        Cache(wanted, COMMAND)
    with pytest.raises(DataError, match=f"{why}.*{COMMAND} --rebuild$"):
        build_cache(wanted, setup, WORK)
    build_cache(wanted, setup, REBUILD)
    Cache(wanted, COMMAND)


def test_a_sequence_that_is_not_there_is_added_without_a_rebuild(tmp_path: Path) -> None:
    build_cache(plan(tmp_path, KEYS[:5]), setup, WORK)
    more = plan(tmp_path, [("05", 0)], data={"05": {"poses": "3"}})
    with pytest.raises(DataError, match=f"no sequence 05; add it with: {COMMAND}$"):
        Cache(more, COMMAND)
    build_cache(more, setup, WORK)
    Cache(more, COMMAND)
    assert set(Cache(plan(tmp_path, KEYS[:5]), COMMAND).header.data) == {"00", "02", "05"}


def test_versions_and_absence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"There is no cache of things .*build it with: {COMMAND}$"):
        Cache(plan(tmp_path), COMMAND)
    build_cache(plan(tmp_path, KEYS[:5]), setup, WORK)
    path = tmp_path / "c/header.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(DataError, match=f"format 99, this build reads 1.*{COMMAND} --rebuild"):
        read_header(tmp_path / "c", KIND, COMMAND)
    # a teacher whose files are not on this machine is not compared
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 1}))
    assert Cache(plan(tmp_path, KEYS[:5], teacher={}), COMMAND).header == HEADER


def test_the_header_of_0_1_0_opens(tmp_path: Path) -> None:
    """As kd_seg 0.1.0 wrote it for image teachers."""
    build_cache(plan(tmp_path, KEYS[:5]), setup, WORK)
    old = {
        "content": "units",
        "data": {"00": {"poses": "1"}, "02": {"poses": "2"}},
        "provenance": {"labels": "2d"},
        "settings": {"a": 1},
        "teacher": {"files": "x"},
        "version": 1,
        "vocabulary": ["road"],
    }
    (tmp_path / "c/header.json").write_text(json.dumps(old, indent=1, sort_keys=True))
    assert Cache(plan(tmp_path, KEYS[:5]), COMMAND).header == HEADER


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_has_a_sentence(tmp_path: Path, data: st.DataObject) -> None:
    """Cut or changed bytes are refused with the file's name, or change values; nothing else happens."""
    made = plan(tmp_path, KEYS[:7])
    build_cache(made, setup, REBUILD)
    path = tmp_path / "c/shards/00_000000.safetensors"
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        cache = Cache(made, COMMAND)
        for key in KEYS[:7]:
            cache.record(key, ("rows", "table"))
    except DataError as error:
        assert "00_000000" in str(error) or "no scan" in str(error)  # noqa: PT017


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.sampled_from([b"{}", b'{"version": 1}', b'{"version": 1, "data": 3}', b"[1]"]))
def test_broken_headers_have_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "header.json").write_bytes(content)
    with pytest.raises(DataError, match="rebuild"):
        read_header(tmp_path, KIND, COMMAND)
