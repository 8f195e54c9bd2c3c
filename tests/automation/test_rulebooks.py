# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rulebooks do with what is told, by the real ansible-rulebook; the clusters are HTTP servers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from _edges import Edge, Json, fleet, options
from _rulebook import needs_java, running, until

pytestmark = needs_java

NAMES = ("aws", "azure", "gcp")


@contextmanager
def edges() -> Iterator[dict[str, Edge]]:
    """Clusters in a thread of their own, so that a test may wait for processes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    context = fleet(*NAMES)
    try:
        yield asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def listening(answers: dict[str, Json]) -> Iterator[tuple[str, list[tuple[str, Json]]]]:
    """A web server with one answer a path; gives its address and what was posted to it."""
    posted: list[tuple[str, Json]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            posted.append((self.path, json.loads(body)))
            self._answer()

        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            body = json.dumps(answers.get(path, {})).encode()
            self.send_response(200 if path in answers else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", posted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_common_cause_moves_nothing_and_is_told_to_people(tmp_path: Path) -> None:
    with edges() as clusters, listening({"/hook/secret": {}}) as (url, posted):
        variables = {"serving_alarm_url": f"{url}/hook/secret", "ansible_connection": "local"}
        inventory = {"clusters": {"hosts": dict.fromkeys(NAMES), "vars": variables}}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
        (tmp_path / "model_health.yml").write_text(yaml.safe_dump(options(clusters)))
        command = (
            "model_health_config=model_health.yml ansible-rulebook --rulebook modelfleet.serving.failover"
            " --env-vars model_health_config --inventory hosts.yml"
        )
        with running(command, tmp_path) as log:
            for edge in clusters.values():
                edge.mood = "hostile"
            until(lambda: "PLAY RECAP" in log.read_text(), 60, log)
            text = log.read_text()
    ((_path, told),) = posted
    assert told["event"]["common_cause"] is True
    assert told["event"]["unhealthy"] == list(NAMES)
    assert told["text"].startswith("No failover mends this: ")
    assert "ALARM: no failover mends this, and nothing was moved." in text
    assert "Move traffic away" not in text
    assert "/hook/secret" not in text


def test_a_cluster_that_answers_wrong_starts_the_job_template_once(tmp_path: Path) -> None:
    """AWX by what ansible-rulebook asks of it."""
    template = {
        "id": 7,
        "type": "job_template",
        "name": "Failover",
        "summary_fields": {"organization": {"name": "Default"}},
        "related": {"launch": "/api/v2/job_templates/7/launch/"},
        "ask_limit_on_launch": True,
        "ask_labels_on_launch": False,
        "ask_inventory_on_launch": False,
        "ask_variables_on_launch": True,
    }
    job: Json = {"id": 8, "status": "successful", "created": "", "artifacts": {}}
    answers: dict[str, Json] = {
        "/api/v2/config/": {"version": "24.6.1"},
        "/api/v2/unified_job_templates/": {"count": 1, "next": None, "results": [template]},
        "/api/v2/job_templates/7/launch/": {"url": "/api/v2/jobs/8/"},
        "/api/v2/jobs/": {"count": 1, "next": None, "results": [job]},
        "/api/v2/jobs/8/": job,
    }
    with edges() as clusters, listening(answers) as (url, posted):
        given = options(clusters, interval=0.2)
        (tmp_path / "variables.yml").write_text(yaml.safe_dump(given))
        command = (
            "ansible-rulebook --rulebook modelfleet.serving.failover_job_template --vars variables.yml"
            f" --controller-url {url} --controller-token token"
        )
        with running(command, tmp_path) as log:
            # A cloud with two clusters.
            clusters["aws"].mood = clusters["azure"].mood = "hostile"
            until(lambda: posted, 60, log)
            clusters["aws"].mood = clusters["azure"].mood = "right"
            until(lambda: log.read_text().count("answers right again") == 2, 60, log)
    ((path, launch),) = posted
    assert path == "/api/v2/job_templates/7/launch/"
    variables = launch["extra_vars"]
    assert set(variables) == {"failover_detected", "failover_why", "failover_who"}
    assert variables["failover_why"].startswith(("aws: half_plus_two: golden: ", "azure: half_plus_two: golden: "))
    assert "{{" not in variables["failover_why"]
