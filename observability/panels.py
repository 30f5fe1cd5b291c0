"""The four kinds of panel that the dashboard has, each with one look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table
from grafana_foundation_sdk.builders import timeseries as series
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

GAP_MILLISECONDS = 60_000
"""A curve goes on over so long a gap: a few scrapes that failed."""
WIDE = 12
"""Columns of 24 from which on a panel has room for a legend beside it."""

Panel = stat.Panel | series.Panel | bargauge.Panel | table.Panel
P = TypeVar("P", stat.Panel, series.Panel, bargauge.Panel, table.Panel)
Steps = Sequence[tuple[float | None, str]]
"""From which value on a panel has which colour; None is below all."""


@dataclass(frozen=True)
class Query:
    """An expression, and what its series are called."""

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True)
class Look:
    """What all kinds of panel have: how wide and high, and in which unit."""

    width: int = 12
    height: int = 8
    unit: str = "short"
    decimals: int | None = None
    empty: str = "no data"


def number(
    title: str,
    about: str,
    queries: Sequence[Query],
    look: Look,
    steps: Steps = ((None, "text"),),
    words: Mapping[str, tuple[str, str]] | None = None,
) -> stat.Panel:
    """Make a panel of large figures as they are now; `words` replaces values by text and colour."""
    panel = stat.Panel().graph_mode(kinds.BigValueGraphMode.NONE)
    panel.color_mode(kinds.BigValueColorMode.VALUE).reduce_options(_last())
    panel.thresholds(_thresholds(steps))
    if words:
        found = {value: models.ValueMappingResult(*word) for value, word in words.items()}
        panel.mappings([models.ValueMap(found)])
    return _finished(panel, title, about, queries, look, instant=True)


def bars(
    title: str,
    about: str,
    queries: Sequence[Query],
    look: Look,
    *,
    steps: Steps = ((None, "blue"),),
    colours: Mapping[str, str] | None = None,
    full: float | None = None,
) -> bargauge.Panel:
    """Make a panel of horizontal bars as they are now, in the order of the queries."""
    panel = bargauge.Panel().orientation(kinds.VizOrientation.HORIZONTAL)
    panel.display_mode(kinds.BarGaugeDisplayMode.BASIC).reduce_options(_last())
    panel.thresholds(_thresholds(steps)).value_mode(kinds.BarGaugeValueMode.TEXT)
    panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)).min(0)
    if full is not None:
        panel.max(full)
    for name, colour in (colours or {}).items():
        panel.override_by_name(name, [_fixed(colour)])
    return _finished(panel, title, about, queries, look, instant=True)


def lines(
    title: str,
    about: str,
    queries: Sequence[Query],
    look: Look,
    *,
    stacked: bool = False,
    logarithmic: bool = False,
    colours: Mapping[str, str] | None = None,
    limit: float | None = None,
    low: float | None = 0,
) -> series.Panel:
    """Make a panel of curves over time; `limit` is a dashed line, `low` where the axis begins."""
    panel = series.Panel().fill_opacity(60 if stacked else 0).line_width(1 if stacked else 2)
    panel.show_points(kinds.VisibilityMode.AUTO).span_nulls(GAP_MILLISECONDS)
    panel.legend(_legend(look)).tooltip(_tooltip())
    panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
    if stacked:
        panel.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL).group("A"))
    if logarithmic:
        scale = common.ScaleDistributionConfig().type(kinds.ScaleDistribution.LOG).log(10)
        panel.scale_distribution(scale)
    elif low is not None:
        panel.axis_soft_min(low)
    if limit is not None:
        dashed = kinds.GraphThresholdsStyleMode.DASHED
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(dashed))
        panel.thresholds(_thresholds([(None, "transparent"), (limit, "orange")]))
    for name, colour in (colours or {}).items():
        panel.override_by_name(name, [_fixed(colour)])
    return _finished(panel, title, about, queries, look, instant=False)


@dataclass(frozen=True)
class Column:
    """A figure of a table's rows, and how it is written."""

    name: str
    expr: str
    unit: str = "short"
    words: Mapping[str, str] | None = None


def rows(title: str, about: str, key: str, columns: Sequence[Column], look: Look) -> table.Panel:
    """Make a table with a row for each value of the label `key`."""
    panel = table.Panel()
    for column, letter in zip(columns, ascii_uppercase, strict=False):
        words = {value: {"text": text} for value, text in (column.words or {}).items()}
        properties = [
            models.DynamicConfigValue("displayName", column.name),
            models.DynamicConfigValue("unit", column.unit),
            models.DynamicConfigValue("mappings", [{"type": "value", "options": words}]),
        ]
        panel.override_by_name(f"Value #{letter}", properties[: 3 if words else 2])
    panel.with_transformation(models.DataTransformerConfig("merge", options={}))
    hidden = {"excludeByName": {"Time": True}}
    panel.with_transformation(models.DataTransformerConfig("organize", options=hidden))
    queries = [Query(column.expr, key) for column in columns]
    return _finished(panel, title, about, queries, look, instant=True, as_table=True)


def _finished(
    panel: P,
    title: str,
    about: str,
    queries: Sequence[Query],
    look: Look,
    *,
    instant: bool,
    as_table: bool = False,
) -> P:
    """Add what every panel has."""
    panel.title(title).description(about).datasource(SOURCE).no_value(look.empty)
    panel.span(look.width).height(look.height).unit(look.unit)
    if look.decimals is not None:
        panel.decimals(look.decimals)
    for query, letter in zip(queries, ascii_uppercase, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter)
        target.instant() if instant else target.range()
        panel.with_target(target.format(PromQueryFormat.TABLE) if as_table else target)
    return panel


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    found = [models.Threshold(value, colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def _fixed(colour: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


def _legend(look: Look) -> common.VizLegendOptions:
    """Put names and last values beside wide panels, names alone below narrow ones."""
    legend = common.VizLegendOptions().show_legend(True)
    if look.width < WIDE:
        legend.display_mode(kinds.LegendDisplayMode.LIST).calcs([])
        return legend.placement(kinds.LegendPlacement.BOTTOM)
    legend.display_mode(kinds.LegendDisplayMode.TABLE).calcs(["lastNotNull"])
    return legend.placement(kinds.LegendPlacement.RIGHT)


def _tooltip() -> common.VizTooltipOptions:
    tooltip = common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI)
    return tooltip.sort(kinds.SortOrder.DESCENDING)
