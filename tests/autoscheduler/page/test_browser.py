"""The page in a browser without a network: it is drawn, and asks for nothing."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tersor.autoscheduler.page import write_search_page
from tests.searched_reports import report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH"),
]


def opened(page: Path, width: int) -> tuple[np.ndarray, list[str]]:
    """Open a page: its picture, uint8 [1600, width, 3], and the addresses that it asked for."""
    picture, log = page.with_suffix(".png"), page.with_suffix(".json")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        "--disable-background-networking", "--host-resolver-rules=MAP * 0.0.0.0",
        f"--user-data-dir={page.parent / 'profile'}", f"--window-size={width},1600",
        f"--log-net-log={log}", f"--screenshot={picture}", page.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    asked = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # What the browser asks for itself has no page that it comes from.
    by_page = [each for each in asked if each.get("initiator", "not an origin") != "not an origin"]
    return np.asarray(Image.open(picture).convert("RGB")), [each["url"] for each in by_page if "url" in each]


@pytest.mark.parametrize("width", [420, 1400])
def test_the_page_is_drawn_and_asks_for_nothing(width: int, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_search_page(report(), page)
    picture, asked = opened(page, width)
    assert asked == []
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 200
    rows_with_ink = (picture.min(axis=2) < 128).any(axis=1)
    assert rows_with_ink.reshape(8, -1).any(axis=1).all()  # from the top to the bottom of what is seen


def test_a_request_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "other.html"
    page.write_text('<!DOCTYPE html><img src="http://example.org/picture.png">')
    assert opened(page, 400)[1] == ["http://example.org/picture.png"]
