"""Other pictures of the place fill what a clip never saw, when they fit; what became of each is told."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import Clip, make
from shots import frame, psnr, texture

import stream
from configs.schema import load_config
from stream import fill, hole, motion, plate
from stream.elsewhere import Elsewhere
from stream.errors import InputError
from stream.places import Picture, keep
from stream.references import MOST_PICTURES, find_references, read_references
from stream.source import open_source
from stream.types import INVENTED, REFERENCE, Filled, Image, Mask

SIZE = (320, 180)
NOTHING = np.zeros((90, 160), np.uint16)


def place(number: int, shift: float = 0.0) -> Image:
    big = texture(440, 260, number)
    view = np.array([[1, 0, -40 - shift], [0, 1, -30]])
    return np.asarray(cv2.warpAffine(big, view, SIZE, flags=cv2.INTER_CUBIC), np.uint8)


def photograph(number: int, *, seed: int = 0, gain: tuple[float, float, float] = (1.2, 1.1, 0.9)) -> Image:
    """The same place by another camera: from a little aside, exposed otherwise, darker to the corners."""
    w, h = 400, 300
    big = texture(440, 260, number)
    chance = np.random.default_rng(seed)
    corners = np.array([[20, 10], [400, 15], [405, 240], [25, 235]], np.float32)
    corners += chance.uniform(-8, 8, (4, 2)).astype(np.float32)
    target = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    seen = cv2.warpPerspective(
        big, cv2.getPerspectiveTransform(corners, target), (w, h), flags=cv2.INTER_CUBIC
    ).astype(np.float32)
    y, x = np.mgrid[0:h, 0:w]
    dim = 1 - 0.25 * (((x - w / 2) / w) ** 2 + ((y - h / 2) / h) ** 2)
    seen = seen * np.array(gain, np.float32) * dim[..., None].astype(np.float32)
    return np.clip(seen + chance.normal(0, 1.5, seen.shape), 0, 255).astype(np.uint8)


def in_the_way() -> Mask:
    mask = np.zeros((180, 320), bool)
    mask[50:130, 130:200] = True
    return mask


CORE = cv2.erode(in_the_way().astype(np.uint8), np.ones((5, 5))) > 0


def picture(rgb: Image, file: str = "photo.jpg") -> Picture:
    return keep(rgb, np.zeros((rgb.shape[0] // 4, rgb.shape[1] // 4), np.uint16), file=file)


def fill_all(truth: list[Image], references: list[Picture]) -> tuple[list[Filled], Elsewhere]:
    """Fill a hole that stays at the same place of the picture in every frame."""
    config, mask = load_config("tourist"), in_the_way()
    elsewhere = Elsewhere(0, references)
    state, known, done = motion.initial(), plate.initial(config.plate), []
    for index, clean in enumerate(truth):
        seen = clean.copy()
        seen[mask] = (30, 220, 40)
        shown = frame(seen, index)
        moved, state = motion.step(state, shown, mask)
        known = plate.observe(known, shown, moved, NOTHING, mask)
        wanted = hole.from_mask(mask)
        filled, known = fill.fill(shown, wanted, known, moved, (), None, config, elsewhere, 0)
        done.append(filled)
    return done, elsewhere


def test_a_photograph_from_aside_and_exposed_otherwise_fills_what_was_never_seen() -> None:
    truth = [place(1)] * 8
    done, elsewhere = fill_all(truth, [picture(photograph(1))])
    blind, _ = fill_all(truth, [])
    ours = psnr(done[-1].frame.planes[0], truth[-1], CORE)
    assert ours > 30
    assert ours > psnr(blind[-1].frame.planes[0], truth[-1], CORE) + 10
    assert np.count_nonzero(done[-1].origin == REFERENCE) > 0.9 * in_the_way().sum()
    assert not np.any(blind[-1].origin == REFERENCE)
    [told] = elsewhere.told()
    assert told.used and told.pixels > 0


def test_it_stays_in_place_while_the_camera_moves_and_does_not_flicker() -> None:
    # The hole goes with the picture and the camera to and fro by less than the hole: most is never seen.
    truth = [place(2, 4 * np.sin(t / 6)) for t in range(40)]
    done, _ = fill_all(truth, [picture(photograph(2))])
    values = [psnr(filled.frame.planes[0], clean, CORE) for filled, clean in zip(done, truth, strict=True)]
    assert min(values) > 28
    assert all(np.any(filled.origin == REFERENCE) for filled in done)
    ours, theirs = (
        np.mean([np.abs(a[CORE].astype(int) - b[CORE]).mean() for a, b in zip(s[1:], s[:-1], strict=True)])
        for s in ([filled.frame.planes[0] for filled in done], truth)
    )
    assert ours < theirs + 1.5


def test_an_unrelated_photograph_is_refused() -> None:
    done, elsewhere = fill_all([place(3)] * 3, [picture(photograph(4))])
    assert not np.any(done[-1].origin == REFERENCE)
    [told] = elsewhere.told()
    assert not told.used and told.pixels == 0 and "another place" in told.reason


def test_a_reference_with_something_large_in_the_way_is_refused() -> None:
    changed = photograph(5)
    changed[60:240, 130:280] = (240, 30, 200)
    done, elsewhere = fill_all([place(5)] * 3, [picture(changed)])
    assert not np.any(done[-1].origin == REFERENCE)
    [told] = elsewhere.told()
    assert not told.used and "around the hole" in told.reason


def test_what_one_reference_shows_alone_is_outvoted() -> None:
    # One of three has a thing amid the hole, where no rim can tell.
    odd = photograph(6, seed=1)
    odd[130:170, 190:230] = (250, 250, 0)
    pictures = [picture(photograph(6, seed=s), f"{s}.jpg") for s in (2, 3)]
    done, _ = fill_all([place(6)] * 2, [picture(odd, "odd.jpg"), *pictures])
    assert psnr(done[-1].frame.planes[0], place(6), CORE) > 28


def test_who_stands_in_a_reference_is_not_copied() -> None:
    stands = photograph(7)
    stands[100:160, 170:220] = (250, 250, 0)
    covered = np.zeros((300, 400), np.uint16)
    covered[95:165, 165:225] = 65535
    done, _ = fill_all([place(7)] * 2, [keep(stands, covered, file="a.jpg")])
    origin = done[-1].origin
    assert np.any(origin == REFERENCE) and np.any(origin == INVENTED)
    apart = np.abs(done[-1].frame.planes[0][CORE].astype(int) - (250, 250, 0)).max(axis=1)
    assert apart.min() > 40


def test_a_reference_that_is_not_needed_is_said_to_be_so() -> None:
    elsewhere = Elsewhere(0, [picture(photograph(8))])
    [told] = elsewhere.told()
    assert not told.used and told.reason.startswith("not needed")


@pytest.fixture(scope="module")
def holiday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with its mask, and a folder with what a user may have of the place."""
    folder = tmp_path_factory.mktemp("holiday")
    mask = in_the_way()
    (folder / "masks").mkdir()
    with av.open(str(folder / "clip.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"qp": "4", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv444p"
        for index in range(6):
            seen = place(1).copy()
            seen[mask] = (30, 220, 40)
            container.mux(video.encode(av.VideoFrame.from_ndarray(seen, format="rgb24")))
            cv2.imwrite(str(folder / "masks" / f"{index:03}.png"), mask.astype(np.uint8) * 255)
        container.mux(video.encode())
    others = folder / "others"
    others.mkdir()
    cv2.imwrite(str(others / "empty.png"), photograph(1)[..., ::-1])
    cv2.imwrite(str(others / "beach.jpg"), photograph(9)[..., ::-1])
    (others / "broken.jpg").write_text("no picture")
    (others / "notes.txt").write_text("not asked for")
    make(others / "dance.mp4", Clip(seed=4))
    return folder


def test_from_folder_to_report(holiday: Path, tmp_path: Path) -> None:
    job = stream.Job(
        masks=holiday / "masks",
        references=holiday / "others",
        lossless=True,
        provenance=tmp_path / "origin.mkv",
    )
    report = stream.clean(holiday / "clip.mp4", tmp_path / "out.mp4", job=job)
    with open_source(tmp_path / "out.mp4") as source:
        shown = [each.rgb for each in source]
    assert psnr(shown[3], place(1), CORE) > 28
    with open_source(tmp_path / "origin.mkv") as source:
        origin = [np.asarray(each.planes[0]) for each in source]
    assert np.mean(origin[3][CORE] == REFERENCE) > 0.9
    told = json.loads(report.to_json())
    by_name = {each["file"]: each for each in told["references"]}
    assert sorted(by_name) == ["beach.jpg", "broken.jpg", "dance.mp4", "empty.png"]
    assert by_name["empty.png"]["used"]
    assert by_name["empty.png"]["share"] == pytest.approx(told["hole"]["reference_share"], abs=1e-5)
    assert told["hole"]["reference_share"] > 0.8
    assert not any(by_name[name]["used"] or by_name[name]["share"] for name in ("beach.jpg", "broken.jpg"))
    assert all(by_name[name]["reason"] for name in by_name)
    assert any("broken.jpg" in line for line in told["warnings"])


@pytest.mark.parametrize("what", ["missing", "empty", "file", "only broken"])
def test_references_that_cannot_be_had_are_one_clear_error(holiday: Path, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "others"
    if what == "file":
        folder = holiday / "others" / "empty.png"
    elif what != "missing":
        folder.mkdir()
        (folder / "notes.txt").write_text("words")
    if what == "only broken":
        (folder / "photo.jpg").write_text("words")
    with pytest.raises(InputError) as caught:
        stream.clean(holiday / "clip.mp4", tmp_path / "out.mp4", job=stream.Job(references=folder))
    assert caught.value.exit_code == 3
    assert str(folder) in str(caught.value)
    assert not (tmp_path / "out.mp4").exists()


def test_clips_give_spread_sharp_frames_and_the_clip_itself_is_no_reference(tmp_path: Path) -> None:
    make(tmp_path / "own.mp4")
    ticks = tuple(512 * i for i in range(100))
    make(tmp_path / "long.mp4", Clip(ticks=ticks))
    with open_source(tmp_path / "own.mp4") as source:
        info = source.info
    files = find_references(tmp_path, info)
    assert [each.name for each in files] == ["long.mp4"]
    read = read_references(files, info)
    times = [each.seconds for each in read.pictures]
    assert 2 <= len(times) <= 12
    assert times == sorted(times) and times[0] < 1.2 and times[-1] > 2.5


def test_no_more_pictures_are_read_than_can_be_kept(tmp_path: Path) -> None:
    make(tmp_path / "own.mp4")
    with open_source(tmp_path / "own.mp4") as source:
        info = source.info
    folder = tmp_path / "many"
    folder.mkdir()
    small = texture(64, 48, 1)
    for number in range(MOST_PICTURES + 3):
        cv2.imwrite(str(folder / f"{number}.png"), small)
    read = read_references(find_references(folder, info), info)
    assert len(read.pictures) == MOST_PICTURES
    assert [each.file for each in read.refused] == [f"{MOST_PICTURES + k}.png" for k in range(3)]


def test_photographs_are_turned_as_the_clip_is_and_made_no_larger_than_needed(tmp_path: Path) -> None:
    make(tmp_path / "own.mp4", Clip(rotation=90))
    with open_source(tmp_path / "own.mp4") as source:
        info = source.info
    folder = tmp_path / "photos"
    folder.mkdir()
    upright = texture(400, 900, 2)
    cv2.imwrite(str(folder / "tall.png"), upright[..., ::-1])
    [read] = read_references(find_references(folder, info), info).pictures
    width, height = read.size
    assert width > height, "the clip's coded pictures lie on their side"
    assert width * height < 2.4 * info.width * info.height
    turned = np.rot90(upright, info.rotation // 90)
    small = cv2.resize(turned, read.size, interpolation=cv2.INTER_AREA)
    assert psnr(read.rgb(), small, np.ones(small.shape[:2], bool)) > 30
