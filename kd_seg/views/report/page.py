"""The report itself: one HTML file that holds everything and asks the network for nothing."""

from __future__ import annotations

import base64
from datetime import datetime, timezone
from html import escape
from pathlib import Path

import yaml

import kd_seg
from kd_seg.classes import ClassTable
from kd_seg.core.files import write_text
from kd_seg.core.progress import Track
from kd_seg.views.colours import RIGHT, UNLABELLED, WRONG, css, legend_colours
from kd_seg.views.report.curves import Curve, curves
from kd_seg.views.report.pictures import Gallery, Picture, Scene, make_gallery
from kd_seg.views.report.runs import Run, read_runs
from kd_seg.views.report.style import STYLE
from kd_seg.views.report.tables import (
    cost_table,
    difference_table,
    environment_table,
    evaluation_notes,
    iou_table,
    percent,
    swatch,
)


def write_report(paths: list[Path], out: Path, scans: int, track: Track, threads: int = 0) -> None:
    """Write the report of some run folders to ``out``, whole or not at all.

    Args:
        scans: how many scans to draw, 0 for none.
        track: shows progress over them.
        threads: of the networks on the CPU, 0 = the library's default.

    Raises DataError where a folder is no run or one of its files is broken.
    """
    runs = read_runs(paths)
    gallery = make_gallery(runs, scans, track, threads)
    write_text(out, page(runs, gallery))


def page(runs: list[Run], gallery: Gallery) -> str:
    """The HTML text."""
    title = "kd_seg: " + ", ".join(run.name for run in runs)
    sections = [
        ("scores", "Scores", _scores(runs)),
        ("pictures", "Predictions and errors", _pictures(runs, gallery)),
        ("curves", "Training", _curves(runs)),
        ("costs", "Costs", _costs(runs, gallery)),
        ("configuration", "Configuration", _configuration(runs)),
        ("environment", "Environment", environment_table(runs)),
    ]
    links = "".join(f'<a href="#{key}">{name}</a>' for key, name, _ in sections)
    body = "".join(f'<section><h2 id="{key}">{name}</h2>\n{text}</section>\n' for key, name, text in sections)
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    plural = "run" if len(runs) == 1 else "runs"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><a class="skip" href="#scores">To the scores</a>
<header><h1>LiDAR students: {len(runs)} {plural}</h1>
<p class="lead">Made {made} by kd_seg {kd_seg.__version__}.</p><nav aria-label="Sections">{links}</nav></header>
<main><div class="cards">{"".join(_card(number, run) for number, run in enumerate(runs))}</div>
{body}</main><footer>This file is complete: it loads nothing from the network.</footer></body></html>
"""


def _card(number: int, run: Run) -> str:
    purpose = run.config.get("purpose") or "no purpose given"
    student = run.config.get("student", {})
    facts = [("student", f"{student.get('network', '?')} {student.get('size', '')}".strip())]
    big = ""
    if run.evaluation is not None:
        scores = run.evaluation.scores
        present = sum(value > 0 for value in run.evaluation.matrix[:, 1:].sum(axis=0))
        big = f'<div class="big">{percent(scores.miou)} %</div><p>mIoU, official, {present} classes occur</p>'
        facts += [("mIoU present", f"{percent(scores.miou_present)} %"), ("accuracy", f"{percent(scores.accuracy)} %")]
        facts += [("mIoU hard", f"{percent(scores.miou_hard)} %")] if scores.miou_hard is not None else []
    facts += [("objectives", ", ".join(str(entry.get("kind")) for entry in run.config.get("objectives", [])) or "?")]
    rows = "".join(f"<dt>{name}</dt><dd>{escape(value) if '<' not in value else value}</dd>" for name, value in facts)
    head = f"<h3>{swatch(number)}{escape(run.name)}</h3><p>{escape(purpose)}</p>"
    return f'<div class="card">{head}{big}<dl>{rows}</dl></div>'


def _scores(runs: list[Run]) -> str:
    return iou_table(runs) + _notes(evaluation_notes(runs))


def _notes(notes: list[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>' if notes else ""


def _curves(runs: list[Run]) -> str:
    charts: list[Curve] = curves(runs)
    if not charts:
        return "<p>No step has been logged yet.</p>"
    keys = "".join(f"<li>{swatch(number)}{escape(run.name)}</li>" for number, run in enumerate(runs))
    figures = "".join(
        f"<figure><figcaption>{escape(chart.title)}</figcaption>"
        f'<img alt="{escape(chart.words, quote=True)}" src="{_data("image/svg+xml", chart.svg.encode())}"></figure>'
        for chart in charts
    )
    return f'<ul class="keys">{keys}</ul><div class="charts">{figures}</div>'


def _pictures(runs: list[Run], gallery: Gallery) -> str:
    notes = _notes(gallery.notes)
    if not gallery.scenes:
        return notes or "<p>No pictures were asked for.</p>"
    evaluation = next((run.evaluation for run in runs if run.evaluation is not None), None)
    legend = _legend(evaluation.classes) if evaluation is not None else ""
    return notes + legend + "".join(_scene(scene) for scene in gallery.scenes)


def _legend(classes: ClassTable) -> str:
    pairs = [(name, css(colour)) for name, colour in zip(classes.names, legend_colours(classes), strict=True)]
    pairs += [("unlabelled", css(UNLABELLED)), ("errors: right", css(RIGHT)), ("errors: wrong", css(WRONG))]
    items = "".join(f'<li><span class="swatch" style="background:{c}"></span>{escape(name)}</li>' for name, c in pairs)
    return f'<ul class="legend" aria-label="Colours of the pictures">{items}</ul>'


def _scene(scene: Scene) -> str:
    columns = "".join(
        f"<div><h4>{escape(title)}</h4>{''.join(_figure(picture) for picture in pictures)}</div>"
        for title, pictures in scene.columns
    )
    return f'<h3>Scan {escape(scene.name)}</h3><div class="views">{columns}</div>'


def _figure(picture: Picture) -> str:
    return (
        f'<figure><img loading="lazy" alt="{escape(picture.words, quote=True)}" '
        f'src="{_data(picture.kind, picture.content)}"><figcaption>{escape(picture.title)}</figcaption></figure>'
    )


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _costs(runs: list[Run], gallery: Gallery) -> str:
    where = f"Inference was measured on {gallery.device} while the pictures above were made." if gallery.device else ""
    return cost_table(runs, gallery.milliseconds) + (_notes([where]) if where else "")


def _configuration(runs: list[Run]) -> str:
    whole = "".join(
        f"<details><summary>{escape(run.name)}: config.yaml</summary>"
        f"<pre>{escape(yaml.safe_dump(run.config, sort_keys=False, width=100))}</pre></details>"
        for run in runs
    )
    return difference_table(runs) + whole
