"""What a live run shows as a camera that other programs can choose (pyvirtualcam)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stream.errors import OutputError, UsageError
from stream.recording import fitted

if TYPE_CHECKING:
    from stream.live_run import Live

_RATE = 30


def feed_virtual_camera(live: Live, stop: Callable[[], bool]) -> None:
    """Send every picture of a run to a virtual camera of the size of the first, until the run ends.

    Raises `UsageError` where pyvirtualcam is not installed, `OutputError` where there is no such camera.
    """
    try:
        import pyvirtualcam
    except ImportError:
        raise UsageError(
            "the virtual camera needs pyvirtualcam, which is not installed",
            hint="pip install 'cleanplate[camera]'",
        ) from None
    last = -1
    camera = None
    try:
        while not stop() and not live.status.ended:
            shown = live.newer(last, 0.25)
            if shown is None:
                continue
            last = shown.number
            image = shown.image
            if camera is None:
                try:
                    camera = pyvirtualcam.Camera(image.shape[1], image.shape[0], _RATE)
                except RuntimeError as error:
                    raise OutputError(
                        f"there is no virtual camera: {str(error).splitlines()[0]}",
                        hint="on Linux: modprobe v4l2loopback; on Windows and macOS: install OBS",
                    ) from None
            camera.send(fitted(image, camera.width, camera.height))
    finally:
        if camera is not None:
            camera.close()
