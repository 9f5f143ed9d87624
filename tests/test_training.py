"""Training: data as laid out on disk, targets of a view, and a tiny run that learns and resumes."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from models.segmentator import CompactTrunk, build_segmentator, fold_norms
from models.training import segmentator as program
from models.training.data import read_collection
from models.training.loop import Journal, cosine, load_checkpoint, read_weights, recipe_text, save_checkpoint
from models.training.losses import OTHERS, Batch, resolve_hints, teacher_at_stride_4, teacher_loss
from models.training.mimicry import Scorer, fill_cache, train_block
from models.training.muon import Muon, muon_groups, orthogonal
from models.training.parallel import Workers
from models.training.precision import widen_depthwise
from models.training.scores import average_precision, score_pictures
from models.training.taught import read_taught, taught_path, teach
from models.training.teacher import VOC_CLASSES, DeeplabTeacher
from models.training.views import ViewMaker, read_cutouts
from models.training.walk import settle, walk
from stream.commands import app
from stream.errors import UsageError


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Drawn pictures: a red bar is a person, a blue block a car (known by its box only), grey ground."""
    root = tmp_path_factory.mktemp("data")
    (root / "coco" / "images").mkdir(parents=True)
    (root / "people" / "images").mkdir(parents=True)
    (root / "people" / "masks").mkdir(parents=True)
    random = np.random.default_rng(0)
    images, notes = [], []
    for number in range(12):
        picture = np.full((96, 128, 3), 120, np.uint8)
        x, y = int(random.integers(8, 50)), int(random.integers(5, 30))
        cv2.rectangle(picture, (x, y), (x + 15, y + 55), (30, 30, 220), -1)
        cv2.rectangle(picture, (80, 50), (120, 80), (220, 60, 20), -1)
        cv2.imwrite(str(root / "coco" / "images" / f"{number:012d}.jpg"), picture)
        kind = "full" if number < 8 else "partial"
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "labels": kind})
        outline = [[x, y, x + 15, y, x + 15, y + 55, x, y + 55]]
        block = [[80, 50, 120, 50, 120, 80, 80, 80]] if kind == "full" else []
        notes.append(_note(number, 1, (x, y, 15, 55), outline))
        notes.append(_note(number, 3, (80, 50, 40, 30), block))
        mask = np.zeros((96, 128), np.uint8)
        cv2.rectangle(mask, (x, y), (x + 15, y + 55), 255, -1)
        cv2.imwrite(str(root / "people" / "images" / f"selfie_{number}.jpg"), picture)
        cv2.imwrite(str(root / "people" / "masks" / f"selfie_{number}.png"), mask)
    categories = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    text = json.dumps({"images": images, "annotations": notes, "categories": categories})
    (root / "coco" / "annotations.json").write_text(text)
    return root


def _note(image, category, box, outline):
    return {"image_id": image, "category_id": category, "bbox": box, "segmentation": outline}


def tiny(**changes):
    """A recipe of seconds, on labels alone."""
    settings = {
        "teacher": "", "side": 64, "batch": 2, "heads_steps": 6, "joint_steps": 6, "threads": 1,
        "score_every": 4, "save_every": 4, "log_every": 1, "score_pictures": 2, "longest": 96,
        "score_sizes": (128,), "heads_rate": 2e-2,
    }  # fmt: skip
    return program.Recipe(**{**settings, **changes})


def test_set_aside_pictures_are_not_trained_on(data):
    collection = read_collection(data)
    kept = {p.image for p in collection.training}
    held = {p.image for p in (*collection.held_coco, *collection.held_people)}
    choosing = {p.image for p in (*collection.choosing_coco, *collection.choosing_people)}
    aside = held | choosing
    assert len(collection.held_coco) == 2 and len(collection.held_people) == 3
    assert choosing and not held & choosing
    assert not kept & aside and len(kept) + len(aside) == 24
    assert held == {p.image for p in read_collection(data).held_coco + read_collection(data).held_people}


def test_photographs_nothing_is_known_of_are_shown_to_the_teacher_alone(data, tmp_path):
    for part in ("coco", "people"):
        (tmp_path / part).symlink_to(data / part)
    (tmp_path / "more").mkdir()
    white = np.full((80, 80, 3), 255, np.uint8)
    cv2.imwrite(str(tmp_path / "more" / "white.jpg"), white)
    before, after = read_collection(data), read_collection(tmp_path)
    assert len(after.training) == len(before.training) + 1
    assert len(after.held_coco) == len(before.held_coco)
    (added,) = (p for p in after.training if p.kind == "plain")
    assert added.image.name == "white.jpg" and not added.things
    cache = fill_cache(
        tmp_path / "cache", DrawnTeacher(), after.training, count=64, side=64, seed=0, workers=1
    )
    assert any(crop.min() > 250 for crop in cache.image)


def test_folder_without_pictures_says_what_is_wanted(tmp_path):
    with pytest.raises(ValueError, match=r"docs/training\.md"):
        read_collection(tmp_path)


def test_view_knows_the_outline_the_box_and_the_centre(data):
    pictures = [p for p in read_collection(data).training if p.kind == "partial"]
    maker = ViewMaker(((1.0, tuple(pictures)),), (), 128, (128, 128), pasted=0, mosaic=0)
    view = maker(np.random.default_rng(3))
    person, unknown = view.label == 1, view.hint == 3
    assert 40 < person.sum() < 75 and 60 < unknown.sum() < 95
    assert (view.label[unknown] == 255).all()
    ys, xs = np.nonzero(person)
    centres_y, centres_x = ys + view.offset[0, ys, xs], xs + view.offset[1, ys, xs]
    assert np.ptp(centres_y) < 0.01 and np.ptp(centres_x) < 0.01
    assert view.heat[round(centres_y[0]), round(centres_x[0])] > 0.9
    assert (view.heat == 1).sum() == 2  # the car's centre is known from its box


def test_pasted_things_are_labelled_where_they_lie(data):
    collection = read_collection(data)
    cutouts = read_cutouts(data / "none", collection.training, ())
    assert cutouts == []  # the drawn things are too small to be worth pasting
    bare = ViewMaker(((1.0, collection.training),), (), 64, (96, 96), pasted=0, mosaic=1)
    view = bare(np.random.default_rng(0))
    assert view.image.shape == (64, 64, 3) and view.offset.shape == (2, 16, 16)


def test_teacher_cuts_a_box_into_a_mask(data):
    pictures = [p for p in read_collection(data).training if p.kind == "partial"]
    maker = ViewMaker(((1.0, tuple(pictures)),), (), 128, (128, 128), pasted=0, mosaic=0)
    batch = Batch.of([maker(np.random.default_rng(3))], torch.device("cpu"))
    bus_everywhere = torch.full((1, 32, 32), 6)
    label, _, weight = resolve_hints(batch, bus_everywhere)
    assert (label[batch.hint == 3] == 3).all()  # a car the teacher takes for a bus is a car
    assert (weight[batch.hint == 3] > 0).all()
    person_everywhere = torch.full((1, 32, 32), 1)
    label, _, _ = resolve_hints(batch, person_everywhere)
    assert (label[batch.hint == 3] == 255).all()


def test_teacher_background_stands_for_all_it_does_not_know():
    logits = torch.full((1, 81, 4, 4), -30.0)
    scores = torch.full((1, 21, 4, 4), -30.0)
    scores[:, 0] = 0.0
    label = torch.full((1, 4, 4), 255)
    giraffe = 24
    assert giraffe in OTHERS and 1 not in OTHERS and len(OTHERS) + len(VOC_CLASSES) == 82
    logits[:, giraffe] = 0.0
    everywhere = torch.ones(1, 4, 4)
    assert float(teacher_loss(logits, scores, label, everywhere)) < 1e-3
    logits[:, giraffe], logits[:, 1] = -30.0, 0.0
    assert float(teacher_loss(logits, scores, label, everywhere)) > 10
    assert float(teacher_loss(logits, scores, label, 0 * everywhere)) == 0


def test_teacher_scores_keep_their_place():
    scores = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 21, 8, 8)
    wide = teacher_at_stride_4(scores, (32, 32))
    at = (torch.arange(28) * 4 + 1.5) / 16
    torch.testing.assert_close(wide[0, 0, 5, :28], at)


def test_teacher_refuses_another_file(tmp_path):
    (tmp_path / "teacher.tflite").write_bytes(b"\x00" * 64)
    with pytest.raises(ValueError, match="TFL3"):
        DeeplabTeacher(tmp_path / "teacher.tflite")


class DrawnTeacher:
    """Gives the trunk's joints as fixed mixes of the picture's mean colours."""

    channels = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320, 21)
    strides = (2, 4, 4, 8, 8, 8) + (16,) * 12

    def __init__(self):
        random = torch.Generator().manual_seed(0)
        self.mixes = [torch.randn(c, 3, 1, 1, generator=random) for c in self.channels]
        self.taps = list(range(18))
        self.ranges = [(0.05, 128.0)] * 18

    def __call__(self, image, *, taps=()):
        def tap(k):
            small = torch.nn.functional.avg_pool2d(image / 128 - 1, self.strides[k])
            return torch.nn.functional.conv2d(small, self.mixes[k])

        return tap(17), [tap(k) for k in taps]


def test_blocks_learn_from_a_teacher_and_are_strung_together(data, tmp_path):
    torch.manual_seed(0)
    pictures = read_collection(data).training
    cache = fill_cache(tmp_path / "cache", DrawnTeacher(), pictures, count=24, side=64, seed=0, workers=1)
    assert (cache.count, cache.image.shape, cache.scores.shape) == (24, (24, 64, 64, 3), (24, 21, 4, 4))
    trunk = CompactTrunk(norm=True)
    error = train_block(trunk.blocks[0], 0, cache, steps=60, batch=4, rate=1e-2, seed=0)
    assert error < 0.3
    lines = []
    journal = Journal(tmp_path / "journal.jsonl", lines.append)
    walk(trunk, cache, tmp_path, crops=16, steps=2, seed=0, journal=journal)
    steps = [line for line in journal.read() if line["stage"] == "walk"]
    assert [line["block"] for line in steps] == list(range(16))
    assert all(line["after"] <= line["before"] for line in steps)


def test_settling_brings_the_joints_nearer_to_the_teacher_and_resumes(data, tmp_path):
    torch.manual_seed(0)
    pictures = read_collection(data).training
    cache = fill_cache(tmp_path / "cache", DrawnTeacher(), pictures, count=24, side=64, seed=0, workers=1)
    student = build_segmentator(norm=True).eval()
    fold_norms(student)
    trunk, scorer = student.trunk, Scorer(student.aspp, 160)
    journal = Journal(tmp_path / "journal.jsonl", str)

    def run(steps: int) -> list[list[float]]:
        settle(
            trunk, scorer, cache, steps=steps, batch=4, rate=2e-2, seed=0, workers=2, journal=journal,
            checkpoint=tmp_path / "settle.pt",
        )  # fmt: skip
        return [line["errors"] for line in journal.read()]

    run(1)
    errors = run(40)
    assert len(errors[-1]) == 17
    assert sum(errors[-1][:16]) < 0.95 * sum(errors[0][:16])
    assert load_checkpoint(tmp_path / "settle.pt")["step"] == 40


def test_settling_late_blocks_leaves_the_first_as_they_are(data, tmp_path):
    torch.manual_seed(0)
    pictures = read_collection(data).training
    cache = fill_cache(tmp_path / "cache", DrawnTeacher(), pictures, count=24, side=64, seed=0, workers=1)
    student = build_segmentator(norm=True).eval()
    fold_norms(student)
    trunk, scorer = student.trunk, Scorer(student.aspp, 160)
    journal = Journal(tmp_path / "journal.jsonl", str)
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    settle(
        trunk, scorer, cache, steps=50, batch=4, rate=2e-2, seed=0, workers=2, journal=journal,
        checkpoint=tmp_path / "settle.pt", first=5,
    )  # fmt: skip
    moved = {int(k.split(".")[1]) for k, v in trunk.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == set(range(5, 16))
    errors = [line["errors"] for line in journal.read()]
    assert len(errors[-1]) == 12
    assert sum(errors[-1][:11]) < sum(errors[0][:11])


def test_orthogonal_momentum_solves_what_is_badly_scaled():
    values = torch.linalg.svdvals(orthogonal(torch.randn(12, 40, generator=torch.manual_seed(0))))
    assert float(values.min()) > 0.5 and float(values.max()) < 1.5

    def fit(make):
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(16, 16, 1)
        x = torch.randn(64, 16, 1, 1) * torch.logspace(0, -2, 16).view(1, 16, 1, 1)
        target = torch.nn.functional.conv2d(x, torch.randn(16, 16, 1, 1))
        optimizer = make(layer)
        for step in range(120):
            for group in optimizer.param_groups:
                group["lr"] = group.get("share", 1.0) * cosine(step, 120, 0.2)
            optimizer.zero_grad()
            ((layer(x) - target).square() / target.var(0)).mean().backward()
            optimizer.step()
        return float((layer(x) - target).detach().square().mean() / target.var())

    plain = fit(lambda layer: torch.optim.SGD(layer.parameters(), lr=0.2))
    assert fit(lambda layer: Muon(muon_groups(layer))) < 0.7 * plain


def test_threads_add_up_to_the_gradient_of_the_whole():
    torch.manual_seed(0)
    layer, x = torch.nn.Conv2d(3, 4, 3), torch.randn(6, 3, 8, 8)
    layer(x).square().mean().backward()
    whole = layer.weight.grad.clone()
    layer.zero_grad()

    def run(module, part):
        loss = module(part).square().mean()
        loss.backward()
        return float(loss.detach())

    team = Workers(layer, 3, run)
    first = team(list(x.split(2)))
    torch.testing.assert_close(layer.weight.grad, whole)
    with torch.no_grad():
        layer.weight.mul_(0.5)  # all threads see the new weights
    layer.zero_grad()
    assert np.mean(team(list(x.split(2)))) < np.mean(first)


def test_lower_precision_keeps_wide_what_would_be_slow():
    torch.manual_seed(0)
    trunk = CompactTrunk(norm=False)
    x = torch.rand(1, 3, 64, 64)
    exact = trunk(x)[-1].detach()
    widen_depthwise(trunk)
    torch.testing.assert_close(trunk(x)[-1].detach(), exact)
    with torch.autocast("cpu", torch.bfloat16):
        near = trunk(x)[-1].detach()
    assert near.dtype == torch.bfloat16
    assert float((near.float() - exact).abs().mean() / exact.abs().mean()) < 0.1


class Seer(DrawnTeacher):
    """Takes every red pixel for a person and every blue one for a bus."""

    def __call__(self, image, **_):
        small = torch.nn.functional.avg_pool2d(image, 16)
        scores = torch.zeros(len(image), 21, *small.shape[2:])
        scores[:, 0] = 4
        scores[:, VOC_CLASSES.index(1)] = 9.0 * (small[:, 0] - small[:, 2] > 60)
        scores[:, VOC_CLASSES.index(6)] = 9.0 * (small[:, 2] - small[:, 0] > 60)
        return scores, []


def test_teachers_word_is_kept_where_the_boxes_allow_it(data, tmp_path):
    picture = next(p for p in read_collection(data).training if p.kind == "full")
    teach(tmp_path, Seer(), [picture], workers=1)
    found = read_taught(taught_path(tmp_path, picture))
    assert found.shape == (21, 12, 16)
    np.testing.assert_allclose(np.exp(found).sum(0), 1, atol=0.15)
    best = np.array(VOC_CLASSES)[found.argmax(0)]
    assert best[8, 12] == 3 and not (best == 6).any()  # the box says that the bus is a car
    x0, y0, x1, y1 = next(t.box for t in picture.things if t.label == 1)
    assert best[int(y0 + y1) // 16, int(x0 + x1) // 16] == 1
    maker = ViewMaker(((1.0, (picture,)),), (), 128, (128, 128), pasted=0, mosaic=0, taught=tmp_path)
    for seed in range(4):  # mirrored ones among them
        view = maker(np.random.default_rng(seed))
        sure = view.taught_known & (view.label == 1)
        assert (view.taught[VOC_CLASSES.index(1)][sure] > np.log(0.2)).mean() > 0.6


def test_average_precision_of_known_lists():
    assert average_precision([(0.9, True), (0.8, True)], 2) == 1.0
    assert average_precision([(0.9, True), (0.8, False), (0.7, True)], 2) == pytest.approx(5 / 6)
    assert average_precision([], 3) == 0.0


def test_scores_of_a_perfect_answer(data):
    held = read_collection(data).held_coco

    def perfect(image):
        height, width = image.shape[0] // 4, image.shape[1] // 4
        logits = np.full((81, height, width), -9, np.float32)
        small = image[2::4, 2::4].astype(int)
        logits[0] = 0
        logits[1][small[..., 0] > 180] = 9
        logits[3][small[..., 2] > 180] = 9
        return logits, np.full((1, height, width), -9, np.float32), np.zeros((2, height, width), np.float32)

    scores = score_pictures(perfect, held, 512)
    assert scores["person"] > 0.9 and scores["car"] > 0.9
    assert scores["ap50"] == 1.0 and scores["recall50"] == 1.0


def test_rate_rises_and_falls():
    rates = [cosine(step, 100, 1.0, warm=10) for step in range(101)]
    assert rates[0] == 0.1 and max(rates) == 1.0 and rates[-1] == 0.0
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_half_written_checkpoint_is_no_checkpoint(tmp_path):
    path = tmp_path / "a.pt"
    assert load_checkpoint(path) is None
    save_checkpoint(path, {"step": 3, "x": torch.ones(2)})
    (tmp_path / "a.pt.partial").write_bytes(b"half")
    state = load_checkpoint(path)
    assert state is not None and state["step"] == 3


def test_training_learns_and_resumes_to_the_same_weights(data, tmp_path):
    heard: list[str] = []
    whole = program.train(data, tmp_path / "whole", tiny(heads_steps=20), log=heard.append)
    journal = Journal(tmp_path / "whole" / "journal.jsonl", heard.append)
    labels = [line["label"] for line in journal.read() if "label" in line]
    assert np.mean(labels[-4:]) < 0.9 * np.mean(labels[:4])
    assert any("person_128" in line for line in journal.read())

    def interrupt(text: str) -> None:
        if text.startswith("stage joint step 5"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        program.train(data, tmp_path / "broken", tiny(heads_steps=20), log=interrupt)
    assert not list((tmp_path / "broken").glob("segmentator-compact.safetensors"))
    resumed = program.train(data, tmp_path / "broken", tiny(heads_steps=20), log=heard.append)
    ours, theirs = read_weights(whole), read_weights(resumed)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-4)


def test_written_weights_start_another_run_and_say_where_they_come_from(data, tmp_path):
    first = program.train(data, tmp_path / "a", tiny(heads_steps=2, joint_steps=2), log=str)
    build_segmentator().load_state_dict(read_weights(first))
    with safe_open(first, framework="pt") as file:
        facts = file.metadata()
    assert facts["model"] == "segmentator" and "heads_steps" in facts["recipe"]
    recipe = tiny(start=str(first), joint_steps=2)
    second = program.train(data, tmp_path / "b", recipe, log=str)
    assert read_weights(second).keys() == read_weights(first).keys()


def test_cached_crops_are_rehearsed_beside_the_views(data, tmp_path):
    pictures = read_collection(data).training
    fill_cache(tmp_path / "cache", DrawnTeacher(), pictures, count=8, side=64, seed=0, workers=1)
    recipe = tiny(heads_steps=2, joint_steps=3, threads=2, rehearsed=2)
    program.train(data, tmp_path, recipe, log=str)
    lines = Journal(tmp_path / "journal.jsonl", str).read()
    assert all(("joints" in line) == (line["stage"] == "joint") for line in lines if "label" in line)


def test_missing_teacher_is_named(data, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.tflite"):
        program.train(data, tmp_path, tiny(teacher="nowhere.tflite"), log=str)


@pytest.mark.parametrize("value", ["quick", "[1, 2]"])
def test_recipe_values_of_another_kind_are_refused(tmp_path, value):
    done = CliRunner().invoke(app, ["train", "inpainter", "--data", str(tmp_path), "--set", f"rate={value}"])
    assert isinstance(done.exception, UsageError)
    assert "rate" in str(done.exception)


def test_weights_do_not_tell_where_files_lay(tmp_path):
    told = recipe_text(program.Recipe(start=str(tmp_path / "before.safetensors"), seed=3))
    assert "before.safetensors" in told and str(tmp_path) not in told and "'seed': 3" in told
