"""The image network: sizes of its maps, rows and their places, padding, and what it asks of a batch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from kd_seg.core.errors import ConfigError
from kd_seg.networks import build_network
from kd_seg.networks.image_unet import PICTURES, SIZES, STRIDE, Pictures


def network(size: str = "nano", classes: int = 5) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network("image_unet", size, 7, classes).eval()


def batch(images: torch.Tensor) -> SimpleNamespace:
    none = torch.zeros(0, dtype=torch.int64)
    return SimpleNamespace(views={PICTURES: Pictures(images, none, torch.zeros(0, 2), none)})


def pictures(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (37, 61), (1, 1), (33, 16), (15, 50)])
@torch.no_grad()
def test_maps_have_half_the_size_of_any_picture(height: int, width: int) -> None:
    logits, features = network().predict(pictures(2, height, width))  # type: ignore[operator]
    half = (-(-height // STRIDE), -(-width // STRIDE))
    assert logits.shape == (2, 5, *half)
    assert features.shape == (2, SIZES["nano"][0][0], *half)
    assert torch.isfinite(logits).all()


@torch.no_grad()
def test_rows_lie_where_their_coordinates_say() -> None:
    made, images = network(), pictures(3, 20, 34)
    maps, features = made.predict(images)  # type: ignore[operator]
    output = made(batch(images))
    level = output.levels["penultimate"]
    assert level.stride == (STRIDE, STRIDE, 1)
    assert len(output.logits) == len(level.coordinates) == 3 * 10 * 17
    for row in (0, 16, 17, 169, 170, 509):
        picture, y, x, z = level.coordinates[row].tolist()
        assert z == 0
        assert torch.equal(output.logits[row], maps[picture, :, y, x])
        assert torch.equal(level.features[row], features[picture, :, y, x])
    assert len({tuple(place) for place in level.coordinates.tolist()}) == 510


@torch.no_grad()
def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    made, images = network(), pictures(3, 24, 40)
    together = made.predict(images)[0]  # type: ignore[operator]
    for k in range(3):
        alone = made.predict(images[k : k + 1])[0]  # type: ignore[operator]
        torch.testing.assert_close(alone[0], together[k], atol=1e-5, rtol=1e-5)


def test_a_batch_without_pictures_gives_no_rows_and_still_trains() -> None:
    made = network().train()
    output = made(batch(pictures(0, 8, 8)))
    assert output.logits.shape == (0, 5)
    assert output.levels["penultimate"].coordinates.shape == (0, 4)
    output.logits.sum().backward()


def test_every_parameter_gets_a_gradient() -> None:
    made = network("small").train()
    made(batch(pictures(2, 32, 48))).logits.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in made.parameters())
    assert sum(bool(p.grad.any()) for p in made.parameters()) > 0.9 * len(list(made.parameters()))  # type: ignore[union-attr]


def test_bigger_names_are_bigger_networks_and_others_are_refused() -> None:
    counts = [sum(p.numel() for p in network(size).parameters()) for size in ("nano", "small", "base")]
    assert counts == sorted(counts)
    assert len(set(counts)) == 3
    with pytest.raises(ConfigError, match="image_unet has no size 'huge'; it has: nano, small, base"):
        network("huge")
    with pytest.raises(ConfigError, match="image_unet reads pictures, and this batch has none"):
        network()(SimpleNamespace(views={}))


def test_pictures_move_with_all_they_know() -> None:
    images = pictures(1, 4, 4)
    moved = Pictures(images, torch.zeros(2), torch.zeros(2, 2), torch.zeros(2)).to("meta")
    assert {t.device.type for t in (moved.images, moved.picture, moved.place, moved.labels)} == {"meta"}
