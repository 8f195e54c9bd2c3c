# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ansible-test sanity``, which needs nothing but a package index."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import ansible_test
import pytest
from gates import CACHE, Run

# pslint and shellcheck need PowerShell and shellcheck, and there is neither PowerShell nor a shell script to check.
SKIPPED = ["pslint", "shellcheck"]
# The programs inside the local fleet's images are no Ansible code; ruff checks them.
EXCLUDED = ["roles/local_fleet/files/"]


@pytest.fixture(scope="session")
def home() -> Path:
    """Make a home directory in which ansible-test finds pip, and keeps its environments from one run to the next."""
    home = CACHE / "ansible-test"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    requirements = Path(next(iter(ansible_test.__path__))) / "_internal" / "python_requirements.py"
    versions = set(re.findall(r"""pip=["']([0-9.]+)["']""", requirements.read_text()))
    assert versions, "ansible-test has another way to get pip now"
    for version in versions:
        shutil.copy(Path(__file__).parent / "get_pip.py", cache / f"get_pip_{version.replace('.', '_')}.py")
    # The user's settings for pip, such as another package index.
    for settings in (".config/pip", ".pip"):
        if (Path.home() / settings).is_dir() and not (home / settings).exists():
            (home / settings).parent.mkdir(parents=True, exist_ok=True)
            (home / settings).symlink_to(Path.home() / settings)
    return home


def test_sanity(source_copy: Path, home: Path, run: Run) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    skipped = [f"--skip-test={test}" for test in SKIPPED]
    excluded = [f"--exclude={path}" for path in EXCLUDED]
    run("ansible-test", "sanity", "--python", version, *skipped, *excluded, cwd=source_copy, env={"HOME": str(home)})
