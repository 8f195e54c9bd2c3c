# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status page, with a hostile cluster name in it, in a real browser where one is installed."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from gates import CHECKOUT, Run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta"}


@pytest.fixture(scope="module")
def page(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Let the role write a page for a fleet whose only cluster can't be reached and answers in HTML."""
    folder = tmp_path_factory.mktemp("page")
    path = folder / "status.html"
    play = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {
                "serving_models": [{"name": "m", "source": "/m", "versions": [1], "golden": []}],
                "serving_status_page": str(path),
            },
            "tasks": [
                {"ansible.builtin.include_role": {"name": "modelfleet.serving.serving", "tasks_from": "status_report"}}
            ],
        }
    ]
    answer = {"unreachable": True, "msg": "<script>document.title = 'taken over'</script> & no answer"}
    host = {"cluster_cloud": "gcp", "cluster_region": "r", "serving_status_servers": answer}
    (folder / "hosts.json").write_text(json.dumps({"clusters": {"hosts": {"far-away": host}}}))
    (folder / "play.json").write_text(json.dumps(play))
    run("ansible-playbook", str(folder / "play.json"), "--inventory", str(folder / "hosts.json"))
    return path


def test_the_page_is_whole_and_loads_nothing(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|<script""", text, re.IGNORECASE)

    class Balance(HTMLParser):
        open_tags: list[str]

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in VOID:
                self.open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open_tags.pop() == tag

    parser = Balance()
    parser.open_tags = []
    parser.feed(text)
    assert parser.open_tags == []


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_shows_it(page: Path, run: Run, tmp_path: Path) -> None:
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        f"--user-data-dir={tmp_path}",
    ]
    shown = run("timeout", "60", str(BROWSER), *flags, "--window-size=390,800", "--dump-dom", page.as_uri())
    assert "UNREACHABLE" in shown
    assert "<title>1 wrong" in shown
    run(
        "timeout",
        "60",
        str(BROWSER),
        *flags,
        f"--screenshot={tmp_path}/page.png",
        "--window-size=390,800",
        page.as_uri(),
    )
    assert (tmp_path / "page.png").stat().st_size > 5000
    assert str(CHECKOUT) not in shown
