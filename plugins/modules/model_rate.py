#!/usr/bin/python
# SPDX-FileCopyrightText: The modelfleet maintainers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests a second a cluster takes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_rate
short_description: Measure how many requests a second a cluster takes
description:
  - Sends the golden requests of the models in turn, one at a time first, then two, four and so on at once, each for O(step_seconds).
    It ends when the answers are late or wrong, when more at once no longer bring more answers, or at a bound.
  - The best rate whose answers were all right and in time is what the cluster takes.
  - This is load. Measure a cluster that is drained or has little to do. In check mode nothing is sent.
  - The machine that measures may be the limit, above some hundred requests a second for each of its processors.
version_added: 0.1.0
author:
  - The modelfleet maintainers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  url:
    description: Where to send the requests, such as a cluster's edge. A proxy of the environment is not used.
    type: str
    required: true
  host_header:
    description: Host header of the requests, for an edge that tells models apart by it.
    type: str
  validate_certs:
    description: Whether to verify the certificate of an C(https) URL.
    type: bool
    default: true
  models:
    description: The models with their golden requests, of which each is sent as often as the others.
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
      host:
        description: Host header of its requests, where it has one of its own.
        type: str
  replicas:
    description: How many replicas answer, to tell what one takes.
    type: int
    default: 1
  max_latency:
    description: Seconds that 95 of 100 answers must not exceed.
    type: float
    default: 0.1
  timeout:
    description: Seconds for one request.
    type: float
    default: 5.0
  step_seconds:
    description: Seconds for each step.
    type: float
    default: 3.0
  max_seconds:
    description: Seconds for all steps.
    type: float
    default: 30.0
  max_requests:
    description: How many requests to send in all.
    type: int
    default: 20000
  max_at_once:
    description: How many requests to have under way at most.
    type: int
    default: 32
"""

EXAMPLES = r"""
- name: Measure what a cluster of two replicas takes
  modelfleet.serving.model_rate:
    url: http://127.0.0.1:8081
    replicas: 2
    models:
      - name: half_plus_two
        golden:
          - request: {instances: [1.0, 2.0, 5.0]}
            response: {predictions: [2.5, 3.0, 4.5]}
  register: measured
"""

RETURN = r"""
rate:
  description: Right answers a second, within the latency; null in check mode.
  returned: success
  type: float
replica_rate:
  description: The same for one replica.
  returned: success
  type: float
limit:
  description:
    - What ended the measurement. V(latency) and V(error) mean that the next step was late or wrong, V(saturated) that it brought no
      more; V(time), V(requests) and V(at_once) are the bounds, so it may take more than that.
  returned: success
  type: str
steps:
  description: What came of each step, the one over the limit included; C(latency) is that of 95 of 100 answers.
  returned: success
  type: list
  elements: dict
  sample: [{"at_once": 1, "requests": 471, "rate": 157.0, "latency": 0.008, "error": ""}]
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._call import run_as_module
from ansible_collections.modelfleet.serving.plugins.module_utils._features.model_rate import FEATURE


def main() -> None:
    """Run the module."""
    run_as_module(FEATURE)


if __name__ == "__main__":
    main()
