"""What Prometheus and Grafana are given to work with asks only for what there is."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from service.observability import metrics

FOLDER = Path(__file__).parents[2] / "scripts" / "monitoring"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
OF_ANY_TARGET = {"job", "instance"}
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "gauge": ("",)}


def known_labels() -> Mapping[str, set[str]]:
    """Every series that a scrape may have, and its labels."""
    text = metrics.exposition("")[0].decode()
    families = {family.name: family.type for family in text_string_to_metric_families(text)}
    known = {name + suffix: {"pid", "version"} for name, kind in families.items() for suffix in SUFFIXES[kind]}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            for suffix in SUFFIXES[metric._type]:
                assert metric._name + suffix in known
                known[metric._name + suffix] = {*metric._labelnames, "le"}
    return known


def expressions() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    yield from ((rule["alert"], rule["expr"]) for rule in RULES if rule["alert"] != "DossierGone")


def test_each_expression_asks_for_series_and_labels_that_there_are() -> None:
    known = known_labels()
    for title, expression in expressions():
        names = re.findall(r"\b(?:dossier|process)_[a-z_]+", expression)
        labels = {name for group in re.findall(r"by \(([^)]*)\)", expression) for name in group.split(", ")}
        labels |= set(re.findall(r"(\w+)(?:=~|!=|=)\"", expression))
        assert names, title
        for name in names:
            assert name in known, title
            assert labels - OF_ANY_TARGET <= known[name], title


def test_each_panel_asks_for_something_and_is_one_of_a_kind() -> None:
    assert all(panel["targets"] for panel in PANELS)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_dashboard_takes_whatever_data_source_there_is() -> None:
    sources: list[Any] = [panel["datasource"] for panel in PANELS]
    sources += [target["datasource"] for panel in PANELS for target in panel["targets"]]

    assert {source["uid"] for source in sources} == {"${datasource}"}
    assert {"datasource", "job"} == {variable["name"] for variable in DASHBOARD["templating"]["list"]}


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(target["expr"] for panel in PANELS for target in panel["targets"])

    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            assert metric._name in shown
