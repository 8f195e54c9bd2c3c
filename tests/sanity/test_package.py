# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as its users get it: built, installed into a clean place, documented, and run by its full names."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from gates import CHECKOUT, Run, source_files

PLAYBOOKS = sorted(path.stem for path in (CHECKOUT / "playbooks").glob("*.yml"))
PLUGINS = {
    kind: sorted(path.stem for path in (CHECKOUT / "plugins" / folder).glob("*.py") if not path.stem.startswith("_"))
    for kind, folder in {
        "module": "modules",
        "filter": "filter",
        "lookup": "lookup",
        "inventory": "inventory",
        "callback": "callback",
    }.items()
}


@pytest.fixture(scope="module")
def tarball(source_copy: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the collection."""
    output = tmp_path_factory.mktemp("package")
    run("ansible-galaxy", "collection", "build", "--output-path", str(output), cwd=source_copy)
    (tarball,) = output.glob("modelfleet-serving-*.tar.gz")
    return tarball


@pytest.fixture(scope="module")
def clean(tarball: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Install the collection where nothing else is; give that folder and the environment that uses it."""
    home = tmp_path_factory.mktemp("home")
    (home / "ansible.cfg").touch()
    env = {
        "HOME": str(home),
        "ANSIBLE_COLLECTIONS_PATH": str(home / "collections"),
        "ANSIBLE_CONFIG": str(home / "ansible.cfg"),
    }
    run("ansible-galaxy", "collection", "install", str(tarball), "--offline", cwd=home, env=env)
    return home, env


def test_the_package_has_every_file_and_nothing_else(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        packed = {entry.name for entry in archive if entry.isfile()}
    # Git's own files, and galaxy.yml, which becomes MANIFEST.json.
    left_out = {"galaxy.yml"} | {name for name in source_files() if name.startswith((".git", ".ci/"))}
    assert packed - {"MANIFEST.json", "FILES.json"} == set(source_files()) - left_out


def test_every_plugin_has_documentation(clean: tuple[Path, dict[str, str]], run: Run) -> None:
    home, env = clean
    output = run("ansible-doc", "--metadata-dump", "modelfleet.serving", cwd=home, env=env)
    documented = json.loads(output[output.index("{") :])["all"]
    for kind, names in PLUGINS.items():
        assert set(documented.get(kind, {})) == {f"modelfleet.serving.{name}" for name in names}, kind
    roles = {path.name for path in (CHECKOUT / "roles").iterdir()}
    assert set(documented["role"]) == {f"modelfleet.serving.{name}" for name in roles}


def test_the_documentation_of_the_collection_is_well_formed(source_copy: Path, run: Run) -> None:
    run("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--skip-rstcheck", str(source_copy))


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_playbook_is_found_by_its_full_name(playbook: str, clean: tuple[Path, dict[str, str]], run: Run) -> None:
    home, env = clean
    inventory = home / "collections" / "ansible_collections" / "modelfleet" / "serving" / "inventories" / "local"
    run(
        "ansible-playbook", f"modelfleet.serving.{playbook}", "--syntax-check", "--inventory", str(inventory),
        cwd=home, env=env,
    )  # fmt: skip


@pytest.mark.parametrize("inventory", ["local", "multicloud"])
def test_the_inventories_describe_a_fleet(inventory: str, clean: tuple[Path, dict[str, str]], run: Run) -> None:
    home, env = clean
    path = home / "collections" / "ansible_collections" / "modelfleet" / "serving" / "inventories" / inventory
    hosts = json.loads(run("ansible-inventory", "--list", "--inventory", str(path), cwd=home, env=env))
    clusters = set(hosts["clusters"].get("hosts", []))
    clusters |= {host for group in hosts["clusters"].get("children", []) for host in hosts[group]["hosts"]}
    assert len(clusters) >= 3
    for cluster in clusters:
        facts = hosts["_meta"]["hostvars"][cluster]
        for name in ("cluster_cloud", "cluster_region", "cluster_jurisdiction", "cluster_capacity"):
            assert name in facts, f"{cluster} has no {name}"


def test_the_catalogue_of_the_worked_example_is_valid(clean: tuple[Path, dict[str, str]], run: Run) -> None:
    home, env = clean
    path = home / "collections" / "ansible_collections" / "modelfleet" / "serving" / "inventories" / "multicloud"
    run("ansible-playbook", "modelfleet.serving.validate", "--inventory", str(path), cwd=home, env=env)
