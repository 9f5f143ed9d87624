"""Tables of docs/layers.md and of the model card: how well hidden things are completed."""

from __future__ import annotations

from typing import Any

from benchmarks.speed_tables import rows

_METHODS = {
    "modal": "true background",
    "hull": "convex hull",
    "network": "network, each frame",
    "past": "own earlier frames",
    "ours": "with look-ahead",
}
_STAYS = {"stands": "stands", "walks": "walks", "film": "jumps, dances"}
_STILLS = {
    "modal": "what is seen alone",
    "hull": "convex hull",
    "network": "network, masks as rough as a segmentator's",
    "network, exact masks": "network, exact masks of what is seen",
}


def clips_table(data: Any) -> str:
    """One row a kind of clip and method."""
    head = ["who stays", "method", "whole", "hidden part", "PSNR, dB", "flicker", "order", "ms a frame"]
    body = []
    for kind, methods in data["clips"].items():
        for name, told in _METHODS.items():
            row = methods[name]
            body.append(
                [
                    _STAYS[kind],
                    told,
                    f"{row['amodal_iou']:.3f}",
                    f"{row['hidden_iou']:.3f}",
                    f"{row['psnr']:.1f}",
                    f"{row['flicker']:.1f}",
                    f"{row['order']:.2f}" if "order" in row else "-",
                    f"{row['ms']:.0f}" if "ms" in row else "-",
                ]
            )
    return rows(head, body)


def classes_table(data: Any) -> str:
    """One row a kind of thing: the order of a pair, and what the network completes."""
    head = ["what is hidden", "pictures", "order right", "whole", "hidden part", "l1", "PSNR, dB"]
    body = []
    for kind, row in data["stills"]["classes"].items():
        body.append(
            [
                kind,
                str(row["pictures"]),
                f"{row['order']:.3f}",
                f"{row['amodal_iou']:.3f}",
                f"{row['hidden_iou']:.3f}",
                f"{row['l1']:.1f}",
                f"{row['psnr']:.1f}",
            ]
        )
    return rows(head, body)


def stills_table(data: Any) -> str:
    """One row a method on stills, and the order below."""
    head = ["stills", "whole", "hidden part", "l1", "PSNR, dB"]
    body = []
    for name, told in _STILLS.items():
        row = data["stills"]["methods"][name]
        shape = [f"{row[key]:.3f}" for key in ("amodal_iou", "hidden_iou")]
        body.append([told, *shape, f"{row['l1']:.1f}", f"{row['psnr']:.1f}"])
    order = data["stills"]["order"]
    said = (
        f"{data['stills']['pictures']} pictures, in half of which the thing is hidden. Who is in front: "
        f"{order['network']:.3f} by the network alone, both ways asked; {order['all']:.3f} with the other "
        f"cues; {order['outline']:.3f} by outlines, {order['place']:.3f} by place."
    )
    return f"{rows(head, body)}\n\n{said}"
