"""YAML to settings: inheritance, overrides, and errors that name file, key and fix."""

from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from kd_seg.core.config import (
    Settings,
    apply_overrides,
    config_folders,
    digest,
    find_config,
    merge,
    read_yaml,
    validate,
)
from kd_seg.core.errors import ConfigError


class Optim(Settings):
    rate: float = Field(0.1, gt=0)
    kind: Literal["sgd", "adamw"] = "adamw"


class Part(Settings):
    name: str
    weight: float = 1.0


class Whole(Settings):
    optim: Optim = Optim()
    parts: list[Part] = []
    steps: int = 5


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^a\.yaml: unknown key 'optim\.rat'; did you mean 'rate'\?$"):
        validate(Whole, {"optim": {"rat": 1}}, "a.yaml")
    with pytest.raises(ConfigError, match=r"unknown key 'parts\.1\.wieght'; did you mean 'weight'"):
        validate(Whole, {"parts": [{"name": "a"}, {"name": "b", "wieght": 2}]}, "a.yaml")
    with pytest.raises(ConfigError, match=r"unknown key 'zzz'; valid keys: optim, parts, steps"):
        validate(Whole, {"zzz": 1}, "a.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"steps": "many"}, r"a\.yaml: steps: input should be a valid integer.*got 'many'"),
        ({"optim": {"rate": -1}}, r"a\.yaml: optim\.rate: input should be greater than 0, got -1"),
        ({"optim": {"kind": "adam"}}, r"optim\.kind: input should be 'sgd' or 'adamw', got 'adam'"),
        ({"parts": [{}]}, r"parts\.0\.name: field required\.$"),
        ({"optim": 3}, r"optim: input should be"),
    ],
)
def test_wrong_value_says_what_was_expected(content: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        validate(Whole, content, "a.yaml")
    assert caught.value.exit_code == 2


def test_settings_are_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Whole().steps = 3  # type: ignore[misc]


def test_inheritance_merges_mappings_and_replaces_lists(tmp_path: Path) -> None:
    write(tmp_path, "low.yaml", "steps: 7\noptim: {rate: 1, kind: sgd}\nparts: [{name: a}, {name: b}]\n")
    write(tmp_path, "mid.yaml", "base: low.yaml\noptim: {rate: 2}\n")
    top = write(tmp_path, "top.yaml", "base: mid.yaml\nparts: [{name: c}]\n")
    assert read_yaml(top) == {"steps": 7, "optim": {"rate": 2, "kind": "sgd"}, "parts": [{"name": "c"}]}
    assert read_yaml(top, inherit=False) == {"base": "mid.yaml", "parts": [{"name": "c"}]}


def test_inheritance_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "base: b.yaml")
    write(tmp_path, "b.yaml", "base: a.yaml")
    with pytest.raises(ConfigError, match=r"leads back to itself"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n- 2\n", "holds a list, not a mapping"),
        (b"a: [1, 2\nb: 3\n", r"bad\.yaml, line \d"),
        (b"a: \xff\xfe", "not UTF-8"),
        (b"a: !!python/object/apply:os.system ['true']", "bad.yaml"),
        (b"a: b: c", r"line 1"),
        (b"a: 2001-13-45", r"bad\.yaml: month must be in 1\.\.12"),
        (b"[" * 5000, r"bad\.yaml"),
    ],
)
def test_broken_yaml_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        read_yaml(tmp_path / "none.yaml")
    assert read_yaml(write(tmp_path, "empty.yaml", "# nothing\n")) == {}


@given(st.binary(max_size=200))
def test_any_bytes_give_a_mapping_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    try:
        answer = read_yaml(path)
    except ConfigError:
        return
    assert isinstance(answer, dict)


def test_overrides_reach_mappings_lists_and_new_sections() -> None:
    content = {"optim": {"rate": 1.0}, "parts": [{"name": "a"}, {"name": "b"}]}
    result = apply_overrides(
        content, ["optim.rate=1e-3", "parts.1.weight=2", "steps=9", "more.deep=[1, x]", "optim.kind=sgd", "text=a=b"]
    )
    assert result == {
        "optim": {"rate": 1e-3, "kind": "sgd"},
        "parts": [{"name": "a"}, {"name": "b", "weight": 2}],
        "steps": 9,
        "more": {"deep": [1, "x"]},
        "text": "a=b",
    }
    assert content == {"optim": {"rate": 1.0}, "parts": [{"name": "a"}, {"name": "b"}]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", "not of the form key=value"),
        ("=3", "not of the form key=value"),
        ("parts.2.name=x", r"parts is a list of 1; '2' is not a number from 0 to 0"),
        ("parts.name=x", "parts is a list of 1"),
        ("steps.x=1", "steps is a single value"),
        ("steps=[1", "not a YAML value"),
        ("steps=2001-13-45", "not a YAML value"),
    ],
)
def test_wrong_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_overrides({"parts": [{"name": "a"}], "steps": 1}, [override])


def test_names_stay_names_and_numbers_numbers() -> None:
    result = apply_overrides({}, ["a=07", "b=1e5", "c=1e-3", "d=east", "e=e2e", "f=true", "g="])
    assert (result["b"], result["c"], result["d"], result["e"]) == (1e5, 1e-3, "east", "e2e")
    assert result["f"] is True
    assert result["g"] is None


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(st.text(max_size=2), PLAIN, max_size=4)


@given(MAPPINGS, MAPPINGS)
def test_merge_keeps_the_upper_and_changes_neither(below: dict[str, object], above: dict[str, object]) -> None:
    before = yaml.safe_dump([below, above])
    merged = merge(below, above)
    assert yaml.safe_dump([below, above]) == before
    assert merge(merged, above) == merged
    assert merged.keys() == below.keys() | above.keys()


def test_digest_is_stable_and_tells_apart() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest(Whole()) == digest(Whole().model_dump(mode="json"))
    assert len(digest({})) == 16


def test_shipped_configs_are_found_by_bare_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = config_folders()[0]
    assert find_config("classes/semantic_kitti_19") == folder / "classes" / "semantic_kitti_19.yaml"
    assert find_config("configs/classes/semantic_kitti_19.yaml") == folder / "classes" / "semantic_kitti_19.yaml"
    mine = tmp_path / "classes"
    mine.mkdir()
    (mine / "semantic_kitti_19.yaml").write_text("")
    assert find_config("classes/semantic_kitti_19").resolve() == (mine / "semantic_kitti_19.yaml").resolve()
    with pytest.raises(ConfigError, match=r"no config 'classes/semantic_kity_19'.*semantic_kitti_19"):
        find_config("classes/semantic_kity_19")


def test_the_folder_of_sweeps_answers_to_its_old_name() -> None:
    new = find_config("configs/sweeps/m2s_ablation.yaml")
    assert (
        new.resolve() == find_config("configs/experiments/m2s_ablation.yaml") == find_config("experiments/m2s_ablation")
    )
