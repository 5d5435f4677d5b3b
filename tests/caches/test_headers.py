"""Fingerprints see what matters and nothing else; headers that do not fit are refused with the command."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.caches.fingerprint import content_digest, difference, file_digest, listing_digest, text_digest
from kd_seg.caches.header import (
    HEADER,
    CacheKind,
    CachePlan,
    Header,
    cache_path,
    check_header,
    read_header,
    write_header,
)
from kd_seg.core.errors import DataError

KIND = CacheKind("test cache", version=3, block=4)
FIX = "kd-seg prepare x.yaml"


def plan(folder: Path, **changes: object) -> CachePlan:
    header = Header("units", {"a": 1}, {"00": {"poses": "p", "points": "q"}}, {"file": "t"}, {"from": "x"}, ["car"])
    return CachePlan(folder, KIND, replace(header, **changes), [("00", 0)])  # type: ignore[arg-type]


def test_a_file_is_known_by_its_size_its_first_and_its_last_bytes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    middle = bytearray(300_000)
    path.write_bytes(middle)
    before = file_digest(path), content_digest(path)
    middle[150_000] = 1
    path.write_bytes(middle)
    assert file_digest(path) == before[0]
    assert content_digest(path) != before[1]
    for place in (0, 299_999):
        changed = bytearray(300_000)
        changed[place] = 1
        path.write_bytes(changed)
        assert file_digest(path) != before[0]
    path.write_bytes(bytes(299_999))
    assert file_digest(path) != before[0]
    assert file_digest(tmp_path / "absent") == content_digest(tmp_path / "absent") == "none"


def test_a_small_file_is_known_whole(tmp_path: Path) -> None:
    found = set()
    for content in (b"", b"a", b"b", b"ab", b"aa"):
        (tmp_path / "f").write_bytes(content)
        found.add(file_digest(tmp_path / "f"))
    assert len(found) == 5
    assert text_digest("a") == text_digest("a") != text_digest("b")


def listing(folder: Path, files: dict[str, bytes], read: int = 0) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return listing_digest([folder], read)


def test_a_listing_sees_names_and_sizes_and_what_it_reads(tmp_path: Path) -> None:
    files = {f"{k}": bytes([k]) * 4 for k in range(5)}
    one = listing(tmp_path / "a", files)
    assert listing(tmp_path / "b", files) == one, "the place does not matter"
    assert listing(tmp_path / "a", {**files, "2": b"!!!!"}) == one, "contents are not read"
    assert listing(tmp_path / "a", {**files, "2": b"!!!!!"}) != one
    assert listing(tmp_path / "a", {k: v for k, v in files.items() if k != "2"}) != one
    read = listing(tmp_path / "a", files, read=3)
    for name, seen in (("0", True), ("1", False), ("2", True), ("3", False), ("4", True)):
        assert (listing(tmp_path / "a", {**files, name: b"!!!!"}, read=3) != read) == seen
    assert listing_digest([tmp_path / "absent"]) == listing_digest([])


def test_folders_and_hidden_files_among_the_files_do_not_count(tmp_path: Path) -> None:
    before = listing(tmp_path / "a", {"1": b"x", "2": b"y"}, read=3)
    (tmp_path / "a" / "0_thumbnails").mkdir()
    (tmp_path / "a" / ".DS_Store").write_bytes(b"left by a file manager")
    assert listing_digest([tmp_path / "a"], 3) == before


ENTRIES = st.dictionaries(st.sampled_from(["poses", "points"]), st.sampled_from("ab"), min_size=1)
PRINTS = st.dictionaries(st.sampled_from(["00", "01", "02"]), ENTRIES)


@given(PRINTS, PRINTS)
def test_a_difference_is_one_between_sequences_of_both(made_from: dict, now: dict) -> None:
    differing = [
        f"{what} of sequence {name}"
        for name in now
        for what in now[name]
        if what in made_from.get(name, {}) and made_from[name][what] != now[name][what]
    ]
    found = difference(made_from, now)
    assert found in differing if differing else found is None


def test_a_header_reads_back_and_other_settings_lie_elsewhere(tmp_path: Path) -> None:
    made = plan(tmp_path / "c")
    write_header(made, FIX)
    assert read_header(made.folder, KIND, FIX) == replace(made.header, version=3)
    paths = {cache_path(tmp_path, "images", "units", {"a": a}) for a in (1, 2, 1)}
    assert len(paths) == 2
    assert all(path.parent == tmp_path / "images" for path in paths)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"settings": {"a": 2}}, "made with other settings"),
        ({"content": "regions"}, "made with other settings"),
        ({"teacher": {"file": "u"}}, "the teacher's files changed since"),
        ({"data": {"00": {"poses": "P", "points": "q"}}}, "poses of sequence 00 changed"),
    ],
)
def test_what_changed_is_named_with_the_command(tmp_path: Path, changes: dict, fault: str) -> None:
    write_header(plan(tmp_path / "c"), FIX)
    found = read_header(tmp_path / "c", KIND, FIX)
    for ask in (
        lambda: check_header(plan(tmp_path / "c", **changes), found, FIX),
        lambda: write_header(plan(tmp_path / "c", **changes), FIX),
    ):
        with pytest.raises(DataError, match=rf"{fault}; rebuild it with: {FIX} --rebuild"):
            ask()


def test_a_teacher_that_is_not_here_is_not_compared(tmp_path: Path) -> None:
    write_header(plan(tmp_path / "c"), FIX)
    check_header(plan(tmp_path / "c", teacher={}), read_header(tmp_path / "c", KIND, FIX), FIX)


def test_sequences_are_added_and_none_is_lost(tmp_path: Path) -> None:
    write_header(plan(tmp_path / "c"), FIX)
    more = plan(tmp_path / "c", data={"01": {"poses": "r"}})
    with pytest.raises(DataError, match=f"has no sequence 01; add it with: {FIX}$"):
        check_header(more, read_header(tmp_path / "c", KIND, FIX), FIX)
    write_header(more, FIX)
    assert sorted(read_header(tmp_path / "c", KIND, FIX).data) == ["00", "01"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is broken"),
        ("[]", "is broken"),
        ("{}", "is broken"),
        ('{"version": 2}', "of format 2, this build reads 3"),
        ('{"format": 1}', "of format 1, this build reads 3"),
        ('{"version": 3}', "lacks entries"),
        ('{"version": 3, "content": "a", "settings": {}, "data": [], "more": 1}', "lacks entries"),
        ('{"version": 3, "content": "a", "settings": {}, "data": {"00": 4}}', "lacks entries"),
    ],
)
def test_broken_headers_are_refused_with_the_command(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / HEADER).write_text(text)
    with pytest.raises(DataError, match=rf"{fault}.*{FIX} --rebuild$"):
        read_header(tmp_path, KIND, FIX)


def test_a_cache_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"There is no test cache .*build it with: {FIX}$"):
        read_header(tmp_path, KIND, FIX)
    write_header(plan(tmp_path), FIX)
    assert json.loads((tmp_path / HEADER).read_text())["version"] == 3


def add_sequence(folder: Path, name: str, together: Barrier) -> None:
    header = Header("things", {}, {name: {"poses": "a"}})
    together.wait()
    write_header(CachePlan(folder, KIND, header, []), FIX)


def test_sequences_that_are_added_at_the_same_moment_are_all_there(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    together = context.Barrier(4)
    names = ["00", "01", "02", "03"]
    workers = [context.Process(target=add_sequence, args=(tmp_path, name, together)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert sorted(read_header(tmp_path, KIND, FIX).data) == names
