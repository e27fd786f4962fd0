"""Vega-Lite specifications (version 5), with their data in them: nothing is loaded from anywhere."""

from __future__ import annotations

__all__ = ["MEDIA_TYPE", "Layout", "specification"]

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MEDIA_TYPE = "application/vnd.vegalite.v5+json"

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_WIDTH, _HEIGHT = 640, 360
_TITLE = 84
"""Characters of a title's line, so that it is not wider than the chart."""
_TICKS = 12
"""Dates that an axis names one by one."""
_MARKS = 8
"""Numbers that an axis names, about."""
_UPRIGHT = 8
"""Bars that stand; more of them lie, where their names have room."""
_SHORT = 9
"""Characters of a name that has room under a bar that stands."""

_GREY = "#a5a5a5"
"""What stands for the rest."""
_COLOURS = ["#2f6db3", "#e0873a", "#4f9d5d", "#b8485a", "#7e68b0", "#8a6a50", "#4aa3b5", "#8c8c8c"]
_TIMES: Mapping[str, tuple[str, str]] = {
    "day": ("%-d %b %Y", "%d.%m.%Y"),
    "week": ("%-d %b %Y", "%d.%m.%Y"),
    "month": ("%b %Y", "%m.%Y"),
    "quarter": ("Q%q %Y", "Q%q %Y"),
    "year": ("%Y", "%Y"),
}
_GERMAN: Mapping[str, Any] = {
    "locale": {"number": {"decimal": ",", "thousands": ".", "grouping": [3], "currency": ["", " €"]}}
}
_CONFIG: Mapping[str, Any] = {
    "background": "white",
    "font": "DejaVu Sans, Helvetica, Arial, sans-serif",
    "view": {"stroke": None},
    "range": {"category": _COLOURS},
    "title": {"anchor": "start", "fontSize": 16, "subtitleFontSize": 12, "subtitleColor": "#555", "offset": 14},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
        "gridColor": "#e6e6e6",
        "labelLimit": 0,
        # Vega would let the title stand in long labels.
        "maxExtent": 400,
    },
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 0},
    "bar": {"color": _COLOURS[0]},
    "line": {"color": _COLOURS[0], "strokeWidth": 2.2, "strokeJoin": "round"},
    "point": {"color": _COLOURS[0]},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a chart looks like, whatever its data."""

    chart: str
    title: str
    subtitle: str
    columns: tuple[str, ...]
    """What groups and measures are called, in this order; of a scatter the measures come first."""
    measures: int
    bucket: str
    """Of dates along the axis, the span that they are cut to."""
    stacked: bool
    """Whether numbers of several series may be added up."""
    from_zero: bool
    german: bool

    @property
    def value_title(self) -> str:
        """What the axis of the numbers is called; several measures say it in the legend."""
        return self.columns[-1] if self.measures == 1 else ""


def specification(layout: Layout, values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the specification. `values` have y, and where they apply x, t (x as a day, in milliseconds), n (x as a
    number), series, and other where they stand for the rest.
    """
    title: dict[str, Any] = {"text": textwrap.wrap(layout.title, _TITLE) or [""]}
    if layout.subtitle:
        title["subtitle"] = textwrap.wrap(layout.subtitle, _TITLE + 16, max_lines=3, placeholder=" …")
    body: dict[str, Any] = {
        "bar": _bars,
        "line": _lines,
        "pie": _pie,
        "scatter": _points,
        "number": _number,
    }[layout.chart](layout, values)
    return {
        "$schema": _SCHEMA,
        "title": title,
        "data": {"values": [dict(value) for value in values]},
        "width": _WIDTH,
        "height": _HEIGHT,
        **body,
        "config": {**_CONFIG, **(_GERMAN if layout.german else {})},
    }


def _bars(layout: Layout, values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(str(value["x"]) for value in values))
    upright = bool(layout.bucket) or (len(names) <= _UPRIGHT and max(map(len, names)) <= _SHORT)
    name: dict[str, Any] = {
        "field": "x",
        "type": "nominal",
        "sort": None,
        "title": layout.columns[0],
        "axis": {"labelAngle": 0 if upright and len(names) <= _UPRIGHT else -45 if upright else 0},
    }
    number: dict[str, Any] = {"field": "y", "type": "quantitative", "title": layout.value_title}
    number["axis"] = _axis(values, "y", layout)
    encoding: dict[str, Any] = {"x": name, "y": number} if upright else {"y": name, "x": number}
    body: dict[str, Any] = {"mark": {"type": "bar", "tooltip": True}, "encoding": encoding}
    if _has_series(values):
        encoding["color"] = _colour(layout)
        if not layout.stacked or layout.measures > 1:
            encoding["xOffset" if upright else "yOffset"] = {"field": "series", "sort": None}
            number["stack"] = None
        else:
            # As in the legend: from the top, or from the left.
            body["transform"] = [{"calculate": f"indexof({json.dumps(_series(values))}, datum.series)", "as": "place"}]
            encoding["order"] = {"field": "place", "sort": "descending" if upright else "ascending"}
    elif any(value.get("other") for value in values):
        encoding["color"] = {"condition": {"test": "datum.other", "value": _GREY}, "value": _COLOURS[0]}
    if not upright:
        side_by_side = "yOffset" in encoding
        series = len({value["series"] for value in values}) if side_by_side else 1
        # Beside each other, series share a band that each of them makes wider.
        body["height"] = {"step": max(10, 22 // series + 4), "for": "position"} if not side_by_side else {"step": 12}
    return body


def _lines(layout: Layout, values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    along = {value["x"] for value in values}
    mark: dict[str, Any] = {"type": "line", "tooltip": True, "point": {"size": 45} if len(along) <= 40 else False}
    if all("t" in value for value in values):
        english, german = _TIMES[layout.bucket]
        axis: dict[str, Any] = {"format": german if layout.german else english, "labelOverlap": True, "grid": False}
        days = sorted({value["t"] for value in values})
        # Vega would name hours between two days, and a month twice.
        axis |= {"values": days} if len(days) <= _TICKS else {"tickCount": 8}
        x: dict[str, Any] = {"field": "t", "type": "temporal", "scale": {"type": "utc"}, "axis": axis}
    elif all("n" in value for value in values):
        years = all(value["n"] == int(value["n"]) and 1000 <= value["n"] < 3000 for value in values)
        ticks = {"format": "d", "tickMinStep": 1, "tickCount": _MARKS} if years else _axis(values, "n", layout)
        x = {"field": "n", "type": "quantitative", "scale": {"zero": False}, "axis": {**ticks, "grid": False}}
    else:
        x = {"field": "x", "type": "ordinal", "sort": None, "axis": {"labelAngle": -45 if len(along) > 6 else 0}}
        x["axis"]["labelOverlap"] = True
    x["title"] = layout.columns[0]
    scale = {"zero": layout.from_zero}
    y = {"field": "y", "type": "quantitative", "title": layout.value_title, "scale": scale}
    encoding: dict[str, Any] = {"x": x, "y": {**y, "axis": _axis(values, "y", layout)}}
    if _has_series(values):
        encoding["color"] = _colour(layout)
    return {"mark": mark, "encoding": encoding}


def _pie(layout: Layout, values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = [str(value["x"]) for value in values]
    theta = {"field": "y", "type": "quantitative", "stack": True}
    # Without an order of its own Vega would sort the slices by their names, and not as the legend.
    order = {"field": "place", "type": "quantitative"}
    colour = {
        "field": "x",
        "type": "nominal",
        "title": layout.columns[0],
        "scale": {"domain": names},
    }
    return {
        "transform": [
            {"joinaggregate": [{"op": "sum", "field": "y", "as": "all"}]},
            {"window": [{"op": "row_number", "as": "place"}]},
            {"calculate": "datum.y / datum.all", "as": "share"},
        ],
        "encoding": {"theta": theta, "order": order},
        "layer": [
            {
                "mark": {"type": "arc", "outerRadius": 150, "stroke": "white", "tooltip": True},
                "encoding": {"color": colour},
            },
            {
                "mark": {"type": "text", "radius": 172, "fontSize": 12},
                "encoding": {
                    "text": {
                        "condition": {"test": "datum.share >= 0.04", "field": "share", "format": ".1%"},
                        "value": "",
                    }
                },
            },
        ],
        "width": 400,
    }


def _points(layout: Layout, values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    encoding: dict[str, Any] = {
        place: {
            "field": place,
            "type": "quantitative",
            "title": layout.columns[index],
            "scale": {"zero": False},
            "axis": _axis(values, place, layout),
        }
        for index, place in enumerate(("x", "y"))
    }
    if _has_series(values):
        encoding["color"] = {"field": "series", "type": "nominal", "sort": None, "title": layout.columns[2]}
    return {
        "mark": {"type": "point", "filled": True, "opacity": 0.6, "size": 40, "tooltip": True},
        "encoding": encoding,
    }


def _number(layout: Layout, values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    text = {"field": "y", "type": "quantitative", "format": ",.6~r" if _largest(values, "y") >= 1 else ".4~r"}
    encoding: dict[str, Any] = {"text": text}
    if _has_series(values):
        encoding["y"] = {"field": "series", "type": "nominal", "sort": None, "title": "", "axis": {"domain": False}}
    return {
        "mark": {"type": "text", "fontSize": 40, "color": _COLOURS[0]},
        "encoding": encoding,
        "height": {"step": 70} if _has_series(values) else 100,
        "width": 420,
    }


def _axis(values: Sequence[Mapping[str, Any]], field: str, layout: Layout) -> dict[str, Any]:
    """Numbers with many digits are written as 1.5M, or as 1.5e+18."""
    largest = _largest(values, field)
    if largest >= 1e15:
        return {"format": ".3~g", "tickCount": _MARKS}
    if largest >= 1e6:
        # Each by itself: Vega would write 0M.
        return {"labelExpr": "format(datum.value, '.3~s')", "tickCount": _MARKS}
    whole = layout.stacked and all(isinstance(value.get(field), int) for value in values)
    return {"tickCount": _MARKS, **({"tickMinStep": 1} if whole else {})}


def _colour(layout: Layout) -> dict[str, Any]:
    title = layout.columns[1] if layout.measures == 1 else ""
    return {"field": "series", "type": "nominal", "sort": None, "title": title}


def _largest(values: Sequence[Mapping[str, Any]], field: str) -> float:
    return max((abs(value[field]) for value in values if value.get(field) is not None), default=0)


def _series(values: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(value["series"]) for value in values))


def _has_series(values: Sequence[Mapping[str, Any]]) -> bool:
    return any("series" in value for value in values)
