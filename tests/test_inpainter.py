"""The inpainter's parts by their properties: what is copied, aligned, spread, kept and exportable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.inpainter import DEFAULT_WEIGHTS, ContextualAttention, build_inpainter, spread
from models.reference import align_reference
from models.training.holes import blob, draw_hole, draw_homography, draw_validity, stroke
from models.training.inpainter import Recipe, Sources, losses, make_batch, psnr_in_hole
from models.training.loop import read_weights

torch.set_num_threads(1)


def scene(side: int = 128, *, shift: tuple[float, float] = (0.0, 0.0), seed: int = 0) -> torch.Tensor:
    """A smooth texture (1, 3, side, side) in [0, 1], sampled at shifted places: exact sub-pixel shifts."""
    random = np.random.default_rng(seed)
    row, column = np.mgrid[:side, :side].astype(np.float64)
    row, column = row + shift[1], column + shift[0]
    picture = np.zeros((side, side, 3))
    for _ in range(24):
        frequency, phase = random.normal(0, 0.22, 2), random.uniform(0, 6.28, 3)
        wave = (frequency[0] * row + frequency[1] * column)[..., None]
        picture += np.sin(wave + phase) * random.uniform(0.5, 1)
    picture = 0.5 + 0.09 * picture
    return torch.from_numpy(picture.clip(0.02, 0.98)).float().permute(2, 0, 1)[None]


def disc(side: int = 128, radius: float = 26) -> torch.Tensor:
    """A round hole in the middle, (1, 1, side, side)."""
    row, column = np.mgrid[:side, :side] - side / 2
    return torch.from_numpy((row**2 + column**2 < radius**2).astype(np.float32))[None, None]


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.3, -0.7), (-2.4, 1.8), (3.5, 3.0)])
def test_alignment_brings_a_shifted_darker_reference_onto_the_frame(shift: tuple[float, float]) -> None:
    truth, hole = scene(), disc()
    reference = 0.85 * scene(shift=shift)
    valid = torch.ones_like(hole)
    aligned = align_reference(truth * (1 - hole), hole, reference, valid)
    assert psnr_in_hole(aligned.image, truth, hole) > 36
    assert psnr_in_hole(aligned.image, truth, hole) > psnr_in_hole(reference, truth, hole) + 10
    # read at pixel - shift: the reference shows place x at x - shift
    middle = aligned.flow[0, :, 8, 8]
    np.testing.assert_allclose(middle, [-shift[0], -shift[1]], atol=0.15)


def test_alignment_ignores_what_the_reference_does_not_know() -> None:
    truth, hole = scene(), disc()
    valid = torch.ones_like(hole)
    valid[..., :40] = 0
    reference = torch.where(valid > 0, scene(shift=(1.0, 0.5)), torch.rand(truth.shape))
    aligned = align_reference(truth * (1 - hole), hole, reference, valid)
    assert float(aligned.validity[..., :36].max()) == 0
    assert psnr_in_hole(aligned.image, truth, hole * aligned.validity) > 33


def test_a_mover_in_the_reference_does_not_bend_the_alignment() -> None:
    truth, hole = scene(), disc()
    reference = scene(shift=(1.5, 0.0))
    reference[:, :, 20:60, 4:24] = 0.9
    aligned = align_reference(truth * (1 - hole), hole, reference, torch.ones_like(hole))
    assert psnr_in_hole(aligned.image, truth, hole) > 32


def test_flat_frames_and_empty_references_stay_finite() -> None:
    flat = torch.full((1, 3, 64, 64), 0.5)
    hole = disc(64, 20)
    for reference, valid in ((flat, torch.ones_like(hole)), (flat * 0, torch.zeros_like(hole))):
        aligned = align_reference(flat * (1 - hole), hole, reference, valid)
        assert all(bool(torch.isfinite(part).all()) for part in aligned)
        assert float(aligned.flow.abs().max()) < 0.5


def test_spread_keeps_the_known_and_fills_with_the_rim() -> None:
    hole = disc()
    picture = torch.zeros(1, 3, 128, 128)
    picture[:, 0] = 0.8
    filled = spread(picture * (1 - hole), 1 - hole)
    torch.testing.assert_close(filled, picture, atol=2e-3, rtol=0)
    everything = spread(torch.zeros_like(picture), torch.zeros_like(hole))
    assert bool(torch.isfinite(everything).all())


def test_attention_pastes_the_known_cell_that_looks_alike() -> None:
    attention = ContextualAttention(2, 2)
    with torch.no_grad():
        attention.key.weight.copy_(torch.eye(2)[:, :, None, None])
        assert attention.key.bias is not None
        attention.key.bias.zero_()
    features = torch.zeros(1, 2, 8, 8)
    features[:, 0, :, :4], features[:, 1, :, 4:] = 1, 1
    missing = torch.zeros(1, 1, 8, 8)
    missing[:, :, 3:5, 1] = 1
    value = torch.where(features[:, :1] > 0, 1.0, -1.0).repeat_interleave(2, 2).repeat_interleave(2, 3)
    damaged = value.clone()
    damaged[:, :, 6:10, 2:4] = 7.0
    (filled,) = attention(features, missing, [damaged])
    torch.testing.assert_close(filled, value, atol=0.05, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_shapes_range_and_what_lies_outside_the_hole(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = build_inpainter().eval()
    image, hole = torch.rand(2, 3, *size), torch.zeros(2, 1, *size)
    hole[:, :, 16:40, 20:44] = 1
    with torch.no_grad():
        output = net(image * (1 - hole), hole, torch.zeros_like(image), torch.zeros_like(hole))
        again = net(image * (1 - hole) + 0.7 * hole, hole, torch.zeros_like(image), torch.zeros_like(hole))
    for picture in output:
        assert picture.shape == image.shape and float(picture.min()) >= 0 and float(picture.max()) <= 1
        torch.testing.assert_close(picture * (1 - hole), image * (1 - hole))
    # what stood in the hole must not shine through, whatever the caller left there
    torch.testing.assert_close(output.fine, again.fine)


def test_an_untrained_network_already_copies_a_good_reference() -> None:
    torch.manual_seed(0)
    truth, hole = scene(), disc()
    with torch.no_grad():
        output = build_inpainter().eval()(truth * (1 - hole), hole, truth, torch.ones_like(hole))
    assert psnr_in_hole(output.fine, truth, hole) > 25


def test_shipped_weights_copy_what_is_right_and_fill_the_rest() -> None:
    net = build_inpainter().eval()
    net.load_state_dict(read_weights(DEFAULT_WEIGHTS))
    truth, hole = scene(), disc()
    nothing = torch.zeros_like(hole)
    with torch.no_grad():
        copied = net(truth * (1 - hole), hole, 0.9 * scene(shift=(1.2, -0.6)), torch.ones_like(hole)).fine
        invented = net(truth * (1 - hole), hole, torch.zeros_like(truth), nothing).fine
    assert psnr_in_hole(copied, truth, hole) > 32
    grey = torch.full_like(truth, 0.5)
    assert psnr_in_hole(invented, truth, hole) > psnr_in_hole(grey, truth, hole) - 1


def test_variants() -> None:
    small = sum(p.numel() for p in build_inpainter().parameters())
    large = sum(p.numel() for p in build_inpainter(variant="paper").parameters())
    assert small < 1.5e6 < 8e6 < large
    with pytest.raises(ValueError, match="variant"):
        build_inpainter(variant="huge")  # type: ignore[arg-type]


class Recorder(TorchDispatchMode):
    """Collects the names of the operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def inputs() -> tuple[torch.Tensor, ...]:
    return torch.rand(1, 3, 64, 64), disc(64, 12), torch.rand(1, 3, 64, 64), torch.ones(1, 1, 64, 64)


def test_uses_no_operator_that_engines_lack(inputs: tuple[torch.Tensor, ...]) -> None:
    # Folding overlapping patches, solvers and data-dependent sizes have no TensorRT converter.
    with torch.no_grad(), Recorder() as recorder:
        build_inpainter().eval()(*inputs)
    lacking = ("col2im", "nonzero", "index_put", "linalg", "scatter", "_local_scalar_dense")
    assert not [name for name in recorder.names if any(word in name for word in lacking)]


@pytest.mark.slow
def test_exports(inputs: tuple[torch.Tensor, ...]) -> None:
    net = build_inpainter().eval()
    with torch.no_grad():
        wanted, found = net(*inputs).fine, torch.export.export(net, inputs).module()(*inputs).fine
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def small_sources() -> Sources:
    random = np.random.default_rng(3)
    pictures = [(scene(160, seed=s)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8) for s in range(3)]
    busy = [np.zeros((160, 160), np.uint8) for _ in pictures]
    return Sources(pictures, busy, pictures[:1], [blob(random), stroke(random)])


def test_holes_and_validity_are_of_the_promised_size() -> None:
    random = np.random.default_rng(0)
    shapes = small_sources().shapes
    shares = [draw_hole(96, shapes, np.zeros((96, 96), np.uint8), random).mean() for _ in range(40)]
    assert min(shares) > 0.02 and max(shares) < 0.6
    assert all(0.05 < draw_validity(96, random).mean() < 0.95 for _ in range(20))
    np.testing.assert_array_equal(draw_homography(64, 64, 0.0, random), np.eye(3))


def test_batches_are_deterministic_and_a_step_lowers_the_loss() -> None:
    sources, recipe = small_sources(), Recipe(feature_weight=0.0)
    batch = make_batch(sources, 64, 2, recipe, np.random.default_rng(5))
    again = make_batch(sources, 64, 2, recipe, np.random.default_rng(5))
    torch.testing.assert_close(batch.image, again.image)
    assert float((batch.image * batch.hole).abs().max()) == 0
    torch.manual_seed(0)
    net = build_inpainter()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    values = []
    for _ in range(6):
        loss = torch.stack(list(losses(net, batch, None, recipe, alone=False).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < values[0]
