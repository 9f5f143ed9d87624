"""Configuration is read strictly: a typo is an error that names what was meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from configs.schema import PRESETS, ConfigError, describe, load_config, parse_override


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_load_and_know_their_name(preset: str) -> None:
    assert load_config(preset).preset == preset


def test_the_paper_preset_is_the_published_rule() -> None:
    judge = load_config("paper").judge
    assert (judge.rule, judge.threshold, judge.min_area, judge.keep_subject) == ("paper", 0.4, 0.02, False)


@pytest.mark.parametrize(
    ("preset", "overrides", "named"),
    [
        ("turist", {}, "tourist"),
        ("tourist", {"judge.treshold": 0.1}, "judge.threshold"),
        ("tourist", {"jugde.threshold": 0.1}, "'judge'"),
        ("tourist", {"judge.threshold": 7}, "judge.threshold"),
        ("tourist", {"engine.name": "cuda"}, "engine.name"),
        ("tourist", {"look_ahead": "scene"}, "look_ahead"),
    ],
)
def test_what_is_not_known_is_refused_and_named(
    preset: str, overrides: dict[str, object], named: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        load_config(preset, overrides=overrides)


def test_a_file_is_laid_over_the_preset_and_overrides_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("judge: {threshold: 0.1, subject: 0.9}\n")
    config = load_config("tourist", file, dict([parse_override("judge.subject=0.7")]))
    assert (config.judge.threshold, config.judge.subject) == (0.1, 0.7)
    assert "person" in config.judge.passers


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n"])
def test_a_file_that_is_not_keys_and_values_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config("tourist", file)


def test_every_key_says_what_it_means() -> None:
    undescribed = [name for name, _, meaning in describe() if not meaning]
    assert set(undescribed) <= {
        "preset",
        "look_ahead_cap",
        "engine.name",
        "engine.precision",
        "engine.cache",
    } | {name for name in undescribed if name.startswith("models.")}
