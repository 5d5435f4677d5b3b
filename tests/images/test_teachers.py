"""Image teachers: Hugging Face folders (tiny random models saved by the test), class images, trained folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images_scene import HEIGHT, WIDTH, Scene, write_scene
from pretend_cuda import pretend_cuda

from kd_seg.caches import Work
from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError
from kd_seg.images.projection.cameras import ProjectionSettings, Shot, shots
from kd_seg.images.teachers import Provenance, TeacherOutput, Tools, TrainedNetwork, build_teacher, teacher_settings
from kd_seg.images.teachers.interface import IMAGE_TEACHERS
from kd_seg.images.units.cache import UnitSource, build_units, open_units, read_units
from kd_seg.images.units.class_maps import load_class_map
from kd_seg.scans import SemanticKitti

CLASSES = load_classes()
PROMPTS = load_class_map("open_vocabulary_19", CLASSES).vocabulary


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("world") / "data", Scene(), ("00", "01"), count=1)


def shot_of(root: Path, sequence: str = "00") -> Shot:
    return shots(SemanticKitti(root).scan(sequence, 0), ProjectionSettings())[0]


def ask(folder: Path, root: Path, **settings: Any) -> TeacherOutput:
    """The answer of a folder's model, which must be the same from a (pretended) CUDA device."""
    checked = teacher_settings({"kind": "huggingface", "folder": str(folder), **settings})
    teacher = build_teacher(checked, Tools(root, CLASSES, PROMPTS))
    answer = teacher.predict(shot_of(root))
    assert answer is not None
    with pretend_cuda() as mode:
        there = build_teacher(checked, Tools(root, CLASSES, PROMPTS, device="cuda"))
        assert all(mode.holds(p) for p in there.model.parameters())  # type: ignore[attr-defined]
        same(there.predict(shot_of(root)), answer)
    if answer.semantic is not None:
        said = answer.semantic
        assert said.classes.shape == said.confidence.shape == (HEIGHT, WIDTH)
        assert said.classes.max() < len(teacher.vocabulary)
        assert said.confidence.min() >= 0
        assert said.confidence.max() <= 1
        assert said.probabilities is not None
        assert said.probabilities.shape[0] == len(teacher.vocabulary)
    return answer


def same(found: Any, expected: Any) -> None:
    if isinstance(expected, np.ndarray):
        np.testing.assert_allclose(found, expected, atol=1e-3)
    elif expected is not None:
        for name, value in vars(expected).items():
            same(getattr(found, name), value)


def save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", *sorted({w for p in PROMPTS for w in p.split()})]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


TINY = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {
    **TINY,
    "vocab_size": 80,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
VISION = {**TINY, "image_size": 32, "patch_size": 8}


def test_dino_features(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra for Hugging Face teachers is not installed")
    from transformers import Dinov2Config, Dinov2Model, DINOv3ViTConfig, DINOv3ViTModel

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    two = Dinov2Model(Dinov2Config(**small, patch_size=14, image_size=56)).eval()
    two.save_pretrained(tmp_path / "two")
    found = ask(tmp_path / "two", root).features
    assert found is not None
    assert (found.dtype, found.shape) == (np.float16, (32, round(HEIGHT / 14), round(WIDTH / 14)))
    # cell (r, c) is the token of patch (r, c) of the picture as the model saw it
    checked = teacher_settings({"kind": "huggingface", "folder": str(tmp_path / "two"), "size": [42, 70]})
    teacher: Any = build_teacher(checked, Tools(root))
    rgb = shot_of(root).camera.read()
    with torch.no_grad():
        output = two(teacher._tensor(rgb, (42, 70)), output_hidden_states=True)
    found = teacher.predict(shot_of(root)).features
    np.testing.assert_allclose(found[:, 1, 3], output.last_hidden_state[0, 1 + 1 * 5 + 3], atol=5e-3)
    before = ask(tmp_path / "two", root, size=[42, 70], before_norm=True).features
    assert before is not None
    np.testing.assert_allclose(before[:, 1, 3], output.hidden_states[-1][0, 1 + 1 * 5 + 3], atol=5e-3, rtol=5e-3)
    assert teacher.provenance() == Provenance("none")
    three = DINOv3ViTModel(
        DINOv3ViTConfig(**small, intermediate_size=64, patch_size=16, image_size=64, num_register_tokens=4)
    )
    three.save_pretrained(tmp_path / "three")
    found = ask(tmp_path / "three", root, size=[48, 80]).features
    assert found is not None
    assert found.shape == (32, 3, 5)


def test_semantic_maps(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra for Hugging Face teachers is not installed")
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        SegformerConfig,
        SegformerForSemanticSegmentation,
        SwinConfig,
    )

    names = dict(enumerate(load_class_map("cityscapes_19", CLASSES).vocabulary))
    stages = {"hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 1]}
    segformer = SegformerForSemanticSegmentation(SegformerConfig(**stages, decoder_hidden_size=16, id2label=names))
    segformer.save_pretrained(tmp_path / "segformer")
    ask(tmp_path / "segformer", root)
    # and all the way to units: the vocabulary of the folder is the class map's
    source = UnitSource(
        teacher={"kind": "huggingface", "folder": str(tmp_path / "segformer")}, lift={"min_confidence": 0.0}
    )
    data = SemanticKitti(root)
    build_units(source, tmp_path / "cache", data, CLASSES, Tools(root, CLASSES), Work("kd-seg prepare X"))
    store = open_units(source, tmp_path / "cache", data, CLASSES, "kd-seg prepare X")
    assert store.header.provenance["labels"] == "2d"
    assert len(read_units(store, ("00", 0))) > 0
    (tmp_path / "segformer" / "config.json").write_text(
        (tmp_path / "segformer" / "config.json").read_text().replace('"1"', '"1" ')
    )
    with pytest.raises(DataError, match="teacher's files changed"):
        open_units(source, tmp_path / "cache", data, CLASSES, "kd-seg prepare X")

    backbone = SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    width = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "dim_feedforward": 16}
    layers = {"encoder_layers": 1, "decoder_layers": 2, "num_queries": 5, "num_attention_heads": 2}
    config = Mask2FormerConfig(backbone_config=backbone, **width, **layers, encoder_feedforward_dim=16, id2label=names)
    Mask2FormerForUniversalSegmentation(config).save_pretrained(tmp_path / "mask2former")
    ask(tmp_path / "mask2former", root, size=[64, 96])


def test_prompted_teachers(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra for Hugging Face teachers is not installed")
    from transformers import (
        CLIPSegConfig,
        CLIPSegForImageSegmentation,
        Owlv2Config,
        Owlv2ForObjectDetection,
        OwlViTConfig,
        OwlViTForObjectDetection,
    )

    decoder = {"reduce_dim": 16, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16}
    config = CLIPSegConfig(text_config=TEXT, vision_config=VISION, projection_dim=16, extract_layers=[0, 1], **decoder)
    CLIPSegForImageSegmentation(config).save_pretrained(tmp_path / "clipseg")
    save_tokenizer(tmp_path / "clipseg")
    ask(tmp_path / "clipseg", root)
    ask(tmp_path / "clipseg", root, tiles=3)
    for name, settings, model in (
        ("owlvit", OwlViTConfig, OwlViTForObjectDetection),
        ("owlv2", Owlv2Config, Owlv2ForObjectDetection),
    ):
        model(settings(text_config=TEXT, vision_config=VISION, projection_dim=16)).save_pretrained(tmp_path / name)
        save_tokenizer(tmp_path / name)
        found = ask(tmp_path / name, root, tiles=2, least=0.01).detections
        assert found is not None
        assert len(found.boxes) == len(found.classes) == len(found.confidence) > 0
        assert (found.boxes[:, :2] <= found.boxes[:, 2:]).all()
        assert found.boxes.min() >= 0
        assert (found.boxes[:, 2:] <= [WIDTH, HEIGHT]).all()
        assert found.classes.max() < len(PROMPTS)
    checked = teacher_settings({"kind": "huggingface", "folder": str(tmp_path / "owlv2")})
    with pytest.raises(DataError, match="prompts"):
        build_teacher(checked, Tools(root))


def test_folders_that_are_no_model(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra for Hugging Face teachers is not installed")
    checked = teacher_settings({"kind": "huggingface", "folder": str(tmp_path)})
    with pytest.raises(DataError, match=r"config\.json"):
        build_teacher(checked, Tools(root))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match=r"'bert'.*dinov2"):
        build_teacher(checked, Tools(root))
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(DataError, match="cannot be loaded as Dinov2Model"):
        build_teacher(checked, Tools(root))
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(DataError, match=r"no readable preprocessor_config\.json"):
        build_teacher(checked, Tools(root))


def test_class_images_are_the_truth(root: Path, tmp_path: Path) -> None:
    source = UnitSource(teacher={"kind": "class_images"}, class_map="same", lift={"min_pixels": 20})
    data = SemanticKitti(root)
    build_units(source, tmp_path, data, CLASSES, Tools(root, CLASSES), Work("kd-seg prepare X"))
    units = read_units(open_units(source, tmp_path, data, CLASSES, "kd-seg prepare X"), ("01", 0))
    labels = data.scan("01", 0).labels
    assert labels is not None
    train = CLASSES.to_train(labels, "x")[units.points].astype(int)
    assert (train == np.repeat(units.teacher_class, units.sizes()) + 1).mean() > 0.98


def test_folds_label_each_other(root: Path) -> None:
    """A picture is shown to the network that did not learn from its sequence's 3D labels."""

    class Constant:
        def __init__(self, value: int) -> None:
            self.value = value

        def to(self, device: str) -> Constant:
            return self

        def eval(self) -> Constant:
            return self

        def predict(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = torch.zeros(1, 19, 5, 9)
            logits[:, self.value] = 9.0
            return logits, torch.zeros(1, 2, 5, 9)

    def load(path: Path) -> TrainedNetwork:
        number = int(path.name)
        seen = Provenance("projected_3d", ("data",), (f"{root.name}/0{number}",))
        return TrainedNetwork(Constant(number), CLASSES.names, seen, lambda rgb: rgb)

    def teacher(*names: str) -> Any:
        checked = teacher_settings({"kind": "trained", "checkpoints": list(names)})
        return build_teacher(checked, Tools(root, CLASSES, load_network=load))

    both = teacher("0", "1")
    for sequence, other in (("00", 1), ("01", 0)):
        said = both.predict(shot_of(root, sequence)).semantic
        assert (said.classes == other).all()
        assert said.classes.shape == (HEIGHT, WIDTH)
    assert both.provenance() == Provenance("projected_3d", ("data",), (f"{root.name}/00", f"{root.name}/01"))
    with pytest.raises(DataError, match=f"{root.name}/01"):
        teacher("1").predict(shot_of(root, "01"))


def test_a_root_has_one_name_however_it_is_given(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a network would label the sequences that it was trained on."""
    seen = Provenance("projected_3d", ("data",), (f"{root.name}/00",))
    network = TrainedNetwork(torch.nn.Identity(), CLASSES.names, seen, lambda rgb: rgb)
    settings = teacher_settings({"kind": "trained", "checkpoints": ["0"]})
    monkeypatch.chdir(root)
    for given in (".", "../data", "sequences/.."):
        teacher = build_teacher(settings, Tools(Path(given), CLASSES, load_network=lambda path: network))
        with pytest.raises(DataError, match=f"trained on the 3D labels of {root.name}/00"):
            teacher.predict(shot_of(root, "00"))
        assert SemanticKitti(given).name == root.name


def test_features_that_were_exported_again_are_another_teacher(tmp_path: Path) -> None:
    folder = tmp_path / "sequences/00/features"
    folder.mkdir(parents=True)
    settings = teacher_settings({"kind": "maps", "root": str(tmp_path)})
    for number in range(3):
        np.save(folder / f"{number:06d}.npy", np.zeros((2, 3, 4), np.float16))
    before = IMAGE_TEACHERS.get("maps").identify(settings)
    assert IMAGE_TEACHERS.get("maps").identify(settings) == before
    for number in range(3):  # of the same size, as another network of the same kind gives them
        np.save(folder / f"{number:06d}.npy", np.ones((2, 3, 4), np.float16))
    assert IMAGE_TEACHERS.get("maps").identify(settings) != before


def test_kinds_are_registered() -> None:
    assert {"maps", "class_images", "trained", "huggingface"} <= set(IMAGE_TEACHERS.names())
    for name in IMAGE_TEACHERS:
        assert callable(IMAGE_TEACHERS.get(name).identify)
