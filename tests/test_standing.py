"""Votes that stand for the next frames: what is filled by them is as good as by a vote in every frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from shots import psnr, run, walker_shot

from configs.schema import load_config
from stream import vote


def test_going_by_a_vote_of_a_moment_ago_is_as_good_as_voting_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    shot = walker_shot(20, pan=1.37, noise=1.5, speed=8.0)
    config = load_config("tourist", overrides={"hole.shadow": False})
    core = [cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0 for mask in shot.masks]

    def quality() -> list[float]:
        out = [filled.frame.planes[0] for filled in run(shot, 6, config=config)]
        return [psnr(out[t], shot.truth[t], core[t]) for t in range(20)]

    held, asked = [], vote.stand
    monkeypatch.setattr(vote, "stand", lambda *given: held.append(asked(*given)) or held[-1])
    standing = quality()
    assert sum(each is not None for each in held) > len(held) / 3
    monkeypatch.setattr(vote, "stand", lambda *_: None)
    anew = quality()
    assert np.mean(standing) > np.mean(anew) - 0.15
    assert min(standing) > min(anew) - 1.0
