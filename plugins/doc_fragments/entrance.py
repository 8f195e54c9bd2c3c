# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of where in a cluster's edge a route begins, in ``module_utils/_features/route_options.py``."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of every module that lets requests in."""

    DOCUMENTATION = r"""
options:
  kind:
    description: Whether to use Ingress, the Gateway API or OpenShift's Route.
    type: str
    choices: [ingress, gateway, openshift]
    default: ingress
  hostname:
    description: Host name that requests must carry; any without it. Required with O(kind=openshift).
    type: str
  ingress_class:
    description: Ingress class, for O(kind=ingress); the cluster's default without it.
    type: str
  gateway:
    description: The Gateway to attach to. Required with O(kind=gateway).
    type: dict
    suboptions:
      name:
        description: Name of the Gateway.
        type: str
        required: true
      namespace:
        description: Its namespace; O(namespace) without it.
        type: str
      section:
        description: The listener to attach to, such as the one that ends TLS; all of them without it.
        type: str
  tls:
    description:
      - The certificate of O(hostname). Requests then have to come by TLS.
      - Not with O(kind=gateway), where a listener has the certificate; name it in O(gateway.section).
    type: dict
    suboptions:
      secret:
        description:
          - Name of a Secret in O(namespace) with the certificate and its key, as cert-manager makes them.
          - With O(kind=openshift), the router's service account has to be allowed to read it.
        type: str
        required: true
  annotations:
    description: Annotations of the objects, for the controller. They win over those that this module sets.
    type: dict
    default: {}
"""
