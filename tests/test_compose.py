"""Clips and stills taken apart, and put together again as they were or changed."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from walks import HEIGHT, WIDTH, background, block, cheap, make_walk

from stream.commands import main
from stream.compose import Change, Edit, change_of, compose, read_edit
from stream.errors import InputError, OutputError, UsageError
from stream.layer_contents import Contents, read_contents
from stream.layer_files import read_layer
from stream.layer_job import LayerJob, take_layers
from stream.rgba import read_png, turn
from stream.source import open_source
from stream.types import Image

FRAMES = 20


def label_masks(folder: Path, frames: int) -> Path:
    """Object 5, a person, where the block is."""
    folder.mkdir()
    for index in range(frames):
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        labels[block(index)] = 5
        cv2.imwrite(str(folder / f"{index:04}.png"), labels)
    (folder / "objects.json").write_text(json.dumps({"5": "person"}))
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    label_masks(folder / "masks", FRAMES)
    return make_walk(folder / "walk.mkv", FRAMES)


@pytest.fixture(scope="module", params=["prores", "vp9", "png"])
def taken(request: pytest.FixtureRequest, clip: Path) -> Path:
    folder = clip.parent / request.param
    job = LayerJob(style=request.param, masks=clip.parent / "masks")
    take_layers(clip, folder, cheap(), job)
    return folder


def pictures(path: Path) -> list[Image]:
    with open_source(path) as source:
        return [frame.rgb for frame in source]


def psnr(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


def test_what_is_in_the_folder(taken: Path) -> None:
    found = read_contents(taken)
    (thing,) = found.layers
    assert (thing.label, found.frames, found.width, found.height) == ("person", FRAMES, WIDTH, HEIGHT)
    for place in thing.places:
        rows, columns = block(place.frame)
        box = columns.start, rows.start, columns.stop, rows.stop
        assert np.abs(np.subtract(place.box, box)).max() <= 3
    layers = dict(read_layer(taken, thing, found))
    for number in (thing.places[0].frame, thing.places[-1].frame):
        assert layers[number].shape == (HEIGHT, WIDTH, 4)
        rows, columns = block(number)
        inside = layers[number][rows.start + 6 : rows.stop - 6, columns.start + 6 : columns.stop - 6]
        assert inside[..., 3].min() > 250 and np.abs(inside[..., :3].astype(int) - 128).mean() < 3
        outside = layers[number][..., 3].copy()
        outside[rows.start - 12 : rows.stop + 12, max(0, columns.start - 12) : columns.stop + 12] = 0
        assert outside.max() == 0


def test_unchanged_layers_give_the_clip_again(clip: Path, taken: Path, tmp_path: Path) -> None:
    compose(taken, tmp_path / "again.mkv", lossless=True)
    before, after = pictures(clip), pictures(tmp_path / "again.mkv")
    assert len(before) == len(after)
    assert min(map(psnr, before, after)) > 36
    with open_source(clip) as one, open_source(tmp_path / "again.mkv") as other:
        assert [frame.time for frame in one] == [frame.time for frame in other]
        if taken.name != "png":
            assert [each.kind for each in other.info.streams] == ["audio"]


def test_a_hidden_layer_leaves_the_plate(clip: Path, taken: Path, tmp_path: Path) -> None:
    number = str(read_contents(taken).layers[0].id)
    edit = Edit(layers={number: Change(hide=True)})
    compose(taken, tmp_path / "empty.mkv", edit, lossless=True)
    place, there = background(FRAMES - 1), block(FRAMES - 1)
    assert psnr(pictures(tmp_path / "empty.mkv")[-1][there], place[there]) > 28
    assert psnr(pictures(clip)[-1][there], place[there]) < 18


def test_a_layer_is_moved_and_scaled(taken: Path, tmp_path: Path) -> None:
    edit = Edit(layers={"removed": Change(move=(0, 20), scale=0.5), "kept": Change(move=(0, 20), scale=0.5)})
    compose(taken, tmp_path / "moved.mkv", edit, lossless=True)
    last = pictures(tmp_path / "moved.mkv")[-1]
    rows, columns = block(FRAMES - 1)
    middle = (columns.start + columns.stop) // 2
    low = rows.stop + 20
    grey = last[low - 12 : low - 4, middle - 4 : middle + 4]
    assert np.abs(grey.astype(int) - 128).mean() < 6
    old = last[rows.start : rows.stop, columns], background(FRAMES - 1)[rows.start : rows.stop, columns]
    assert psnr(old[0], old[1]) > 22


def test_edits_that_make_no_sense_are_refused(taken: Path, tmp_path: Path) -> None:
    found = read_contents(taken)
    path = tmp_path / "edit.json"
    for text, says in (
        ('{"layers": {"99": {"hide": true}}}', "no layer '99'"),
        ('{"layers": {"removed": {"shift": [1, 2]}}}', "removed.shift: there is nothing of this name"),
        ('{"layers": {"removed": {"scale": 0}}}', "removed.scale"),
        ("not json", "JSON"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=says):
            read_edit(path, found)
    with pytest.raises(InputError):
        read_edit(tmp_path / "none.json", found)


def test_what_is_said_of_one_counts_more_than_of_all(taken: Path) -> None:
    (thing,) = read_contents(taken).layers
    kind = {"remove": "removed", "keep": "kept"}[thing.action]
    edit = Edit(layers={kind: Change(hide=True, opacity=0.5), str(thing.id): Change(hide=False)})
    assert change_of(edit, thing) == Change(hide=False, opacity=0.5)


def test_a_damaged_folder_is_a_clear_error(taken: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layers"):
        compose(tmp_path, tmp_path / "a.mkv")
    told = json.loads((taken / "layers.json").read_text())
    for change, says in (
        ({"plate": "../plate.mov"}, "outside of the folder"),
        ({"format": 99}, "format 99"),
        ({"width": "wide"}, "width"),
    ):
        (tmp_path / "layers.json").write_text(json.dumps({**told, **change}))
        with pytest.raises(InputError, match=says):
            compose(tmp_path, tmp_path / "a.mkv")
    (tmp_path / "layers.json").write_text(json.dumps(told))
    with pytest.raises(InputError):
        compose(tmp_path, tmp_path / "a.mkv")
    assert not (tmp_path / "a.mkv").exists()


def test_folders_are_not_overwritten_unasked(clip: Path, tmp_path: Path) -> None:
    job = LayerJob(style="png", masks=clip.parent / "masks")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="not empty"):
        take_layers(clip, tmp_path / "mine", cheap(), job)
    again = LayerJob(style="png", masks=clip.parent / "masks", overwrite=True)
    with pytest.raises(OutputError, match="not layers"):
        take_layers(clip, tmp_path / "mine", cheap(), again)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_plain_masks_are_no_things(clip: Path, tmp_path: Path) -> None:
    masks = label_masks(tmp_path / "plain", FRAMES)
    (masks / "objects.json").unlink()
    with pytest.raises(UsageError, match="which thing is which"):
        take_layers(clip, tmp_path / "out", cheap(), LayerJob(masks=masks))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def still(tmp_path: Path) -> Path:
    """A picture of the block, and labelled masks for it."""
    image = background()
    image[block(3)] = (200, 30, 40)
    cv2.imwrite(str(tmp_path / "still.png"), image[..., ::-1])
    labels: Contents | NDArray[np.uint8] = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[block(3)] = 9
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "still.png"), labels)
    (tmp_path / "masks" / "objects.json").write_text(json.dumps({"9": "dog"}))
    return tmp_path / "still.png"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return int(ended.value.code or 0)


def test_a_still_from_the_command_line(still: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, common = still.parent / "layers", ("--set", "engine.name=none", "--quiet")
    assert run("layers", still, "-o", folder, "--masks", still.parent / "masks", *common[:2]) == 0
    assert "dog" in capsys.readouterr().out
    found = read_contents(folder)
    assert (found.kind, [each.label for each in found.layers]) == ("image", ["dog"])
    with zipfile.ZipFile(folder / "layers.ora") as file:
        first = file.infolist()[0]
        assert first.filename == "mimetype" and first.compress_type == zipfile.ZIP_STORED
        assert file.read("mimetype") == b"image/openraster"
        names = set(file.namelist())
        assert {"stack.xml", "mergedimage.png", "Thumbnails/thumbnail.png"} < names
        stack = file.read("stack.xml").decode()
        assert stack.index("dog") < stack.index("plate")  # the topmost first
        merged = cv2.imdecode(np.frombuffer(file.read("mergedimage.png"), np.uint8), cv2.IMREAD_COLOR)
    assert merged is not None and psnr(merged[..., ::-1], read_png(still)[..., :3]) > 40
    assert run("compose", folder, "-o", still.parent / "again.png", common[2]) == 0
    assert psnr(read_png(still.parent / "again.png"), read_png(still)) > 40
    edit = still.parent / "edit.json"
    edit.write_text(json.dumps({"layers": {str(found.layers[0].id): {"move": [60, 0], "depth": "front"}}}))
    assert run("compose", folder, "-o", still.parent / "moved.png", "--edit", edit) == 0
    rows, columns = block(3)
    moved = read_png(still.parent / "moved.png")[rows, columns.start + 60 : columns.stop + 60, :3]
    assert np.abs(moved.astype(int) - (200, 30, 40)).mean() < 8
    assert run("compose", folder, "-o", still.parent / "moved.png", "-q") == 4


def test_a_clip_that_is_turned_is_edited_as_it_is_seen(clip: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.mov"
    with av.open(str(clip)) as source, av.open(str(turned), "w") as target:
        video = source.streams.video[0]
        copy = target.add_stream_from_template(video)
        assert isinstance(copy, av.VideoStream)
        for packet in source.demux(video):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    data = turned.read_bytes()
    # the matrix in the track's header: turned by a quarter, clockwise
    one, quarter = struct.pack(">i", 1 << 16), struct.pack(">i", -(1 << 16))
    none, last = struct.pack(">i", 0), struct.pack(">i", 1 << 30)
    plain = one + none * 3 + one + none * 3 + last
    place = data.rindex(plain)
    turned.write_bytes(
        data[:place] + none + one + none + quarter + none * 4 + last + data[place + len(plain) :]
    )
    with open_source(turned) as source_of:
        assert source_of.info.rotation == 90
    for style in ("prores", "vp9", "png"):
        folder = tmp_path / style
        take_layers(turned, folder, cheap(), LayerJob(style=style, masks=clip.parent / "masks"))
        found = read_contents(folder)
        assert (found.width, found.height) == (HEIGHT, WIDTH)
        (thing,) = found.layers
        rows, columns = block(thing.places[0].frame)
        seen = HEIGHT - rows.stop, columns.start, HEIGHT - rows.start, columns.stop
        assert np.abs(np.subtract(thing.places[0].box, seen)).max() <= 3
        _, picture = next(read_layer(folder, thing, found))
        assert picture.shape == (WIDTH, HEIGHT, 4)
        inside = picture[seen[1] + 6 : seen[3] - 6, seen[0] + 6 : seen[2] - 6]
        assert inside[..., 3].min() > 250
        compose(folder, tmp_path / f"{style}.mov", Edit(layers={str(thing.id): Change(move=(0, 20))}))
        with open_source(tmp_path / f"{style}.mov") as again:
            frame = next(again)
            shown = turn(frame.rgb, frame.rotation)
        assert shown.shape[:2] == (WIDTH, HEIGHT)
        down = shown[seen[1] + 26 : seen[3] + 14, seen[0] + 6 : seen[2] - 6]
        assert thing.places[0].frame == 0 and np.abs(down.astype(int) - 128).mean() < 8
