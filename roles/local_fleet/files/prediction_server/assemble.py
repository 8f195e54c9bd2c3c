# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reduce an installed TensorFlow to what the prediction server needs: two shared libraries and the messages.

    python assemble.py SITE_PACKAGES TARGET

SITE_PACKAGES has tensorflow-cpu and tensorflow-serving-api installed; TARGET gets a `tensorflow` package that holds
nothing but protocol messages and the libraries without their symbol tables, and `tensorflow_serving`. From 1.9 GB this
keeps 0.6 GB.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

LIBRARIES = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")
_IMPORT = re.compile(r"^from ([\w.]+) import (\w+_pb2(?:_grpc)?)", re.MULTILINE)


def messages(site: Path) -> list[Path]:
    """The generated modules that tensorflow_serving needs, those that they import included, relative to `site`."""
    todo = [path.relative_to(site) for path in (site / "tensorflow_serving").rglob("*_pb2*.py")]
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for package, module in _IMPORT.findall((site / path).read_text(encoding="utf-8")):
            if not package.startswith("google."):
                todo.append(Path(*package.split("."), module + ".py"))
    return sorted(seen)


def strip(source: Path, target: Path) -> None:
    """Copy a library without what only a linker or a debugger reads; whole where there is no `strip`."""
    tool = shutil.which("strip")
    if tool:
        subprocess.run([tool, "--strip-unneeded", "-o", str(target), str(source)], check=True)
    else:
        shutil.copyfile(source, target)


def main() -> None:
    """See the module's text."""
    site, target = Path(sys.argv[1]), Path(sys.argv[2])
    for path in messages(site):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        # An installer may have linked what is there to its cache: replace it, never write into it.
        (target / path).unlink(missing_ok=True)
        shutil.copyfile(site / path, target / path)
    packages = {path.parent for root in ("tensorflow", "tensorflow_serving") for path in (target / root).rglob("*.py")}
    for package in packages:
        while package != target:
            (package / "__init__.py").touch()
            package = package.parent
    for library in LIBRARIES:
        strip(site / "tensorflow" / library, target / "tensorflow" / library)


if __name__ == "__main__":
    main()
