# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the arguments in ``module_utils/_cluster/arguments.py``."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of every module that talks to a cluster."""

    DOCUMENTATION = r"""
requirements:
  - urllib3 >= 2 and PyYAML (Python packages, in the interpreter that runs the task)
  - websocket-client (Python package), to run commands in pods, by which stores are filled
  - PySocks (Python package), for a SOCKS proxy
  - kubernetes (Python package), for a kubeconfig's user with the legacy C(auth-provider)
options:
  kubeconfig:
    description:
      - Path of a kubeconfig file, its content as a mapping, or its content as text.
      - Several paths joined by a colon are merged by the rules of kubectl. The first that names a thing wins.
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
  username:
    description:
      - Name for basic authentication, for a server that offers it, or a proxy in front of one.
      - Environment variable E(K8S_AUTH_USERNAME) is used when the option is not set.
    type: str
  password:
    description:
      - Password for basic authentication.
      - Environment variable E(K8S_AUTH_PASSWORD) is used when the option is not set.
    type: str
  impersonate_user:
    description:
      - User to act as. The server checks that the real one may impersonate it.
      - Environment variable E(K8S_AUTH_IMPERSONATE_USER) is used when the option is not set.
    type: str
  impersonate_groups:
    description:
      - Groups to act as a member of, together with O(impersonate_user).
      - Environment variable E(K8S_AUTH_IMPERSONATE_GROUPS), separated by commas, is used when the option is not set.
    type: list
    elements: str
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
  tls_server_name:
    description:
      - Name that the API server's certificate has to bear, if it is not the one in its URL.
      - Environment variable E(K8S_AUTH_TLS_SERVER_NAME) is used when the option is not set.
    type: str
  proxy:
    description:
      - URL of an HTTP, HTTPS or SOCKS5 proxy on the way to the API server.
      - Without it, the kubeconfig's C(proxy-url) is used, or the variables E(HTTPS_PROXY) and E(NO_PROXY).
      - Environment variable E(K8S_AUTH_PROXY) is used when the option is not set.
    type: str
  no_proxy:
    description:
      - Hosts, domains, addresses and networks, separated by commas, to reach without a proxy.
      - Environment variable E(K8S_AUTH_NO_PROXY) is used when the option is not set.
    type: str
  proxy_headers:
    description: Headers that the proxy is sent.
    type: dict
    suboptions:
      proxy_basic_auth:
        description:
          - User and password for the proxy, as C(user:password). Those in the proxy's URL are used without it.
          - Environment variable E(K8S_AUTH_PROXY_HEADERS_PROXY_BASIC_AUTH) is used when the option is not set.
        type: str
      basic_auth:
        description:
          - User and password for basic authentication, as C(user:password), of proxies that want it in that header.
          - Environment variable E(K8S_AUTH_PROXY_HEADERS_BASIC_AUTH) is used when the option is not set.
        type: str
      user_agent:
        description:
          - How to introduce itself, such as C(foo/1.0).
          - Environment variable E(K8S_AUTH_PROXY_HEADERS_USER_AGENT) is used when the option is not set.
        type: str
  request_timeout:
    description: Seconds that one request to the API server may take.
    type: float
    default: 30.0
"""
