"""The page at the end of a batch: one HTML file, with nothing from elsewhere, what needs a look first."""

from __future__ import annotations

import html
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from stream.batch import storage
from stream.batch.estimate import in_words
from stream.batch.outcomes import Outcome

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #2a7d46; --look: #b7791f; --bad: #c0392b; }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .2rem; }
p.sum { margin: 0 0 1.5rem; opacity: .8; }
article { border: 1px solid var(--line); border-left: .35rem solid var(--good); border-radius: .4rem;
  padding: .8rem 1rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
article.look { border-left-color: var(--look); }
article.failed { border-left-color: var(--bad); }
h2 { font-size: 1.05rem; margin: 0 0 .3rem; }
.state { font-weight: 600; color: var(--good); }
.look .state { color: var(--look); }
.failed .state { color: var(--bad); }
.pair { display: flex; flex-wrap: wrap; gap: .6rem; margin: .6rem 0; }
figure { margin: 0; flex: 1 1 15rem; max-width: 24rem; }
img { width: 100%; height: auto; display: block; border-radius: .25rem; }
figcaption { font-size: .8rem; opacity: .75; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; border-top: 1px solid var(--line);
  vertical-align: top; }
th { border-top: 0; font-weight: 600; }
ul { margin: .3rem 0; padding-left: 1.2rem; }
.small { font-size: .85rem; opacity: .8; }
"""
_MOST_ROWS = 30
_ACTIONS = {"remove": "removed", "keep": "kept"}


def needs_look(outcome: Outcome) -> int:
    """How much a clip needs a look: failed 3, partly done 2, done with warnings or a second try 1, else 0."""
    if outcome.state == "failed":
        return 3
    if outcome.state == "partial":
        return 2
    told = bool(outcome.note or (outcome.report or {}).get("warnings"))
    return int(told or retries(outcome) > 0)


def retries(outcome: Outcome) -> int:
    """How often a worker had to begin again because another one was lost."""
    return sum(len(each) - 1 for each in outcome.attempts)


def make_page(outcomes: Sequence[Outcome], folder: str, seconds: float) -> str:
    """The page for these clips; links go to the outputs, relative to `folder`, where the page is to lie."""
    order = sorted(outcomes, key=lambda each: (-needs_look(each), each.name))
    states = Counter(each.state for each in outcomes)
    words = [f"{states['done']} done"]
    words += [f"{states['partial']} in part"] if states["partial"] else []
    words += [f"{states['failed']} failed"] if states["failed"] else []
    told = f"{len(outcomes)} clip{'' if len(outcomes) == 1 else 's'}: {', '.join(words)}; {in_words(seconds)}"
    body = "\n".join(_article(each, folder) for each in order)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>cleanplate: {html.escape(told)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>cleanplate batch</h1><p class='sum'>{html.escape(told)}</p>\n{body}\n</body></html>\n"
    )


def _article(outcome: Outcome, folder: str) -> str:
    level = needs_look(outcome)
    kind = {3: "failed", 0: ""}.get(level, "look")
    state = {"done": "done", "partial": "done in part", "failed": "failed", "begun": "not finished"}[
        outcome.state
    ]
    lines = [f"<article class='{kind}'><h2>{_link(outcome, folder)}</h2>"]
    lines.append(f"<div><span class='state'>{state}</span>{_facts(outcome)}</div>")
    if outcome.error:
        hint = f"<br><span class='small'>{html.escape(outcome.hint)}</span>" if outcome.hint else ""
        lines.append(f"<p>{html.escape(outcome.error)}{hint}</p>")
    lines.append(_pictures(outcome))
    report = outcome.report or {}
    warnings = [*([outcome.note] if outcome.note else []), *report.get("warnings", ())]
    if retries(outcome):
        count = retries(outcome)
        warnings.append(f"a worker was lost, and another one began again ({count} {_times(count)})")
    if warnings:
        lines.append("<ul>" + "".join(f"<li>{html.escape(each)}</li>" for each in warnings) + "</ul>")
    lines.append(_tracks(report))
    again = [each for attempts in outcome.attempts if len(attempts) > 1 for each in attempts]
    if again:
        lines.append("<p class='small'>" + "<br>".join(map(html.escape, again)) + "</p>")
    return "".join(lines) + "</article>"


def _times(count: int) -> str:
    return "time" if count == 1 else "times"


def _link(outcome: Outcome, folder: str) -> str:
    name = html.escape(outcome.name)
    if outcome.state == "failed":
        return name
    inside = storage.local(outcome.output) is not None and outcome.output == storage.beside(
        folder, outcome.name
    )
    target = quote(posixpath.normpath(outcome.name)) if inside else outcome.output
    return f"<a href='{html.escape(target, quote=True)}'>{name}</a>"


def _facts(outcome: Outcome) -> str:
    report = outcome.report
    if report is None:
        return ""
    hole = report["hole"]
    parts = [f"{report['frames']} frames in {in_words(outcome.seconds)}"]
    if outcome.segments > 1:
        parts.append(f"{outcome.segments} segments")
    if hole["mean_share"] > 0:
        parts.append(
            f"replaced {hole['mean_share']:.1%} of the picture: {hole['seen_share']:.0%} seen, "
            f"{hole['reference_share']:.0%} from references, {hole['inpainted_share']:.0%} invented"
        )
    else:
        parts.append("nothing was removed")
    return " · " + html.escape(" · ".join(parts))


def _pictures(outcome: Outcome) -> str:
    if not outcome.before:
        return ""
    pair = ((outcome.before, f"before, at {outcome.at:.1f} s"), (outcome.after, "after"))
    figures = (
        f"<figure><img alt='{words}' src='data:image/jpeg;base64,{data}'>"
        f"<figcaption>{words}</figcaption></figure>"
        for data, words in pair
    )
    return f"<div class='pair'>{''.join(figures)}</div>"


def _tracks(report: Mapping[str, Any]) -> str:
    tracks = sorted(
        report.get("tracks", ()), key=lambda each: (each["action"] != "remove", each["first_seconds"])
    )
    if not tracks:
        return ""
    rows = "".join(_row(each) for each in tracks[:_MOST_ROWS])
    more = f"<p class='small'>and {len(tracks) - _MOST_ROWS} more</p>" if len(tracks) > _MOST_ROWS else ""
    count = Counter(_ACTIONS[each["action"]] for each in tracks)
    head = ", ".join(f"{number} {action}" for action, number in sorted(count.items(), reverse=True))
    return (
        f"<details><summary>{head}</summary><table><tr><th></th><th>thing</th><th>seen</th><th>why</th></tr>"
        f"{rows}</table>{more}</details>"
    )


def _row(track: Mapping[str, Any]) -> str:
    words = (
        _ACTIONS[track["action"]],
        track["label"],
        f"{track['first_seconds']:.1f} to {track['last_seconds']:.1f} s",
        track["reason"],
    )
    return "<tr>" + "".join(f"<td>{html.escape(each)}</td>" for each in words) + "</tr>"
