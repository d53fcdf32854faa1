"""The operations page names metrics and settings that there are, with their defaults."""

import re
from pathlib import Path

import pytest

from turnwired.config.settings import Settings
from turnwired.telemetry.metrics import Metrics

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
SETTINGS = sorted(set(re.findall(r"`([a-z]+\.[a-z_]+)(?: = \w+)?`", PAGE)) - {"turnwire.db", "grpc.health"})
METRICS = sorted(set(re.findall(r"turnwire_\w+", PAGE)))
WITH_DEFAULT = re.findall(r"`([a-z]+\.[a-z_]+)` \((\d+) (s|minutes|day|days)\)", PAGE)
SECONDS = {"s": 1, "minutes": 60, "day": 86_400, "days": 86_400}


def _value(setting: str) -> object:
    section, _, field = setting.partition(".")
    return getattr(getattr(Settings(), section), field)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_the_page_names_is_there(setting: str) -> None:
    _value(setting)


@pytest.mark.parametrize(("setting", "number", "unit"), WITH_DEFAULT)
def test_a_default_that_the_page_gives_holds(setting: str, number: str, unit: str) -> None:
    assert _value(setting) == int(number) * SECONDS[unit]


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_that_the_page_names_is_counted(metric: str) -> None:
    page, _ = Metrics().render()
    assert f"# HELP {metric} ".encode() in page


def test_the_page_names_some_of_each() -> None:
    assert len(SETTINGS) > 8
    assert len(METRICS) > 5
    assert len(WITH_DEFAULT) > 5
