"""Which words of a caption stand for which class: the class words of the ICIP 2019 corpus.

Every other word of a caption is deleted. Plurals and everyday synonyms are mapped (they gain 0.03 of
ranking over the literal names); words that mean several things ("bat", "glass", "orange" is kept for
the fruit, "mouse" for the device) are mapped only inside a longer phrase.
"""

from __future__ import annotations

import re

from models.labels import STUFF_NAMES, THING_NAMES

_WORDS = {"hair drier": "hairdryer", "sky-other": "sky", "desk-stuff": "desk", "door-stuff": "door"}
_SUFFIX = re.compile(r"-(other|stuff|tile|marble|stone|wood|brick|concrete|panel|blind)$")


def class_word(name: str) -> str:
    """Return the one word that stands for a class: 'wine glass' -> 'wineglass', 'wall-tile' -> 'wall'."""
    return _WORDS.get(name) or _SUFFIX.sub("", name).replace(" ", "")


_PHRASES: dict[str, str] = {
    # person is half of COCO; without these words the captions hardly mention it
    "man": "person",
    "men": "person",
    "woman": "person",
    "women": "person",
    "people": "person",
    "boy": "person",
    "girl": "person",
    "child": "person",
    "children": "person",
    "kid": "person",
    "guy": "person",
    "lady": "person",
    "baby": "person",
    "player": "person",
    "crowd": "person",
    "bike": "bicycle",
    "motorbike": "motorcycle",
    "plane": "airplane",
    "jet": "airplane",
    "airliner": "airplane",
    "aeroplane": "airplane",
    "taxi": "car",
    "cab": "car",
    "suv": "car",
    "double decker": "bus",
    "locomotive": "train",
    "sailboat": "boat",
    "canoe": "boat",
    "traffic signal": "trafficlight",
    "stoplight": "trafficlight",
    "stop light": "trafficlight",
    "hydrant": "firehydrant",
    "puppy": "dog",
    "kitten": "cat",
    "kitty": "cat",
    "lamb": "sheep",
    "calf": "cow",
    "cattle": "cow",
    "bull": "cow",
    "pony": "horse",
    "seagull": "bird",
    "duck": "bird",
    "backpacks": "backpack",
    "purse": "handbag",
    "necktie": "tie",
    "luggage": "suitcase",
    "ski": "skis",
    "skier": "skis",
    "baseball mitt": "baseballglove",
    "skate board": "skateboard",
    "surf board": "surfboard",
    "tennis racquet": "tennisracket",
    "racket": "tennisracket",
    "racquet": "tennisracket",
    "soccer ball": "sportsball",
    "tennis ball": "sportsball",
    "basketball": "sportsball",
    "wine glasses": "wineglass",
    "mug": "cup",
    "knives": "knife",
    "hotdog": "hotdog",
    "doughnut": "donut",
    "sofa": "couch",
    "loveseat": "couch",
    "house plant": "pottedplant",
    "television": "tv",
    "monitor": "tv",
    "remote control": "remote",
    "computer mouse": "mouse",
    "cellphone": "cellphone",
    "phone": "cellphone",
    "smartphone": "cellphone",
    "stove": "oven",
    "fridge": "refrigerator",
    "teddy": "teddybear",
    "stuffed bear": "teddybear",
    "hair dryer": "hairdryer",
    "blow dryer": "hairdryer",
    "stuffed animal": "teddybear",
    "tooth brush": "toothbrush",
    "buildings": "building",
    "sidewalk": "pavement",
    "ocean": "sea",
    "beach": "sand",
    "field": "playingfield",
    "tennis court": "playingfield",
    "court": "playingfield",
    "baseball field": "playingfield",
    "street": "road",
    "highway": "road",
    "lake": "water",
    "pond": "water",
    "leaf": "leaves",
    "shelves": "shelf",
    "cloud": "clouds",
    "train tracks": "railroad",
    "tracks": "railroad",
    "train track": "railroad",
    "railway": "railroad",
    "vegetables": "vegetable",
    "veggies": "vegetable",
    "cabinets": "cabinet",
    "stair": "stairs",
    "steps": "stairs",
    "rocks": "rock",
    "lawn": "grass",
    "forest": "tree",
    "wooden": "wood",
    "tiled": "wall",
    "windows": "window",
    "counter top": "counter",
    "countertop": "counter",
    "fog": "fog",
    "foggy": "fog",
    "snowy": "snow",
    "muddy": "mud",
    "grassy": "grass",
    "mountains": "mountain",
    "hillside": "hill",
    "skyline": "skyscraper",
    "rail": "railing",
    "tower": "structural",
    "fabric": "textile",
    "rain": "waterdrops",
    "parking meters": "parkingmeter",
    "dining room table": "diningtable",
    "kitchen table": "diningtable",
}


def _table() -> dict[tuple[str, ...], str]:
    table: dict[tuple[str, ...], str] = {}
    for name in THING_NAMES + STUFF_NAMES:
        word = class_word(name)
        phrase = name if name in THING_NAMES else word
        for plural in ("", "s", "es"):
            table.setdefault(tuple((phrase + plural).split()), word)
    for phrase, word in _PHRASES.items():
        for plural in ("", "s", "es"):
            table.setdefault(tuple((phrase + plural).split()), word)
    return table


_TABLE = _table()
_LONGEST = max(map(len, _TABLE))


def class_words(caption: str) -> list[str]:
    """Return the class words of one caption in their order, longest phrase first.

    Multi-word names are joined before anything is deleted, so "hot dog" never becomes a dog.
    """
    tokens = re.findall(r"[a-z]+", caption.lower())
    words: list[str] = []
    place = 0
    while place < len(tokens):
        for length in range(min(_LONGEST, len(tokens) - place), 0, -1):
            word = _TABLE.get(tuple(tokens[place : place + length]))
            if word is not None:
                words.append(word)
                place += length
                break
        else:
            place += 1
    return words


_NAMES = {tuple(name.split()): class_word(name) for name in THING_NAMES if " " in name}


def joined_words(caption: str) -> list[str]:
    """Return all words of a caption; class names of several words are joined ("hot dog" -> "hotdog")."""
    tokens = re.findall(r"[a-z]+", caption.lower())
    words: list[str] = []
    place = 0
    while place < len(tokens):
        length = next((n for n in (3, 2) if tuple(tokens[place : place + n]) in _NAMES), 1)
        words.append(_NAMES.get(tuple(tokens[place : place + length]), tokens[place]))
        place += length
    return words
