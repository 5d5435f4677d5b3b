"""The U-Net: shapes, levels, batches, empty input, gradients, and the traps of spconv on a CPU."""

import numpy as np
import pytest
import torch
from tiny_data import tiny_cloud

from kd_seg.core.errors import ConfigError, DataError
from kd_seg.networks import Encoding, build_network, collate, encode
from kd_seg.networks.unet import SIZES, read_size
from kd_seg.sparse import pool_rows, sparse_tensor
from kd_seg.voxels import CartesianGrid, feature_width

ENCODING = Encoding(CartesianGrid((0.4, 0.4, 0.4)), ("xyz", "remission", "offset"))


def clouds(count: int) -> list:
    rng = np.random.default_rng(3)
    made = []
    for _ in range(count):
        points, _ = tiny_cloud(rng)
        made.append(encode(points, None, ENCODING))
    return made


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network("unet", "nano", feature_width(ENCODING.features), 19)


@pytest.mark.parametrize("size", ["nano", "small", "base"])
def test_every_level_has_the_width_and_stride_it_names(size):
    net = build_network("unet", size, feature_width(ENCODING.features), 19).eval()
    batch = collate(clouds(1), ENCODING.grid)
    output = net(batch)
    assert output.logits.shape == (len(batch.coordinates), 19)
    assert set(output.levels) == set(net.channels)
    for name, level in output.levels.items():
        assert level.features.shape == (len(level.coordinates), net.channels[name])
        coarse = torch.unique(batch.coordinates // torch.tensor([1, *level.stride], dtype=torch.int32), dim=0)
        own = level.coordinates[np.lexsort(level.coordinates.numpy().T[::-1])]
        assert torch.equal(coarse, own)


def test_rows_of_logits_are_rows_of_the_batch(network):
    network.eval()
    batch = collate(clouds(1), ENCODING.grid)
    assert torch.equal(network(batch).levels["penultimate"].coordinates, batch.coordinates)


def test_two_clouds_together_answer_as_apart(network):
    network.eval()
    first, second = clouds(2)
    both = network(collate([first, second], ENCODING.grid)).logits
    apart = torch.cat([network(collate([c], ENCODING.grid)).logits for c in (first, second)])
    assert torch.allclose(both, apart, atol=1e-4)


def test_no_points_give_no_logits_in_both_modes(network):
    empty = collate([encode(np.zeros((0, 4), np.float32), None, ENCODING)], ENCODING.grid)
    for mode in (True, False):
        output = network.train(mode)(empty)
        assert output.logits.shape == (0, 19)
        assert output.levels["enc4"].stride == (16, 16, 16)


def test_a_single_voxel_trains(network):
    one = collate([encode(np.ones((1, 4), np.float32), None, ENCODING)], ENCODING.grid)
    output = network.train()(one)
    output.logits.sum().backward()
    assert torch.isfinite(output.logits).all()


def test_every_parameter_gets_a_gradient(network):
    network.train().zero_grad()
    network(collate(clouds(2), ENCODING.grid)).logits.square().mean().backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_unknown_size_names_the_known_ones():
    with pytest.raises(ConfigError, match="nano, small, base"):
        build_network("unet", "huge", 4, 19)
    with pytest.raises(ConfigError, match="did you mean 'unet'"):
        build_network("unett", "nano", 4, 19)


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(DataError, match="3 feature rows and 2 coordinates"):
        sparse_tensor(torch.zeros(3, 4), torch.zeros(2, 4), (8, 8, 8), 1)


def test_pooling_leaves_out_minus_one():
    rows = torch.tensor([[1.0], [-3.0], [-5.0], [100.0]])
    index = torch.tensor([0, 0, 1, -1])
    assert pool_rows(rows, index, 3, "mean").flatten().tolist() == [-1.0, -5.0, 0.0]
    assert pool_rows(rows, index, 3, "amax").flatten().tolist() == [1.0, -5.0, 0.0]


def test_pooling_of_constants_equals_pooling_with_gradients():
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(500, 7)).astype(np.float32))
    index = torch.from_numpy(rng.integers(-1, 90, 500))
    constant = pool_rows(rows, index, 100, "mean")
    tracked = pool_rows(rows.clone().requires_grad_(), index, 100, "mean")
    torch.testing.assert_close(constant, tracked.detach(), rtol=1e-5, atol=1e-6)


def test_a_size_is_a_name_or_widths_and_depths():
    for name, size in SIZES.items():
        assert read_size(name) == size
        assert read_size(size.text()) == size
    net = build_network("unet", "16-16 32x2-64x0 48x1-16x3", 4, 5)
    assert [len(encoder.blocks) for encoder in net.encoders] == [2, 0]
    assert [len(decoder.blocks) for decoder in net.decoders] == [1, 3]
    assert net.channels == {"enc0": 16, "enc1": 32, "enc2": 64, "dec1": 48, "dec0": 16, "penultimate": 16}
    batch = collate(clouds(1), ENCODING.grid)
    net = build_network("unet", "16-16 32x2-64x0 48x1-16x3", 7, 5).eval()
    plain = net(batch).logits
    assert plain.shape == (len(batch.coordinates), 5)
    with torch.no_grad():
        torch.testing.assert_close(net(batch).logits, plain, rtol=1e-4, atol=1e-5)  # the fused form


@pytest.mark.parametrize("size", ["16 24x0-32x1 32x1-16x1", "16 24x0-32x0-48x0 32x1-24x1-16x1"])
def test_an_encoder_level_without_blocks_reaches_its_decoder_in_the_fused_form(size):
    batch = collate(clouds(2), ENCODING.grid)
    net = build_network("unet", size, 7, 5).eval()
    plain = net(batch)
    with torch.no_grad():
        fused = net(batch)
    torch.testing.assert_close(fused.logits, plain.logits, rtol=1e-4, atol=1e-5)
    for name, level in plain.levels.items():
        torch.testing.assert_close(fused.levels[name].features, level.features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("huge", "unet has no size 'huge'; it has: nano, small, base, or give widths"),
        ("16 32x1", "unet has no size"),
        ("16 0x1 16x1", "unet has no size"),
        ("16 32x1-64x1 16x1", "as many decoder as encoder levels"),
        ("16-32 32x1 16x1", "one width in the stem"),
        ("16 32x1 16x0", "at least one block per decoder level"),
    ],
)
def test_impossible_sizes_are_refused(size, message):
    with pytest.raises(ConfigError, match=message):
        build_network("unet", size, 7, 5)
