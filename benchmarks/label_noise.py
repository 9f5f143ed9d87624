"""What the networks report of photographs whose labels are known: models/training/reported_labels.json.

    python -m benchmarks.label_noise --data DIR [--pictures 400]

The relation's training makes its noisy label sets by the rates in this file, and benchmarks.relation scores
on the reported sets themselves. Run it again when the segmentator or the stuff classifier has changed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from configs.schema import load_config
from models.training.label_noise import REPORTED, THINGS, measure_noise, read_reported
from models.training.relation import Recipe, read_label_sets
from models.training.stuff import Recipe as StuffRecipe
from models.training.stuff_pictures import is_held
from stream import explain, networks
from stream.source import open_source


class NoRelation:
    """Stands in for the relation: only what is seen is of interest here."""

    def score(self, thing: str, others: Sequence[str]) -> float:
        """Half, unless a thing is asked about itself."""
        return 0.0 if thing in others else 0.5


def choose(data: Path, known: Collection[int], count: int) -> list[tuple[Path, bool]]:
    """Pictures of coco/ with known labels, and whether the stuff classifier has not seen them; those first.

    So few pictures are set aside from the segmentator that things are judged by its training pictures too.
    """
    root = data / "perception" if (data / "perception").is_dir() else data
    share = StuffRecipe().held
    files = [f for f in sorted((root / "coco" / "images").glob("*.jpg")) if int(f.stem) in known]
    return sorted(((f, is_held(f, share)) for f in files), key=lambda each: not each[1])[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--out", type=Path, default=REPORTED)
    arguments = parser.parse_args()
    true = read_label_sets(arguments.data / "relation" / "coco_image_labels.npz", Recipe()).by_number()
    config = load_config("tourist", overrides={"engine.threads": 1})
    loaded = networks.Networks(config)
    pictures = []
    for file, aside in choose(arguments.data, true.keys(), arguments.pictures):
        with open_source(file) as source:
            frame = next(iter(source))
        seen = explain.explain_image(frame, loaded, NoRelation(), config)
        stuff = {name for name, chance in seen.stuff if chance >= config.judge.stuff}
        labels = sorted({track.label for track in seen.tracks}) + sorted(stuff)
        pictures.append({"id": int(file.stem), "things": True, "stuff": aside, "reported": labels})
        if len(pictures) % 50 == 0:
            print(len(pictures), flush=True)
    lines = ",\n".join(json.dumps(each) for each in pictures)
    arguments.out.write_text(f'{{"pictures": [\n{lines}\n]}}\n', encoding="utf-8")
    noise = measure_noise(true, read_reported(arguments.out))
    rows = np.stack([true[int(str(each["id"]))] for each in pictures]).sum(0)
    for kind, part in (("things", slice(0, THINGS)), ("stuff", slice(THINGS, None))):
        print(f"{kind}: {float(noise.found[part] @ rows[part] / rows[part].sum()):.2f} found")


if __name__ == "__main__":
    main()
