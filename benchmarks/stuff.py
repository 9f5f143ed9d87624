"""Score the stuff classifier on pictures it was not trained on and write benchmarks/stuff.json.

    python -m benchmarks.stuff --data DIR [--weights FILE]

The pictures are the share of coco/ that `cleanplate train stuff` sets aside, shown as the pipeline shows
them: the whole picture squeezed to 128 x 128. Classes with fewer than five of them have no score.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from models.labels import STUFF_NAMES
from models.stuff import NEVER, SIDE, build_stuff
from models.training.stuff import Recipe, average_precision, calibration_error, f1
from models.training.stuff_pictures import is_held, read_pictures, squeezed
from models.weights import load_weights

CUTS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
LEAST = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    network = build_stuff().eval()
    load_weights(network, arguments.weights or "stuff-compact")
    pictures = read_pictures(arguments.data)
    rows = [
        row
        for row, file in enumerate(pictures.files)
        if pictures.labelled[row] and is_held(file, Recipe().held)
    ]
    found = []
    with torch.no_grad():
        for row in rows:
            image = squeezed(pictures.files[row], SIDE).astype(np.float32) / 255
            found.append(torch.sigmoid(network(torch.from_numpy(image).permute(2, 0, 1)[None]))[0])
    probability, labels = torch.stack(found), torch.from_numpy(pictures.stuff[rows])
    reported = network.thresholds < NEVER
    classes = {
        name: {
            "pictures": int(labels[:, k].sum()),
            "precision": round(average_precision(probability[:, k], labels[:, k]), 3),
            "chance": round(float(labels[:, k].mean()), 3),
            "threshold": round(float(network.thresholds[k]), 2),
        }
        for k, name in enumerate(STUFF_NAMES)
        if bool(reported[k]) and labels[:, k].sum() >= LEAST
    }
    cuts = []
    for cut in CUTS:
        said = probability >= cut
        hits = float((said & (labels > 0)).sum())
        cuts.append(
            {
                "cut": cut,
                "precision": round(hits / max(1.0, float(said.sum())), 2),
                "recall": round(hits / float(labels.sum()), 2),
                "f1": round(f1(said, labels > 0), 3),
                "labels": round(float(said.sum(1).float().mean()), 1),
            }
        )
    scored = [each["precision"] for each in classes.values()]
    result = {
        "pictures": len(rows),
        "labels a picture": round(float(labels.sum(1).mean()), 2),
        "mean average precision": round(float(np.mean(scored)), 3),
        "mean of chance": round(float(np.mean([each["chance"] for each in classes.values()])), 3),
        "calibration error": round(calibration_error(probability[:, reported], labels[:, reported]), 4),
        "f1 at the stored thresholds": round(f1(probability >= network.thresholds, labels > 0), 3),
        "classes": dict(sorted(classes.items(), key=lambda each: -each[1]["precision"])),
        "too few pictures to score": [
            name for k, name in enumerate(STUFF_NAMES) if bool(reported[k]) and labels[:, k].sum() < LEAST
        ],
        "never reported": [name for k, name in enumerate(STUFF_NAMES) if not bool(reported[k])],
        "cuts": cuts,
    }
    print(json.dumps(result, indent=1))
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
