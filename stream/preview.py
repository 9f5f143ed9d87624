"""The window of a live run: the cleaned picture, and keys to look at it otherwise.

It is made with the standard library's tkinter: the OpenCV that servers can install has no windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from stream.errors import CleanplateError, OutputError, UsageError
from stream.overlay import COLOURS, FAINT, badge, draw_things
from stream.types import Image

if TYPE_CHECKING:
    from stream.live_run import Live, Shown, Status

KEYS = "space before/after   o overlay   r forget what is behind   s snapshot   q quit"
_EVERY_MS = 4
_SAID_FRAMES = 60


@dataclass(frozen=True)
class View:
    """What the window shows now: the picture as it came or cleaned, with or without the things outlined."""

    before: bool = False
    overlay: bool = False
    said: str = ""
    said_until: int = -1


def show_window(live: Live, stop: Callable[[], bool] | None = None, folder: Path | None = None) -> None:
    """Show a live run in a window until it ends, `q` is pressed, the window is closed, or `stop` says so.

    Has to be called in the main thread. Snapshots go to `folder` (default: the working folder). Raises
    `UsageError` where tkinter is not installed or there is no display.
    """
    try:
        import tkinter
    except ImportError:
        raise UsageError(
            "this Python has no tkinter, which the window is made with",
            hint="install python3-tk, or use --web 127.0.0.1:8000 or --record FILE",
        ) from None
    try:
        root = tkinter.Tk(className="cleanplate")
    except tkinter.TclError as error:
        raise UsageError(
            f"no window can be opened: {error}", hint="use --web 127.0.0.1:8000 or --record FILE --no-window"
        ) from None
    _Window(root, tkinter, live, stop, folder or Path.cwd()).run()


class _Window:
    def __init__(
        self, root: Any, tkinter: Any, live: Live, stop: Callable[[], bool] | None, folder: Path
    ) -> None:
        self._root, self._tkinter, self._live = root, tkinter, live
        self._stop, self._folder = stop, folder
        self._view, self._last = View(), -1
        self._shown: Shown | None = None
        self._failed: BaseException | None = None
        root.title("cleanplate live")
        self._label = tkinter.Label(root, borderwidth=0, background="black")
        self._label.pack(fill="both", expand=True)
        self._line = tkinter.Label(root, anchor="w", font="TkFixedFont", text=KEYS)
        self._line.pack(fill="x")
        self._most = root.winfo_screenwidth(), root.winfo_screenheight() - 80
        root.bind("<Key>", self._on_key)
        root.report_callback_exception = self._on_error

    def run(self) -> None:
        self._root.after(0, self._tick)
        try:
            self._root.mainloop()
        finally:
            # the window may be gone already, when the user closed it
            if self._failed is not None or self._exists():
                self._root.destroy()
        if self._failed is not None:
            raise self._failed

    def _exists(self) -> bool:
        try:
            return bool(self._root.winfo_exists())
        except self._tkinter.TclError:
            return False

    def _on_error(self, kind: type[BaseException], error: BaseException, trace: object) -> None:
        del kind, trace
        self._failed = error
        self._root.quit()

    def _tick(self) -> None:
        if self._live.status.ended or (self._stop is not None and self._stop()):
            self._root.quit()
            return
        shown = self._live.newer(self._last, 0.0)
        if shown is not None:
            self._last, self._shown = shown.number, shown
            self._draw(shown)
        self._root.after(_EVERY_MS, self._tick)

    def _draw(self, shown: Shown) -> None:
        picture = compose(shown, self._view, self._most)
        height, width = picture.shape[:2]
        header = f"P6 {width} {height} 255\n".encode()
        photo = self._tkinter.PhotoImage(
            master=self._root, width=width, height=height, data=header + picture.tobytes(), format="PPM"
        )
        self._label.configure(image=photo)
        self._label.image = photo  # tkinter itself does not keep it
        if shown.number % 15 == 0 or self._view.said_until == shown.number:
            self._line.configure(text=f"{status_line(self._live.status)}   |   {KEYS}")

    def _on_key(self, event: Any) -> None:
        if event.keysym in ("q", "Escape"):
            self._root.quit()
            return
        self._view = pressed(self._view, event.keysym, self._live, self._shown, self._folder)
        if self._shown is not None:
            self._draw(self._shown)


def pressed(view: View, key: str, live: Live, shown: Shown | None, folder: Path) -> View:
    """The view after a key (named as X11 does), with what it does to the run."""
    until = _SAID_FRAMES + (0 if shown is None else shown.number)
    if key == "space":
        return replace(view, before=not view.before)
    if key == "o":
        return replace(view, overlay=not view.overlay)
    if key == "r":
        live.reset()
        return replace(view, said="forgotten: what is behind is learnt anew", said_until=until)
    if key == "s" and shown is not None:
        try:
            path = snapshot(compose(shown, replace(view, said=""), None), folder)
        except CleanplateError as error:
            return replace(view, said=str(error), said_until=until)
        return replace(view, said=f"saved as {path.name}", said_until=until)
    return view


def compose(shown: Shown, view: View, most: tuple[int, int] | None) -> Image:
    """The picture that the window shows, uint8 RGB; no larger than `most` (width, height) if given."""
    picture = shown.before if view.before and not shown.away else shown.image
    if view.overlay:
        picture = draw_things(picture, shown.tracks, shown.verdicts)
    if most is not None:
        scale = min(1.0, most[0] / picture.shape[1], most[1] / picture.shape[0])
        if scale < 1:
            size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    said = view.said if shown.number < view.said_until else ""
    if said or view.before:
        picture = picture.copy()
    size_of_text = max(0.45, picture.shape[1] / 1800)
    if view.before:
        badge(picture, "before", (8, 8), FAINT, size_of_text)
    if said:
        badge(picture, said, (8, picture.shape[0]), COLOURS["keep"], size_of_text)
    return picture


def snapshot(picture: Image, folder: Path) -> Path:
    """Write a picture as the next free snapshot-NNN.png of a folder; raises `OutputError`."""
    number = 1
    while (path := folder / f"snapshot-{number:03d}.png").exists():
        number += 1
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    try:
        if not done:
            raise OSError("it could not be encoded")
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(
            f"the snapshot cannot be written: {error.strerror or error}", where=str(path)
        ) from None
    return path


def status_line(status: Status) -> str:
    """How a run is doing, in one line."""
    parts = [
        f"{status.frames_per_second:4.1f} fps",
        f"{1000 * status.latency_seconds:3.0f} ms",
        f"{status.dropped} dropped",
        "away" if status.away else status.step,
    ]
    if status.recording is not None:
        parts.append(f"recording {Path(status.recording).name}")
    return "  ".join(parts)
