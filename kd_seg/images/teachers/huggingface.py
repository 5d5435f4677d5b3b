"""``huggingface``: a transformers model from a local folder, nothing downloaded, no code of the folder run.

The folder's config.json decides what it is: DINOv2 and DINOv3 give features, SegFormer and Mask2Former semantic maps,
CLIPSeg a semantic map of the class map's names as prompts, OWL-ViT and OWLv2 boxes of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from kd_seg.caches.fingerprint import file_digest
from kd_seg.core.config import Settings
from kd_seg.core.errors import DataError, MissingDependencyError
from kd_seg.images.projection.cameras import Shot
from kd_seg.images.teachers.detections import merge_tiles, suppress
from kd_seg.images.teachers.interface import IMAGE_TEACHERS, Detections, Provenance, SemanticMap, TeacherOutput, Tools

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

# model_type: (class in transformers, what it gives, labels it learned from, default normalisation)
FAMILIES: dict[str, tuple[str, str, str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "dinov2": ("Dinov2Model", "features", "none", _IMAGENET),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", "features", "none", _IMAGENET),
    "dinov3_vit": ("DINOv3ViTModel", "features", "none", _IMAGENET),
    "segformer": ("SegformerForSemanticSegmentation", "semantic", "2d", _IMAGENET),
    "mask2former": ("Mask2FormerForUniversalSegmentation", "queries", "2d", _IMAGENET),
    "clipseg": ("CLIPSegForImageSegmentation", "prompted", "2d", _IMAGENET),
    "owlvit": ("OwlViTForObjectDetection", "boxes", "2d", _CLIP),
    "owlv2": ("Owlv2ForObjectDetection", "boxes", "2d", _CLIP),
}

Picture = npt.NDArray[np.uint8]


class HuggingFaceSettings(Settings):
    """Settings of ``kind: huggingface``."""

    kind: Literal["huggingface"] = "huggingface"
    folder: str = Field(description="folder with config.json and .safetensors, as save_pretrained writes it")
    size: tuple[int, int] | None = Field(
        default=None, description="height and width shown to features and semantic models; none given = the picture's"
    )
    tiles: int = Field(default=1, ge=1, description="square-input models see the picture in so many parts side by side")
    before_norm: bool = Field(default=False, description="features before the last norm, as ScaLR takes them")
    least: float = Field(default=0.1, gt=0, lt=1, description="boxes below it are not even suppressed against")
    trained_on: list[str] = Field(default_factory=list, description="data sets that it saw")
    labels: Literal["none", "2d", "projected_3d"] | None = Field(
        default=None, description="default by the model's kind"
    )


@IMAGE_TEACHERS.register("huggingface")
class HuggingFaceTeacher:
    """Loads one model; DataError where the folder is none that is known."""

    Settings = HuggingFaceSettings

    def __init__(self, settings: HuggingFaceSettings, tools: Tools) -> None:
        self.settings, self.device = settings, tools.device
        self.folder = Path(settings.folder)
        self.config = _read_config(self.folder)
        kind = str(self.config.get("model_type"))
        if kind not in FAMILIES:
            raise DataError(f"{self.folder} holds a model of type {kind!r}; known types: {', '.join(FAMILIES)}.")
        name, self.gives, self.labels, normal = FAMILIES[kind]
        self.padded = kind == "owlv2"
        self.mean, self.deviation = _normalisation(self.folder, normal)
        self.model = _load(name, self.folder).to(self.device).eval()
        self.prompts = tools.prompts
        self.vocabulary = self._vocabulary()
        self.tokens = self._tokenise() if self.gives in ("prompted", "boxes") else {}

    def _vocabulary(self) -> tuple[str, ...]:
        if self.gives == "features":
            return ()
        if self.gives in ("prompted", "boxes"):
            if not self.prompts:
                raise DataError(
                    f"{self.folder} answers prompts; name a class map, whose teacher classes are the prompts."
                )
            return self.prompts
        return tuple(self.model.config.id2label[n] for n in range(self.model.config.num_labels))

    def _tokenise(self) -> dict[str, Any]:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.folder} has no tokenizer that can be read ({error}); copy its files too.") from None
        encoded = tokenizer(list(self.prompts), padding=True, truncation=True, return_tensors="pt")
        return {name: encoded[name].to(self.device) for name in ("input_ids", "attention_mask")}

    def provenance(self) -> Provenance:
        """By the model's kind, unless the settings say otherwise."""
        return Provenance(self.settings.labels or self.labels, tuple(self.settings.trained_on))

    @staticmethod
    def identify(settings: HuggingFaceSettings) -> dict[str, Any]:
        """Digests of the folder's files."""
        folder = Path(settings.folder)
        names = sorted(p.name for p in folder.glob("*") if p.suffix in {".json", ".safetensors", ".bin", ".txt"})
        return {name: file_digest(folder / name) for name in names}

    def predict(self, shot: Shot) -> TeacherOutput:
        """The model's output for one picture."""
        import torch

        rgb = shot.camera.read()
        answers: dict[str, Callable[[Picture], TeacherOutput]] = {
            "features": self._features,
            "semantic": self._semantic,
            "queries": self._queries,
            "prompted": self._prompted,
            "boxes": self._boxes,
        }
        with torch.inference_mode():
            return answers[self.gives](rgb)

    # ------------------------------------------------------------------ by family

    def _features(self, rgb: Picture) -> TeacherOutput:
        """Patch tokens [D, H', W']; the picture is brought to whole patches."""
        config = self.model.config
        patch = int(config.patch_size)
        high, wide = self.settings.size or rgb.shape[:2]
        rows, columns = max(1, round(high / patch)), max(1, round(wide / patch))
        output = self.model(self._tensor(rgb, (rows * patch, columns * patch)), output_hidden_states=True)
        tokens = output.hidden_states[-1] if self.settings.before_norm else output.last_hidden_state
        extra = 1 + int(getattr(config, "num_register_tokens", 0) or 0)
        grid = tokens[0, extra:].float().reshape(rows, columns, -1).permute(2, 0, 1)
        return TeacherOutput(features=_half(grid))

    def _semantic(self, rgb: Picture) -> TeacherOutput:
        import torch

        logits = self.model(self._tensor(rgb, self.settings.size or rgb.shape[:2])).logits
        return TeacherOutput(semantic=_semantic_map(torch.softmax(logits[0].float(), dim=0), rgb.shape[:2]))

    def _queries(self, rgb: Picture) -> TeacherOutput:
        """Mask2Former: the masks of all queries, weighted by their class probabilities, summed per class."""
        import torch

        output = self.model(self._tensor(rgb, self.settings.size or rgb.shape[:2]))
        classes = torch.softmax(output.class_queries_logits[0].float(), dim=-1)[:, :-1]
        masks = torch.sigmoid(output.masks_queries_logits[0].float())
        score = torch.einsum("qc,qhw->chw", classes, masks)
        return TeacherOutput(semantic=_semantic_map(score / score.sum(dim=0).clamp_min(1e-6), rgb.shape[:2]))

    def _prompted(self, rgb: Picture) -> TeacherOutput:
        """CLIPSeg: one sigmoid map per prompt; the best prompt's value is the confidence."""
        import torch

        side = int(self.model.config.vision_config.image_size)
        parts = []
        for left, right in _columns(rgb.shape[1], self.settings.tiles):
            tensor = self._tensor(rgb[:, left:right], (side, side)).expand(len(self.prompts), -1, -1, -1)
            logits = self.model(pixel_values=tensor, **self.tokens).logits.reshape(len(self.prompts), side, side)
            parts.append(_resize(torch.sigmoid(logits.float()), (rgb.shape[0], right - left)))
        return TeacherOutput(semantic=_semantic_map(torch.cat(parts, dim=2), rgb.shape[:2]))

    def _boxes(self, rgb: Picture) -> TeacherOutput:
        """OWL-ViT and OWLv2: every patch proposes a box; each takes its best prompt, then weaker overlaps go."""
        import torch

        side = int(self.model.config.vision_config.image_size)
        parts = []
        for left, right in _columns(rgb.shape[1], self.settings.tiles):
            tile = rgb[:, left:right]
            high, wide = tile.shape[:2]
            if self.padded:  # OWLv2 was trained on pictures padded to squares, its boxes are shares of the square
                square = np.full((max(high, wide), max(high, wide), 3), 128, dtype=np.uint8)
                square[:high, :wide] = tile
                tile, high, wide = square, len(square), len(square)
            output = self.model(pixel_values=self._tensor(tile, (side, side)), **self.tokens)
            confidence, teacher_class = torch.sigmoid(output.logits[0].float()).max(dim=1)
            middle = output.pred_boxes[0].float().cpu().numpy()
            corners = np.concatenate([middle[:, :2] - middle[:, 2:] / 2, middle[:, :2] + middle[:, 2:] / 2], axis=1)
            corners = corners * [wide, high, wide, high] + [left, 0, left, 0]
            bound = np.array([right, rgb.shape[0], right, rgb.shape[0]], dtype=np.float32)
            boxes = np.clip(corners, [left, 0, left, 0], bound).astype(np.float32)
            found = Detections(boxes, teacher_class.cpu().numpy().astype(np.int16), confidence.cpu().numpy())
            parts.append(suppress(found, self.settings.least))
        return TeacherOutput(detections=merge_tiles(parts))

    def _tensor(self, rgb: Picture, size: tuple[int, ...]) -> Any:
        """Picture [H, W, 3] as the model's input [1, 3, h, w]."""
        import torch
        from PIL import Image

        picture = Image.fromarray(rgb)
        if picture.size != (size[1], size[0]):
            picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
        value = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255.0
        mean, deviation = (torch.tensor(v).reshape(3, 1, 1) for v in (self.mean, self.deviation))
        return ((value - mean) / deviation)[None].to(self.device)


def _semantic_map(scores: Any, size: tuple[int, ...]) -> SemanticMap:
    """Scores [C, h, w] in [0, 1] as a map of the picture's size."""
    confidence, classes = _resize(scores, size).max(dim=0)
    return SemanticMap(
        classes.cpu().numpy().astype(np.uint8), confidence.clamp(0, 1).cpu().numpy().astype(np.float32), _half(scores)
    )


def _resize(maps: Any, size: tuple[int, ...]) -> Any:
    import torch.nn.functional as F

    return F.interpolate(maps[None], (size[0], size[1]), mode="bilinear", align_corners=False)[0]


def _half(value: Any) -> npt.NDArray[np.float16]:
    array: npt.NDArray[np.float16] = value.cpu().numpy().astype(np.float16)
    return array


def _columns(width: int, tiles: int) -> list[tuple[int, int]]:
    edges = [round(width * n / tiles) for n in range(tiles + 1)]
    return list(pairwise(edges))


def _read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} has no readable {name} ({error}); give a folder of save_pretrained.") from None
    return content if isinstance(content, dict) else {}


def _normalisation(folder: Path, usual: tuple[tuple[float, ...], tuple[float, ...]]) -> Any:
    name = "preprocessor_config.json"
    if not (folder / name).is_file():
        return usual
    content = _read_config(folder, name)
    return content.get("image_mean", usual[0]), content.get("image_std", usual[1])


def _load(name: str, folder: Path) -> Any:
    try:
        import transformers
    except ImportError:
        raise MissingDependencyError(
            "The teacher huggingface needs transformers; run pip install transformers."
        ) from None
    try:
        return getattr(transformers, name).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{folder} cannot be loaded as {name} ({str(error).splitlines()[0]}); copy it again.") from None
