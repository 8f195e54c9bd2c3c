#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask for the golden predictions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_probe
short_description: Hold a model's predictions against the right ones
description:
  - Sends golden requests, whose right answers are known, to a URL or to every pod of a server, and compares the answers.
  - Pods are reached through the API server, so this needs no way into the cluster but that.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
  - modelfleet.serving.attributes.cluster
  - modelfleet.serving.cluster
options:
  models:
    description: The models with their golden requests.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the model.
        type: str
        required: true
      golden:
        description: Its golden requests, one or more.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: Name of the request, for messages.
            type: str
            default: golden
          request:
            description: Body of the prediction request, such as C({"instances":[1.0,2.0,5.0]}).
            type: dict
            required: true
          response:
            description: The right answer, such as C({"predictions":[2.5,3.0,4.5]}).
            type: dict
            required: true
          tolerance:
            description: How far a number may be off, relative to the right one, or absolute near zero.
            type: float
            default: 1.0e-5
  url:
    description: Where to send the requests, such as the endpoint or a cluster's edge.
    type: str
  host_header:
    description: Host header of the requests, for an edge that tells models apart by it.
    type: str
  server:
    description: Name of a model server, every pod of which is asked.
    type: str
  namespace:
    description: The namespace of the server. Required with O(server).
    type: str
  timeout:
    description: Seconds for one request.
    type: float
    default: 5.0
  wait_timeout:
    description: Seconds to go on asking until every answer is right.
    type: int
    default: 0
  fail_on_wrong:
    description: Whether a wrong or missing answer fails the task.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Wait until every pod answers right
  modelfleet.serving.model_probe:
    context: gke-europe-west1
    namespace: serving
    server: serving
    wait_timeout: 60
    models: &models
      - name: half_plus_two
        golden:
          - request: {instances: [1.0, 2.0, 5.0]}
            response: {predictions: [2.5, 3.0, 4.5]}

- name: Ask through the endpoint
  modelfleet.serving.model_probe:
    url: http://127.0.0.1:8080
    models: *models
"""

RETURN = r"""
healthy:
  description: Whether every answer was right.
  returned: success
  type: bool
results:
  description: One entry a target and golden request.
  returned: success
  type: list
  elements: dict
  contains:
    target:
      description: The URL or pod.
      type: str
    model:
      description: Name of the model.
      type: str
    golden:
      description: Name of the golden request.
      type: str
    right:
      description: Whether the answer was right.
      type: bool
    error:
      description: What was wrong; empty when nothing was.
      type: str
    seconds:
      description: How long the answer took.
      type: float
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_probe import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
