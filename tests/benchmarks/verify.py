# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure how fast a store is verified, against ``sha256sum`` over the same files in the same pod.

``make bench`` runs this on one cluster of the local fleet. BENCH_VERIFY_ROUNDS (5) and BENCH_VERIFY_MB (1000) change
its size. It writes build/bench/verify.json.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "build" / "collections"))

from ansible_collections.modelfleet.serving.plugins.module_utils._call import (  # noqa: E402
    Call,
    Feature,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.execute import (  # noqa: E402
    PodShell,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.helpers import (  # noqa: E402
    pod_shell,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.session import (  # noqa: E402
    connect,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._cluster.wait import (  # noqa: E402
    Deadline,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._features import (  # noqa: E402
    model_store,
    model_store_info,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._manifests.store import (  # noqa: E402
    StoreSpec,
    loader,
)

Json = dict[str, Any]
HOME = Path(os.environ.get("MODELFLEET_HOME") or Path.home() / ".cache" / "modelfleet")
NAMESPACE = "store-benchmark"
OUTPUT = CHECKOUT / "build" / "bench" / "verify.json"
GOAL = 0.8
_SHARDS = 8
# What anyone would type: file by file, without anything of ours.
_PLAIN = "cd /models/m/1 && find . -type f -print0 | xargs -0 sha256sum | wc -l"


def saved_model(base: Path, megabytes: int) -> None:
    """Write a version of so many MB (10^6 bytes) in shards of random bytes, as weights are."""
    folder = base / "1" / "variables"
    folder.mkdir(parents=True)
    (folder.parent / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables.index").write_bytes(b"index")
    for shard in range(_SHARDS):
        with (folder / f"variables.data-{shard:05}-of-{_SHARDS:05}").open("wb") as file:
            for _block in range(megabytes // _SHARDS):
                file.write(os.urandom(1_000_000))


def run(feature: Feature, given: Json) -> Json:
    """Run a feature as its module does."""
    validated = ArgumentSpecValidator(feature.arguments).validate(given)
    return feature.run(Call(validated.validated_parameters, progress=say)).as_dict(diff=False)


def say(words: str) -> None:
    """Tell what is going on."""
    print(words, flush=True)


@contextmanager
def filled_store(connection: Json, megabytes: int) -> Iterator[PodShell]:
    """Fill a store and give a shell in a pod that has it mounted; everything is removed afterwards."""
    image = (HOME / "server_image").read_text().strip()
    with connect(connection) as session:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        session.request("POST", "/api/v1/namespaces", body=space)
        try:
            with tempfile.TemporaryDirectory() as folder:
                saved_model(Path(folder) / "m", megabytes)
                models = [{"name": "m", "source": f"{folder}/m", "versions": [1]}]
                given = {"name": "models", "namespace": NAMESPACE, "image": image, "models": models}
                run(model_store.FEATURE, {**connection, **given, "wait_timeout": 1800})
            pod = loader(StoreSpec("models", NAMESPACE, "10Gi", image), seconds=3600)
            with pod_shell(session, pod, Deadline.after(3600), say) as shell:
                yield shell
        finally:
            session.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}", body={})


def seconds(work: Callable[[], None]) -> float:
    """Give the time that something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(connection: Json, shell: PodShell, rounds: int) -> dict[str, list[float]]:
    """Measure both in pairs, each first in every other round; a round before the first fills the caches."""

    def verify() -> None:
        (store,) = run(model_store_info.FEATURE, {**connection, "namespace": NAMESPACE, "verify": True})["stores"]
        if not store["verified"] or store["tampered"]:
            raise RuntimeError(f"The store was not verified: {store}")

    def plain() -> None:
        if shell(_PLAIN).split() != [str(_SHARDS + 2).encode()]:
            raise RuntimeError("sha256sum did not read every file")

    works = {"verify": verify, "sha256sum": plain}
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name in list(works)[:: 1 if number % 2 else -1]:
            once = seconds(works[name])
            say(f"round {number}: {name}: {once:.2f} s")
            if number:
                taken[name].append(once)
    return taken


def main() -> None:
    """Measure, print the ratio and write the figures."""
    rounds = int(os.environ.get("BENCH_VERIFY_ROUNDS", "5"))
    megabytes = int(os.environ.get("BENCH_VERIFY_MB", "1000"))
    connection = {"kubeconfig": str(HOME / "kubeconfig"), "context": "kind-modelfleet-gcp-europe-west1"}
    with filled_store(connection, megabytes) as shell:
        processors = int(shell("nproc"))
        taken = measure(connection, shell, rounds)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    ratio = statistics.median(plain / ours for plain, ours in zip(taken["sha256sum"], taken["verify"], strict=True))
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "megabytes": megabytes,
        "processors": processors,
        "seconds": {name: [round(once, 3) for once in times] for name, times in taken.items()},
        "megabytes_per_second": {name: round(megabytes / median, 1) for name, median in medians.items()},
        "speed_as_share_of_sha256sum": round(ratio, 3),
    }
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(figures, indent=2) + "\n")
    speeds = figures["megabytes_per_second"]
    say(f"model_store_info verify reads {speeds['verify']} MB/s, sha256sum {speeds['sha256sum']} MB/s.")
    say(f"That is {ratio:.2f} of sha256sum; to reach: {GOAL:.2f}: {'reached' if ratio >= GOAL else 'missed'}.")


if __name__ == "__main__":
    main()
