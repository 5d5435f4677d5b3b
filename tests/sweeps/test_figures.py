"""What a sweep reports: intervals against an independent reference, the table's text, the picture, the stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kd_seg.sweeps import interval, paired
from kd_seg.sweeps.picture import draw_differences
from kd_seg.sweeps.plan import EvaluationSettings, Job, RowSettings, _fill, _text
from kd_seg.sweeps.results import commands
from kd_seg.sweeps.slurm import array_script, stages
from kd_seg.sweeps.statistics import Interval
from kd_seg.sweeps.table import Cell, Table, TableLine, markdown

scores = st.floats(0.0, 100.0, allow_nan=False)


@given(st.lists(scores, min_size=2, max_size=8))
def test_the_interval_is_that_of_a_one_sample_t_test(values: list[float]) -> None:
    from scipy import stats

    made = interval(values)
    assert made is not None
    assert made.half is not None
    if np.ptp(values) < 1e-6:
        assert made.half == pytest.approx(0.0, abs=1e-5)
        return
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (made.mean - made.half, made.mean + made.half) == pytest.approx((low, high), rel=1e-6, abs=1e-6)


@given(st.dictionaries(st.integers(0, 9), scores), st.dictionaries(st.integers(0, 9), scores))
def test_differences_are_taken_seed_by_seed(ours: dict[int, float], theirs: dict[int, float]) -> None:
    made = paired(ours, theirs)
    both = ours.keys() & theirs.keys()
    if not both:
        assert made is None
        return
    assert made is not None
    assert made.count == len(both)
    assert made.mean == pytest.approx(np.mean([ours[s] - theirs[s] for s in both]), abs=1e-9)


def test_pairing_removes_what_seeds_have_in_common() -> None:
    """Seeds 30 points apart, a gain of exactly 1: the means overlap, the paired difference does not."""
    baseline = {0: 20.0, 1: 50.0, 2: 35.0}
    ours = {seed: value + 1.0 for seed, value in baseline.items()}
    difference, mean = paired(ours, baseline), interval(list(ours.values()))
    assert difference is not None
    assert mean is not None
    assert difference.half == pytest.approx(0.0, abs=1e-9)
    assert mean.half is not None
    assert mean.half > 30.0


def line(row: str, mean: float, gap: float | None, half: float | None = 1.0, **changes: Any) -> TableLine:
    difference = None if gap is None else Interval(gap, half, 3)
    cells = {"mIoU": Cell(Interval(mean, half, 3), difference), "truck": Cell(None, None)}
    return replace(TableLine(row, "valid", (0, 1), (0, 1), cells, ""), **changes)


def table(*lines: TableLine) -> Table:
    return Table("small", "Does it help?", "plain", ("mIoU", "truck"), lines)


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("|")]


def test_a_table_shows_means_intervals_and_signed_differences() -> None:
    text = markdown(table(line("plain", 40.0, None), line("taught", 41.26, 1.26)))
    head, _, first, second = rows_of(text)
    assert head == ["row", "seeds", "mIoU", "truck"]
    assert first == ["**plain** (baseline)", "2", "40.0 ± 1.0", "–"]
    assert second == ["taught", "2", "41.3 ± 1.0<br>Δ +1.3 ± 1.0", "–"]
    assert text.startswith("Does it help?\n")
    assert "difference to plain" in text


def test_one_seed_has_no_interval_and_missing_seeds_are_named() -> None:
    text = markdown(
        table(
            line("plain", 40.0, None, half=None),
            line("half", 39.0, -1.0, half=None, seeds_done=(1,), seeds_planned=(0, 1, 2)),
            line("none", 0.0, None, seeds_done=(), cells={"mIoU": Cell(None, None), "truck": Cell(None, None)}),
            line("old", 39.0, -1.0, outdated=(1,)),
        )
    )
    _, _, first, second, third, fourth = rows_of(text)
    assert first[2] == "40.0"
    assert second == ["half", "1 (missing: seed 0, 2)", "39.0<br>Δ -1.0", "–"]
    assert third[1] == "0 (no finished run)"
    assert fourth[1] == "2 (made with other settings: seed 1)"


def test_notes_stand_once_below_and_protocols_get_a_column() -> None:
    both = [line("taught", 1.0, 0.0, evaluation=name, note="at the paper's weights") for name in ("valid", "street")]
    text = markdown(table(line("plain", 1.0, None), *both), "differences.png")
    assert rows_of(text)[0][:3] == ["row", "scored on", "seeds"]
    assert text.count("- taught: at the paper's weights") == 1
    assert text.rstrip().endswith("![differences to plain](differences.png)")


def test_the_picture_shows_every_row_that_has_a_difference(tmp_path: Path) -> None:
    path = tmp_path / "differences.png"
    few = table(line("plain", 1.0, None), line("a", 2.0, 1.0))
    many = table(line("plain", 1.0, None), *(line(name, 2.0, 1.0, half=None) for name in "abcdef"))
    assert draw_differences(few, path)
    low = Image.open(path).size[1]
    assert draw_differences(many, path)
    assert Image.open(path).size[1] > low + 5 * 40
    assert not draw_differences(table(line("plain", 1.0, None)), path)
    assert not path.exists()


def job(key: str, needs: str | None = None) -> Job:
    row, _, seed = key.partition("/")
    evaluations = (EvaluationSettings(name="valid", args=["--input", "fused"]),)
    run = Path("runs") / row
    return Job(row, int(seed), Path("base.yaml"), (f"run.seed={seed}", "a.b=[1, 2]"), evaluations, run, needs, "d")


@given(st.lists(st.integers(-1, 6), min_size=1, max_size=8))
def test_each_stage_needs_only_the_stages_before(parents: list[int]) -> None:
    """Jobs in order; each may need an earlier one."""
    keys = [f"r{number}/0" for number in range(len(parents))]
    jobs = [job(key, keys[p] if 0 <= p < n else None) for n, (key, p) in enumerate(zip(keys, parents, strict=True))]
    made = stages(jobs)
    assert sorted(j.key for level in made for j in level) == sorted(keys)
    done: set[str] = set()
    for level in made:
        assert level
        assert all(j.needs is None or j.needs in done for j in level)
        done |= {j.key for j in level}


def test_the_script_for_slurm_counts_from_zero() -> None:
    text = array_script("s.yaml", ["prepare c.yaml"], [job("a/0"), job("a/1"), job("b/0", "a/0")])
    assert text.splitlines()[0].startswith("# kd-seg prepare c.yaml")
    assert [row for row in text.splitlines() if "--array" in row] == ["#SBATCH --array=0-1", "#SBATCH --array=0-0"]
    assert text.splitlines()[-1] == "# then: kd-seg sweep s.yaml --table"
    assert stages([]) == []


def test_the_commands_by_hand_are_quoted_for_a_shell() -> None:
    import shlex

    first, train, evaluate = commands([job("a/3")], ["prepare c.yaml"]).splitlines()
    assert first == "kd-seg prepare c.yaml"
    assert shlex.split(train)[1:] == ["kd-seg", "train", "base.yaml", "run.seed=3", "a.b=[1, 2]"]
    assert shlex.split(evaluate) == ["kd-seg", "eval", "runs/a", "--json", "--input", "fused"]


plain = st.one_of(st.integers(-5, 5), st.booleans(), st.text("ab {}", max_size=6).filter(lambda t: "{needs." not in t))


@given(st.recursive(plain, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("k"), inner))))
def test_words_are_filled_in_everywhere_and_nothing_else_changes(value: Any) -> None:
    row = RowSettings(name="r")
    assert _fill(value, {}, row) == value
    assert _fill([value, {"k": "x{seed}y"}], {"seed": "7"}, row)[1] == {"k": "x7y"}


@given(st.recursive(plain, lambda inner: st.lists(inner, max_size=3)))
def test_an_override_reads_back_as_the_value(value: Any) -> None:
    import yaml

    text = _text(value)
    assert "\n" not in text
    assert yaml.safe_load(text) == value
