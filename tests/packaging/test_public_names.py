"""The public names: lazily imported, typed, and without torch for those who only import the package."""

import subprocess
import sys

import kd_seg


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_no_other_module_of_it_and_no_heavy_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import kd_seg; dir(kd_seg)\n"
        "new = set(sys.modules) - before\n"
        "print(sorted(n for n in new if n.split('.')[0] not in sys.stdlib_module_names))"
    )
    assert run(code).strip() == "['kd_seg']"


def test_every_public_name_is_what_its_room_defines() -> None:
    from kd_seg import Prediction, Segmenter, Trainer, TrainingConfig, evaluate, evaluation, training
    from kd_seg.serving import segmenter

    assert (Prediction, Segmenter) == (segmenter.Prediction, segmenter.Segmenter)
    assert (Trainer, TrainingConfig) == (training.Trainer, training.TrainingConfig)
    assert evaluate is evaluation.evaluate
    assert {"Prediction", "Segmenter", "Trainer", "TrainingConfig", "evaluate"} <= set(dir(kd_seg))
    for name in kd_seg.__all__:
        assert getattr(kd_seg, name) is not None


def test_a_star_import_brings_all_of_them() -> None:
    code = "from kd_seg import *; print(Segmenter.__name__, TrainingConfig.__name__, evaluate.__name__)"
    assert run(code).split() == ["Segmenter", "TrainingConfig", "evaluate"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(kd_seg, "Experiment")
