"""The segmentator: its maps, its two sizes, and how its maps become single things."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.instances import group_instances
from models.labels import STUFF_NAMES, THING_NAMES
from models.segmentator import (
    ConvNorm,
    ResNetTrunk,
    build_segmentator,
    fold_norms,
    load_torchvision_trunk,
)

PERSON, BICYCLE, CAR, TRUCK = 1, 2, 3, 8


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def drawn_maps(height: int = 48, width: int = 64):
    """Maps of an empty picture."""
    logits = np.zeros((81, height, width), np.float32)
    logits[0] = 6
    centre = np.full((1, height, width), -6, np.float32)
    return logits, centre, np.zeros((2, height, width), np.float32)


def draw_thing(maps, label, top, left, height, width, *, heat=3.0):
    """Paint a rectangle of a class with its centre (unless heat is None) and its offsets."""
    logits, centre, offset = maps
    rows, columns = slice(top, top + height), slice(left, left + width)
    logits[label, rows, columns] = 12
    ys, xs = np.mgrid[rows, columns]
    cy, cx = top + height // 2, left + width // 2
    offset[0, rows, columns], offset[1, rows, columns] = cy - ys, cx - xs
    if heat is not None:
        centre[0, cy, cx] = heat


def test_labels_are_cocos():
    assert (len(THING_NAMES), len(STUFF_NAMES)) == (80, 91)
    assert THING_NAMES[0] == "person" and THING_NAMES[-1] == "toothbrush"
    assert not set(THING_NAMES) & set(STUFF_NAMES)


def test_outputs_are_at_stride_4():
    network = build_segmentator().eval()
    with torch.no_grad():
        out = network(torch.rand(2, 3, 64, 96))
    assert out.logits.shape == (2, 81, 16, 24)
    assert out.centre.shape == (2, 1, 16, 24)
    assert out.offset.shape == (2, 2, 16, 24)
    assert all(map.dtype == torch.float32 and bool(map.isfinite().all()) for map in out)


def test_one_picture_does_not_change_the_next():
    network = build_segmentator().eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = network(image).logits
        network(torch.rand(1, 3, 64, 64))
        after = network(image).logits
    assert torch.equal(before, after)


def test_exported_graph_gives_the_same_maps():
    network = build_segmentator().eval()
    image = torch.rand(1, 3, 64, 96)
    exported = torch.export.export(network, (image,)).module()
    with torch.no_grad():
        for ours, theirs in zip(network(image), exported(image), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_folding_norms_keeps_the_maps():
    network = build_segmentator(norm=True).eval()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = network(image)
        fold_norms(network)
        after = network(image)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())
    for ours, theirs in zip(before, after, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    build_segmentator().load_state_dict(network.state_dict())


def test_unknown_variant_names_the_known_ones():
    with pytest.raises(ValueError, match=r"compact.*paper"):
        build_segmentator(variant="huge")  # type: ignore[arg-type]


def test_paper_trunk_takes_torchvisions_names():
    torch.manual_seed(1)
    trunk = ResNetTrunk().state_dict()
    public = {f"backbone.{name}": value for name, value in trunk.items()}
    public["classifier.4.weight"] = torch.zeros(21, 256, 1, 1)
    network = build_segmentator(variant="paper")
    assert load_torchvision_trunk(network, public) == len(trunk)
    assert torch.equal(network.trunk.state_dict()["layer3.22.conv2.weight"], trunk["layer3.22.conv2.weight"])
    # The names a torchvision file is known to have.
    for name in ("conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer4.2.bn3.bias"):
        assert name in trunk


def test_paper_trunk_refuses_another_network():
    network = build_segmentator(variant="paper")
    with pytest.raises(ValueError, match=r"conv1\.weight"):
        load_torchvision_trunk(network, {})
    with pytest.raises(ValueError, match="paper"):
        load_torchvision_trunk(build_segmentator(), {})


def test_conv_block_keeps_size_at_stride_1():
    block = ConvNorm(4, 4, 5, dilation=2, groups=4, norm=False)
    assert block(torch.zeros(1, 4, 9, 11)).shape == (1, 4, 9, 11)


def test_empty_picture_has_no_things():
    assert group_instances(*drawn_maps()) == ()


def test_two_touching_people_are_two_things():
    maps = drawn_maps()
    draw_thing(maps, PERSON, 10, 20, 24, 9)
    draw_thing(maps, PERSON, 12, 29, 24, 9)
    found = group_instances(*maps)
    assert [thing.label for thing in found] == [0, 0]
    boxes = sorted(thing.box for thing in found)
    assert boxes == [(80, 40, 116, 136), (116, 48, 152, 144)]
    assert not (found[0].mask & found[1].mask).any()
    assert all(thing.score > 0.9 for thing in found)


def test_region_without_a_centre_is_kept():
    maps = drawn_maps()
    draw_thing(maps, PERSON, 5, 5, 20, 8, heat=None)
    draw_thing(maps, CAR, 30, 30, 10, 20)
    found = {thing.label: thing for thing in group_instances(*maps)}
    assert set(found) == {0, 2}
    assert found[0].mask.sum() == 160
    assert found[0].score < found[2].score


def test_a_far_offset_does_not_join_another_thing():
    maps = drawn_maps()
    draw_thing(maps, PERSON, 4, 4, 16, 8)
    draw_thing(maps, PERSON, 28, 50, 16, 8, heat=None)
    assert len(group_instances(*maps)) == 2


def test_rider_and_bicycle_sharing_a_centre_are_two_things():
    maps = drawn_maps()
    draw_thing(maps, PERSON, 8, 20, 14, 12)
    draw_thing(maps, BICYCLE, 22, 18, 12, 16, heat=None)
    offset = maps[2]
    ys, xs = np.mgrid[22:34, 18:34]
    offset[0, 22:34, 18:34], offset[1, 22:34, 18:34] = 15 - ys, 26 - xs
    assert sorted(thing.label for thing in group_instances(*maps)) == [0, 1]


def test_two_centres_on_one_person_are_one_thing():
    maps = drawn_maps()
    draw_thing(maps, PERSON, 8, 20, 30, 10, heat=None)
    maps[1][0, 14, 25], maps[1][0, 31, 25] = 1.0, 1.2  # a weak map: one on the chest, one on the knees
    found = group_instances(*maps)
    assert [thing.box for thing in found] == [(80, 32, 120, 152)]
    assert len(group_instances(*maps, agreement=2.0)) == 2


def test_specks_are_dropped_and_the_class_is_voted():
    maps = drawn_maps()
    draw_thing(maps, PERSON, 40, 60, 2, 2)
    draw_thing(maps, TRUCK, 10, 10, 12, 20)
    maps[0][:, 10:14, 10:30] = drawn_maps()[0][:, 10:14, 10:30]
    maps[0][CAR, 10:14, 10:30] = 12  # a third of the truck looks like a car
    found = group_instances(*maps, smallest=8)
    assert [THING_NAMES[thing.label] for thing in found] == ["truck"]
    assert found[0].mask.sum() == 240
    assert len(group_instances(*maps, smallest=1)) == 2


def test_maps_that_do_not_fit_are_refused():
    logits, centre, offset = drawn_maps()
    with pytest.raises(ValueError, match="maps do not fit"):
        group_instances(logits, centre[:, :-1], offset)
