"""Evidence of pictures: what an image teacher's answers are worth, counted without labels against a point teacher."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kd_seg.adaptation.evidence import LEAST, LEVELS, NO_ANSWER, PRIOR, Confusion, answers_of, estimate, weighed
from kd_seg.images.units.class_maps import ClassMap

# The teacher's "street" stands for classes 0 and 1, "tree" for 2, "car" for 3, "sky" for none.
SETS = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=bool)
MAP = ClassMap("test", ("street", "tree", "car", "sky"), SETS, np.array([0, 2, 3, -1]))
CLASSES = SETS.shape[1]


def soft(rng: np.random.Generator, class_id: np.ndarray) -> np.ndarray:
    """Predictions [N, C] of a point teacher that is wrong where it is unsure, and right about three quarters of all."""
    values = rng.normal(0, 1.5, (len(class_id), CLASSES))
    values[np.arange(len(class_id)), class_id] += 2.5
    shares = np.exp(values)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def picture(rng: np.random.Generator, class_id: np.ndarray, right: float) -> np.ndarray:
    """Answers [N] of an image teacher that names the right set with probability ``right``, else any of the first 3."""
    named = np.array([0, 0, 1, 2])[class_id]
    named = np.where(rng.random(len(named)) < right, named, rng.integers(0, 3, len(named)))
    return answers_of(named, np.full(len(named), 0.9, np.float32))


def parts(answers: np.ndarray, distribution: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Three scans."""
    return [(answers[part], distribution[part]) for part in np.array_split(np.arange(len(answers)), 3)]


def likelihood(answers: np.ndarray, distribution: np.ndarray) -> np.ndarray:
    return estimate(lambda: parts(answers, distribution), MAP)[1]


@given(st.integers(0, 10_000))
def test_likelihoods_are_rates_of_answers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 200))
    answers = rng.integers(NO_ANSWER, LEVELS * len(MAP), count).astype(np.int16)
    distribution = rng.dirichlet(np.full(CLASSES, 0.5), count).astype(np.float32)
    confusion = Confusion(MAP)
    for part in parts(answers, distribution):
        confusion.add(*part)
    found = confusion.likelihood()
    answered = answers != NO_ANSWER
    points = distribution[answered].sum(axis=0)
    for answer in range(LEVELS * len(MAP)):
        inside, rows = SETS[answer // LEVELS], distribution[answers == answer]
        expected = np.ones(CLASSES)
        if inside.any() and len(rows):
            hit = rows[:, inside].sum() / points[inside].sum()
            stray = rows[:, ~inside].sum() / points[~inside].sum()
            for column in np.flatnonzero(~inside):
                prior = PRIOR * answered.sum()
                rate = (rows[:, column].sum() + prior * stray) / (points[column] + prior)
                expected[column] = min(max(rate / hit, LEAST), 1.0)
        np.testing.assert_allclose(found[answer], expected, rtol=1e-3)


def test_a_good_image_teacher_corrects_an_unsure_point_teacher() -> None:
    rng = np.random.default_rng(0)
    class_id = rng.choice(CLASSES, 6000, p=[0.5, 0.1, 0.35, 0.05])
    before = soft(rng, class_id)
    answers = picture(rng, class_id, 0.9)
    after = weighed(before, answers, likelihood(answers, before))
    sets = np.array([0, 0, 1, 2])  # a picture cannot tell the classes of one set apart
    right = [(sets[values.argmax(axis=1)] == sets[class_id]).mean() for values in (before, after)]
    assert right[1] > right[0] + 0.1
    car = class_id == 3
    assert (after[car].argmax(axis=1) == 3).mean() > (before[car].argmax(axis=1) == 3).mean() + 0.1


def test_an_image_teacher_that_guesses_changes_next_to_nothing() -> None:
    rng = np.random.default_rng(1)
    class_id = rng.choice(CLASSES, 20_000, p=[0.5, 0.1, 0.35, 0.05])
    before = soft(rng, class_id)
    answers = picture(rng, class_id, 0.0)
    found = likelihood(answers, before)
    assert found.min() > 0.85
    after = weighed(before, answers, found)
    assert (after.argmax(axis=1) == before.argmax(axis=1)).mean() > 0.99


def test_an_image_teacher_that_is_always_wrong_is_not_followed() -> None:
    rng = np.random.default_rng(2)
    class_id = rng.choice([0, 2, 3], 6000)
    before = soft(rng, class_id)
    answers = answers_of(np.where(class_id == 0, 1, 0), np.full(6000, 0.9, np.float32))  # trees for street, and so on
    after = weighed(before, answers, likelihood(answers, before))
    right = [(values.argmax(axis=1) == class_id).mean() for values in (before, after)]
    assert right[1] > right[0] - 0.02


def test_confidence_is_judged_by_agreement_not_by_its_number() -> None:
    rng = np.random.default_rng(3)
    class_id = rng.choice(CLASSES, 9000, p=[0.4, 0.1, 0.3, 0.2])
    before = soft(rng, class_id)
    useful, noise = picture(rng, class_id, 0.95) // LEVELS, picture(rng, class_id, 0.0) // LEVELS
    unsure = rng.random(9000) < 0.5  # this teacher is right where it is unsure, and guesses where it is sure
    answers = answers_of(
        np.where(unsure, useful, noise).astype(np.int64), np.where(unsure, 0.3, 0.95).astype(np.float32)
    )
    found = likelihood(answers, before)
    assert found[0].min() < 0.4
    assert found[LEVELS - 1].min() > 0.8


@given(st.integers(0, 10_000))
def test_pictures_do_not_choose_within_a_set_and_do_not_overrule_the_sure(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = rng.dirichlet(np.full(CLASSES, 0.4), 300).astype(np.float32)
    before[rng.random(300) < 0.1] = 0.0
    answers = rng.integers(NO_ANSWER, LEVELS * len(MAP), 300).astype(np.int16)
    after = weighed(before, answers, likelihood(answers, before))
    known = before.sum(axis=1) > 0
    np.testing.assert_allclose(after.sum(axis=1), known, atol=1e-5)
    alone = (answers == NO_ANSWER) | (answers >= LEVELS * 3) | ~known  # no picture, or the sky
    np.testing.assert_allclose(after[alone], before[alone], atol=1e-6)
    street = known & (answers != NO_ANSWER) & (answers < LEVELS) & (before[:, :2].min(axis=1) > 1e-4)
    ratio = [values[street, 0] / values[street, 1] for values in (before, after)]
    np.testing.assert_allclose(ratio[1], ratio[0], rtol=1e-3)
    sure = before.max(axis=1) > 1 / (1 + LEAST)
    assert (after[sure].argmax(axis=1) == before[sure].argmax(axis=1)).all()


def test_figures_name_the_image_teachers_classes() -> None:
    confusion = Confusion(MAP)
    answers = answers_of(np.array([0, 0, 2]), np.array([0.1, 0.9, 0.9], np.float32))
    confusion.add(answers, np.array([[0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32))
    assert confusion.to_json() == {
        "street": {"points": 2, "agreement": 0.5},
        "tree": {"points": 0, "agreement": None},
        "car": {"points": 1, "agreement": 1.0},
        "sky": {"points": 0, "agreement": None},
    }
