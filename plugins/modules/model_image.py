#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image of a model that is served by its own code."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_image
short_description: Build the image of a model and bring it to the clusters
description:
  - Builds an image from a folder with a Dockerfile, and pushes it to a registry or loads it into the nodes of kind clusters.
  - The image's tag is a digest of the folder's files and of the build's options, so a folder that has not changed builds
    nothing, wherever and whenever it was checked out, and a name always means the same files.
  - An image that is already where it is wanted is not built, pushed or loaded again.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
requirements:
  - docker >= 7 (Python package, in the interpreter that runs the task)
  - a Docker engine, 20.10 or later, that this user may use
notes:
  - A base image that moves under one name, such as C(python:3.12-slim), does not change the tag. Name it by its digest, or give
    it as a build argument, to have an image built anew for it.
  - Modes, times and owners of the files do not count, but that a file is executable. In the image they are the same for
    everybody.
  - Build arguments can be read by who has the image, so they are no place for secrets.
options:
  path:
    description:
      - The folder, which is the context of the build.
      - What its C(.dockerignore) leaves out does not count.
    type: path
    required: true
  repository:
    description: Name of the image, without a tag, such as C(registry.example.com/team/forest).
    type: str
    required: true
  state:
    description:
      - Whether the image should be there.
      - With V(absent), the image of this content is removed from the engine and from the nodes of O(load_into), and stays in the
        registry.
    type: str
    choices: [present, absent]
    default: present
  dockerfile:
    description: Path of the Dockerfile, below O(path).
    type: str
    default: Dockerfile
  build_args:
    description: Build arguments. One that is V(null) is left out.
    type: dict
    default: {}
  platform:
    description: What to build for, such as V(linux/arm64); the engine's own platform without it.
    type: str
  network:
    description: Network of the build's commands, such as V(host); the engine's default without it.
    type: str
  push:
    description: Whether the image should be in its registry.
    type: bool
    default: false
  registry_auth:
    description: Login to the registry; what C(docker login) has stored for this user without it.
    type: dict
    suboptions:
      username:
        description: User name.
        type: str
        required: true
      password:
        description: Password or token.
        type: str
        required: true
  load_into:
    description: Containers of kind nodes on the same engine that should have the image.
    type: list
    elements: str
    default: []
  docker_host:
    description:
      - URL of the engine, such as C(unix:///var/run/docker.sock).
      - Without it, the environment decides by E(DOCKER_HOST), E(DOCKER_TLS_VERIFY) and E(DOCKER_CERT_PATH).
    type: str
  timeout:
    description: Seconds that the engine may be silent, such as in a long step of a build.
    type: int
    default: 1200
"""

EXAMPLES = r"""
- name: Build a forest and push it
  modelfleet.serving.model_image:
    path: models/forest
    repository: registry.example.com/team/forest
    push: true
  delegate_to: localhost
  run_once: true
  register: forest

- name: Serve it
  modelfleet.serving.image_server:
    context: gke-europe-west1
    name: forest
    namespace: serving
    model: forest
    image: "{{ forest.image }}"

- name: Build it for kind clusters
  modelfleet.serving.model_image:
    path: models/forest
    repository: team/forest
    build_args:
      BASE: python:3.12-slim
    load_into: [kind-control-plane]
"""

RETURN = r"""
image:
  description: The image's name with its tag, also in check mode.
  returned: success
  type: str
  sample: registry.example.com/team/forest:3f1c0e7a52d84b96
steps:
  description: What was done, or would be.
  returned: success
  type: list
  elements: dict
  contains:
    action:
      description: One of V(build), V(pull), V(push), V(load) and V(remove).
      type: str
    place:
      description: V(engine), V(registry), or the node.
      type: str
build_output:
  description: The last lines of the build's output.
  returned: when the build failed
  type: list
  elements: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_image import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
