"""Names of languages: ISO 639-2 has two codes for some, and QuickTime knows one of them."""

from __future__ import annotations

_SAME_LANGUAGE = (
    ("deu", "ger"),
    ("fra", "fre"),
    ("nld", "dut"),
    ("sve", "swe"),
    ("ell", "gre"),
    ("isl", "ice"),
    ("zho", "chi"),
    ("fas", "per"),
    ("sqi", "alb"),
    ("ron", "rum"),
    ("ces", "cze"),
    ("slk", "slo"),
    ("mkd", "mac"),
    ("hye", "arm"),
    ("kat", "geo"),
    ("bod", "tib"),
    ("mya", "bur"),
    ("msa", "may"),
)
"""Two codes of one language; QuickTime knows one of them."""

_QUICKTIME = (
    "eng fra ger ita dut sve spa dan por nor heb jpn ara fin gre ice mlt tur chi urd hin tha kor lit pol"
    " hun est lav per rus alb ron ces slk slv yid mac bul ukr bel uzb kaz aze arm geo mol kir tgk tuk mon pus"
    " kur kas snd tib nep san mar ben asm guj ori mal kan tam tel sin bur khm lao vie ind tgl may amh tir orm"
    " som swa kin run nya mlg epo wel baq cat lat que grn aym tat uig dzo jav und"
)


def quicktime_language(language: str) -> str | None:
    """The code under which QuickTime knows a language, None where it does not."""
    same = next((pair for pair in _SAME_LANGUAGE if language in pair), (language,))
    return next((each for each in same if each in _QUICKTIME.split()), None)
