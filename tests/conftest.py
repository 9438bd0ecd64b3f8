"""What test files share: the series executed once per session at the smallest profile, its book, and a browser."""

from pathlib import Path

import pytest
from browser import find_chromium, open_chromium
from project import copy_project

from drlib.series.book import build_book
from drlib.series.workflow import Series, run_series


def pytest_addoption(parser) -> None:
    parser.addoption("--project", type=Path, help="execute the series and build the book in this folder, and reuse what is there")


@pytest.fixture(scope="session")
def series(request, tmp_path_factory) -> Series:
    """The project copied elsewhere and executed there."""
    kept = request.config.getoption("project")
    series = Series(copy_project(kept.resolve() if kept else tmp_path_factory.mktemp("project")), "smoke")
    wanted = ("executed", "fresh") if kept else ("executed",)
    failed = [outcome.name for outcome in run_series(series) if outcome.state not in wanted]
    assert not failed, f"not executed: {failed}"
    return series


@pytest.fixture(scope="session")
def site(series) -> Path:
    """The folder of the built site."""
    return build_book(series).parent


@pytest.fixture(scope="module")
def chromium():
    """A headless browser for the tests of one file (see tests/browser.py for why not of the session)."""
    with open_chromium(find_chromium()) as browser:
        yield browser
