"""All things of a picture are completed in one pass, each from the picture's map and its own mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from models.deocclusion_parallel import build_parallel
from models.training.ensembles import VIEW, draw_ensemble
from models.training.occlusions import CANVAS, Whole, by_kind


def person(seed: int) -> Whole:
    """A figure in its own colour before a plain wall."""
    mask = np.zeros((CANVAS, CANVAS), np.uint8)
    cv2.ellipse(mask, (104, 104), (22 + seed, 54), 0, 0, 360, 1, -1)
    rgb = np.full((CANVAS, CANVAS, 3), 120, np.uint8)
    rgb[mask > 0] = (40 * seed + 20, 200 - 30 * seed, 90)
    return Whole(f"made-{seed}", "person", rgb, mask)


WHOLES = [person(seed) for seed in range(4)]


def test_ensembles_say_what_shows_what_is_hidden_and_in_which_layer() -> None:
    kinds = by_kind(WHOLES)
    for seed in range(6):
        each = draw_ensemble(WHOLES, kinds, np.random.default_rng(seed))
        count = len(each.modal)
        assert each.rgb.shape == (VIEW, VIEW, 3) and 3 <= count <= 6 and each.hidden
        assert each.visible.sum(0).max() == 1 and each.modal.sum(0).max() == 1
        assert np.array_equal(each.visible.any(0), each.amodal.any(0))
        assert not (each.visible & ~each.amodal & 1).any() and not (each.front & each.modal).any()
        for k in range(count):
            over = each.amodal[:k].any(0) & (each.amodal[k] > 0)
            assert bool(each.front[k].any()) or not over.any()
            for other in range(k):
                if each.layer[k] == each.layer[other]:
                    assert not (each.amodal[k] & each.amodal[other]).any()


def inputs(pictures: int, things: list[int]) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    scene = torch.tensor(things)
    masks = (torch.rand(2, len(things), 1, 64, 96) > 0.8).float()
    return torch.rand(pictures, 3, 64, 96), masks[0], masks[1], scene


@torch.no_grad()
def test_pictures_do_not_disturb_each_other_and_order_of_things_does_not_matter() -> None:
    net = build_parallel().eval()
    image, modal, front, scene = inputs(2, [0, 1, 1, 0, 1])
    together = net(image, modal, front, scene)
    assert together.shape == modal.shape
    mine = scene == 1
    alone = net(image[1:], modal[mine], front[mine], torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(together[mine], alone, atol=2e-4, rtol=0)
    turn = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(
        net(image, modal[turn], front[turn], scene[turn]), together[turn], atol=2e-4, rtol=0
    )


def test_it_learns_to_complete_the_things_of_a_picture_together() -> None:
    torch.manual_seed(3)
    net = build_parallel()
    each = draw_ensemble(WHOLES, by_kind(WHOLES), np.random.default_rng(2))
    # Half the size: it is quicker.
    image = torch.from_numpy(each.rgb[::2, ::2].transpose(2, 0, 1)[None] / np.float32(255))
    modal, front, amodal = (
        torch.from_numpy(part[:, None, ::2, ::2]).float() for part in (each.modal, each.front, each.amodal)
    )
    scene = torch.zeros(len(modal), dtype=torch.int64)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)

    def overlap(mask: torch.Tensor) -> float:
        return float((mask & (amodal > 0)).sum() / (mask | (amodal > 0)).sum())

    for _ in range(30):
        said = net(image, modal, front, scene)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(said, amodal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert overlap(said > 0) > overlap(modal > 0) + 0.03


def test_no_picture_can_be_made_of_one_thing() -> None:
    lonely = [Whole("one", "person", WHOLES[0].rgb, np.zeros_like(WHOLES[0].mask))]
    with pytest.raises(ValueError, match="before each other"):
        draw_ensemble(lonely, by_kind(lonely), np.random.default_rng(0))
