# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the arguments in ``module_utils/_cluster/arguments.py``."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of every module that talks to a cluster."""

    DOCUMENTATION = r"""
requirements:
  - kubernetes >= 36 (Python package, in the interpreter that runs the task)
options:
  kubeconfig:
    description:
      - Path of a kubeconfig file, or its content as a mapping.
      - Without it and without O(host), the default kubeconfig of the user is used, or the service account of the pod
        that the task runs in.
      - Environment variable E(K8S_AUTH_KUBECONFIG) is used when the option is not set.
    type: raw
  context:
    description:
      - Name of the context in the kubeconfig.
      - Environment variable E(K8S_AUTH_CONTEXT) is used when the option is not set.
    type: str
  host:
    description:
      - URL of the API server.
      - Environment variable E(K8S_AUTH_HOST) is used when the option is not set.
    type: str
  api_key:
    description:
      - Bearer token.
      - Environment variable E(K8S_AUTH_API_KEY) is used when the option is not set.
    type: str
  validate_certs:
    description:
      - Whether to verify the API server's certificate. Verified by default.
      - Environment variable E(K8S_AUTH_VERIFY_SSL) is used when the option is not set.
    type: bool
    aliases: [verify_ssl]
  ca_cert:
    description:
      - Path of the certificate authority's file.
      - Environment variable E(K8S_AUTH_SSL_CA_CERT) is used when the option is not set.
    type: path
    aliases: [ssl_ca_cert]
  client_cert:
    description:
      - Path of a client certificate.
      - Environment variable E(K8S_AUTH_CERT_FILE) is used when the option is not set.
    type: path
    aliases: [cert_file]
  client_key:
    description:
      - Path of the client certificate's key.
      - Environment variable E(K8S_AUTH_KEY_FILE) is used when the option is not set.
    type: path
    aliases: [key_file]
  proxy:
    description:
      - URL of an HTTP proxy on the way to the API server.
      - Environment variable E(K8S_AUTH_PROXY) is used when the option is not set.
    type: str
  request_timeout:
    description: Seconds that one request to the API server may take.
    type: float
    default: 30.0
"""
