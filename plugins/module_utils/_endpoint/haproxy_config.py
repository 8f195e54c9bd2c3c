# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""HAProxy's configuration file: written from a definition, and read back from its own comment. Pure.

The template is text in a Python file because module_utils cannot ship data files. It needs HAProxy 2.6 or later.

What was found out with HAProxy 2.6.12, and why the file is as it is:

- A drained member has weight 0 and is not ``disabled``: its health checks go on, so that a failback can see them.
- Everything the user writes stands between apostrophes, where HAProxy takes every other character as it is; JSON and
  expressions are escaped so that they hold no apostrophe.
- A request is retried only when it fits one buffer *and* came in whole before it was sent: ``tune.bufsize`` and
  ``option http-buffer-request``. Buffers are taken when needed, not one a connection.
- ``ungrpc(1.1)`` is binary, and a cast to a string would be its hexadecimal form, so models are matched as ``-m bin``.
- Comment lines may be tens of thousands of characters long.
- Connections to the process' own socket count for ``maxconn``. When clients alone could reach it, none of them would get
  an answer, since nothing inside would be accepted.
- A check that fails is repeated after ``fastinter``; without it, a silent member would be found one interval later.
- A cluster that is too slow for its share answers checks in time now and then, most of all once it has no share. Two in a
  row brought it back every few seconds, for the next requests to wait in; ten in a row take 0.7 s of a sound one.
- No ``observe layer7``: requests that every cluster answers by 500 would take all of them out, one after another.
- ``use-server`` takes a server of weight 0, and a retry never does; so the first way and the second are told apart.
- ``backup`` cannot be set or taken away while HAProxy runs, a weight can. So each member has a second server that is a
  backup, and its state says which of the two has a weight. A server of weight 0 counts neither as active nor as backup.
- ``leastconn`` gives idle servers equal shares, whatever their weights, so a canary of 1 % would get a third, and
  ``roundrobin`` goes on sending a cluster its share that has begun to hang. ``random(2)`` draws two by weight and takes
  the one with less to do for its weight.
- Only a proxy with the ability of a backend may change what HAProxy itself answers, by ``http-after-response``.
"""

# ruff: noqa: E501 (a directive of HAProxy is one line)
from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.definition import (
    Endpoint,
    Member,
    Model,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._endpoint.haproxy_check import http_check
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import InputError

OWNERSHIP = "# Managed by modelfleet.serving.global_endpoint: its next run undoes changes made here by hand."
# Ends the name of the server by which a member stands by; no member's name has a dot.
STANDBY = ".standby"
_DEFINITION = "# modelfleet-endpoint: "
# How a server gets its first address.
_LOOKUPS = "init-addr last,libc,none"
# Beside the body, a buffer holds the headers and what HAProxy reserves for rewriting them.
_BUFFER_RESERVE = 32 * 1024

_TEMPLATE = """\
{{ ownership }}
{{ definition }}
global
    description {{ description }}
    log stdout format raw local0 notice
    # Each client has a second connection inside, which must never wait for a third client to leave.
    maxconn {{ 3 * settings.max_connections + 1000 }}
    # A request is retried on another cluster only when it fits one buffer.
    tune.bufsize {{ buffer }}
    # Connections that live long keep an old process, with the old members, alive after a reload; not for ever.
    hard-stop-after {{ hard_stop }}s
{% if settings.runtime_bind %}
    stats socket {{ settings.runtime_bind }} level admin
{% endif %}
{% if settings.user %}
    user {{ settings.user }}
{% endif %}
{% if settings.group %}
    group {{ settings.group }}
{% endif %}

defaults
    mode http
    log global
    # Who has to wait for a connection waits in the kernel; with too little room there, it would try again after a second.
    backlog {{ settings.max_connections + 1000 }}
    timeout client 60s
    timeout http-request 30s
    timeout http-keep-alive 60s
    timeout queue 10s
    timeout connect {{ milliseconds(settings.connect_timeout) }}
{% if endpoint %}
    timeout check {{ milliseconds(settings.check_timeout) }}
    option http-buffer-request
    # Each retry goes to another cluster: plain 'redispatch' would change the server on the last one only.
    option redispatch 1
    retries {{ settings.retries }}
    retry-on conn-failure empty-response response-timeout 502 503 504
    option allbackups
    balance random(2)
    default-server inter {{ milliseconds(settings.check_interval) }} fastinter {{ milliseconds(settings.check_interval / 5) }} fall 2 rise 10
    default-server on-marked-down shutdown-sessions
{%- if named %} {{ lookups }} resolvers names resolve-prefer ipv4{% endif %}

    http-error status 400 content-type application/json string '{ "error": "The request is malformed." }'
    http-error status 408 content-type application/json string '{ "error": "The request did not come in whole in time." }'
    http-error status 500 content-type application/json string '{ "error": "The endpoint failed." }'
    http-error status 502 content-type application/json string '{ "error": "The clusters gave no valid answer." }'
    http-error status 503 content-type application/json string '{ "error": "No cluster can take the request." }'
    http-error status 504 content-type application/json string '{ "error": "No cluster answered in time." }'
{% if named %}

resolvers names
{% for address in settings.resolvers %}
    nameserver dns{{ loop.index }} {{ address }}
{% else %}
    parse-resolv-conf
{% endfor %}
    accepted_payload_size 8192
    resolve_retries 3
    timeout resolve 1s
    timeout retry 500ms
    hold valid 1s
{% endif %}

# REST and gRPC on one port: HTTP/2 is recognised by its preface.
frontend endpoint
    bind {{ settings.bind }}{% if settings.certificate %} ssl crt {{ settings.certificate }} ssl-min-ver TLSv1.2 alpn h2,http/1.1{% endif %}

    maxconn {{ settings.max_connections }}
    acl grpc path_beg /tensorflow.serving.
    acl idempotent method GET HEAD
    acl idempotent path_end :predict :classify :regress
    http-request disable-l7-retry unless idempotent or grpc
    use_backend again-grpc if grpc
    default_backend again-rest

# When a cluster goes down, its requests are given up at once, also those that still connect; HAProxy retries only the
# ones that were connected. This hop inside the process sees the others end without an answer, and sends them again.
{% for protocol, options in {"rest": "", "grpc": " proto h2"}.items() %}
backend again-{{ protocol }}
    timeout server {{ milliseconds(patience) }}
{% if trying %}
    # 425 is how the hasty way says that it gave up. A server of weight 0 is no choice of a retry, so that one is patient.
    retry-on conn-failure empty-response 425
{% if protocol == "rest" %}
    acl repeatable method GET HEAD
    acl repeatable path_end :predict :classify :regress
{% else %}
    acl repeatable always_true
{% endif %}
    # What does not fit a buffer cannot be sent again, so a short time would be all it has.
    acl whole req.body_size le {{ settings.max_body }}
    # When hasty tries end in vain for more than a tenth, the clusters are slow, and more tries would make them slower.
    http-request set-var(txn.spare) srv_sess_rate(again-{{ protocol }}/hasty),div(10),add(10)
    use-server hasty if repeatable whole { srv_sess_rate(again-{{ protocol }}/patient),sub(txn.spare) lt 0 }
    use-server plain if TRUE
    server hasty {{ inside }}-hasty weight 0{{ options }}
    server plain {{ inside }} weight 0{{ options }}
{% else %}
    retry-on conn-failure empty-response
{% endif %}
    server patient {{ inside }}{{ options }}

{% endfor %}
frontend routing
    bind {{ inside }} name patient
{% if trying %}
    bind {{ inside }}-hasty name hasty
{% endif %}
    acl rest path_beg /v1/models/
    acl grpc path_beg /tensorflow.serving.PredictionService/
    acl grpc path /tensorflow.serving.ModelService/GetModelStatus
    acl idempotent method GET HEAD
    acl idempotent path_end :predict :classify :regress
    http-request disable-l7-retry unless idempotent or grpc
    http-request set-var(txn.backend) path,field(4,/),field(1,:) if rest
    http-request set-var-fmt(txn.backend) 'rest.%[var(txn.backend)]' if rest
    # The name of the model is the first field of the first field of every gRPC request.
{% for model in endpoint.models %}
    http-request set-var(txn.backend) str(grpc.{{ model.name }}) if grpc { req.body,ungrpc(1.1) -m bin {{ hexadecimal(model.name) }} }
{% endfor %}
    # When every check of a model fails, the checks (or the model) are wrong everywhere: better an answer than none.
    use_backend open-%[var(txn.backend)] if { var(txn.backend),nbsrv eq 0 }
{% for model in trying %}
    use_backend try-%[var(txn.backend)] if { so_name hasty } { var(txn.backend) -m str rest.{{ model.name }} grpc.{{ model.name }} }
{% endfor %}
    use_backend %[var(txn.backend)] if { var(txn.backend) -m found }
    default_backend unknown
{% for model in endpoint.models %}

backend rest.{{ model.name }}
    timeout server {{ milliseconds(model.timeout) }}
{% for line in http_check(model.name, model.golden, model.host or "modelfleet") %}
    {{ line }}
{% endfor %}
{{ servers("rest", model) }}

backend grpc.{{ model.name }}
    timeout server {{ milliseconds(model.timeout) }}
{{ servers("grpc", model) }}

{% if model.try_timeout %}
{% for protocol in ("rest", "grpc") %}
# Two clusters have a short time each.
backend try-{{ protocol }}.{{ model.name }}
    timeout server {{ milliseconds(model.try_timeout) }}
    timeout connect {{ milliseconds([model.try_timeout, settings.connect_timeout] | min) }}
    retries 1
    http-after-response set-status 425 if { status 502:504 }
{{ servers("try-" ~ protocol, model) }}

{% endfor %}
{% endif %}
backend open-rest.{{ model.name }}
    timeout server {{ milliseconds(model.timeout) }}
{{ servers("open-rest", model) }}

backend open-grpc.{{ model.name }}
    timeout server {{ milliseconds(model.timeout) }}
{{ servers("open-grpc", model) }}
{% endfor %}

# The words and the codes of TF Serving.
backend unknown
    acl rest path_beg /v1/models/
    acl grpc path_beg /tensorflow.serving.
    http-request set-var(txn.grpc) bool(true) if grpc
    # An answer without a body may not name a type at once.
    http-after-response set-header content-type application/grpc if { var(txn.grpc) -m bool }
    http-request return status 200 hdr grpc-status 5 hdr grpc-message 'Servable not found for request' if grpc
    http-request set-var(txn.model) path,field(4,/),field(1,:),json(utf8s) if rest
    http-request return status 404 content-type application/json{#
    #} lf-string '{ "error": "Could not find any versions of model %[var(txn.model)]" }' if rest { method GET HEAD }
    http-request return status 404 content-type application/json{#
    #} lf-string '{ "error": "Servable not found for request: Latest(%[var(txn.model)])" }' if rest
    http-request return status 404 content-type application/json string '{ "error": "Models are at /v1/models/NAME" }'
{% else %}

# The endpoint was removed. HAProxy needs something to listen on.
frontend endpoint
    bind {{ settings.bind }}
    http-request return status 503 content-type application/json string '{ "error": "There is no endpoint here." }'
{% endif %}
{% if settings.stats_bind %}

frontend statistics
    bind {{ settings.stats_bind }}
    stats enable
    stats uri /
    stats refresh 2s
    stats show-legends
    stats show-desc '{{ "Global endpoint " ~ endpoint.name ~ ": the clusters that carry its models" if endpoint else "There is no endpoint here" }}'
{% endif %}
"""


def render(endpoint: Endpoint | None, settings: dict[str, Any], leaving: Endpoint | None = None) -> str:
    """Write the file for a definition, or, without one, for a HAProxy that carries nothing.

    :param leaving: the definition of the endpoint that is taken away, to be kept until HAProxy has let go of it.
    """
    return _render(endpoint, settings, description(endpoint, settings), leaving)


def description(endpoint: Endpoint | None, settings: dict[str, Any]) -> str:
    """Name what the file makes HAProxy be, but for weights and states, which can be set at run time, and the epoch.

    HAProxy tells its description, so this shows whether the running process has this file.
    """
    if endpoint is not None:
        endpoint = replace(endpoint, members=tuple(_without_traffic(member) for member in endpoint.members), epoch=0)
    digest = hashlib.sha256(_render(endpoint, settings, "").encode()).hexdigest()[:16]
    return f"modelfleet endpoint {endpoint.name if endpoint else 'none'} {digest}"


def _without_traffic(member: Member) -> Member:
    return replace(member, weight=1, state="active")


def without_lookups(text: str) -> str:
    """Give a file that HAProxy can judge without looking up a name: that of a dead cluster may take it seconds."""
    return text.replace(f" {_LOOKUPS} ", " init-addr none ")


def read_definition(text: str) -> tuple[bool, Endpoint | None]:
    """Tell whether a file is ours, and what it defines.

    :raises ValueError: when the file is ours and its definition cannot be read.
    """
    lines = text.splitlines()
    if not lines or lines[0] != OWNERSHIP:
        return False, None
    for line in lines[1:]:
        if line.startswith(_DEFINITION):
            try:
                stored = json.loads(line.removeprefix(_DEFINITION))
                return True, Endpoint.from_dict(stored) if stored else None
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"its definition is damaged, or written by a newer version of this collection: {error!r}"
                ) from error
    # The mark alone: a file prepared for the first run.
    return True, None


def servers_of(model: Model, member: Member) -> Iterator[tuple[str, str, int]]:
    """Give the servers by which a member carries a model: backend, name of the server, and weight.

    Without one, the model's requests cannot leave their jurisdiction, not even when all its checks fail.
    """
    if not model.may_be_served_by(member):
        return
    active, standby = (member.weight if member.state == state else 0 for state in ("active", "standby"))
    tries = ("try-rest", "try-grpc") if model.try_timeout else ()
    for prefix in ("rest", "grpc", *tries):
        yield f"{prefix}.{model.name}", member.name, active
        yield f"{prefix}.{model.name}", member.name + STANDBY, standby
    for prefix in ("open-rest", "open-grpc"):
        # Unchecked, the active members are never down.
        yield f"{prefix}.{model.name}", member.name, active


def _render(
    endpoint: Endpoint | None, settings: dict[str, Any], description: str, leaving: Endpoint | None = None
) -> str:
    kept = endpoint or leaving
    stored = json.dumps(kept.stored() if kept else None, separators=(",", ":"), sort_keys=True)
    named = endpoint is not None and any(not _is_ip(member.address) for member in endpoint.members)
    longest = max((model.timeout for model in endpoint.models), default=0.0) if endpoint else 0.0

    def servers(kind: str, model: Model) -> str:
        lines = []
        for member in endpoint.members if endpoint else ():
            address = f"[{member.address}]" if ":" in member.address else member.address
            for backend, name, weight in servers_of(model, member):
                if backend != f"{kind}.{model.name}":
                    continue
                words = ["    server", name, f"{address}:{member.port}", f"weight {weight}"]
                words += ["backup"] if name.endswith(STANDBY) else []
                words += ["proto h2"] if kind.endswith("grpc") else []
                if (kind, name) == ("rest", member.name):
                    words.append("check")
                elif not kind.startswith("open"):
                    words.append(f"track rest.{model.name}/{member.name}")
                words += [_tls(settings, model, member, kind.endswith("grpc"))] if settings["member_tls"] else []
                lines.append(" ".join(words))
        host = f"    http-request set-header Host '{model.host}'\n" if model.host else ""
        return host + "\n".join(lines)

    text: str = _template().render(
        ownership=OWNERSHIP,
        definition=_DEFINITION + stored,
        description=description,
        settings=settings,
        endpoint=endpoint,
        named=named,
        lookups=_LOOKUPS,
        trying=[model for model in endpoint.models if model.try_timeout] if endpoint else [],
        buffer=settings["max_body"] + _BUFFER_RESERVE,
        hard_stop=max(30, math.ceil(2 * longest)),
        # A socket inside the machine, of a name that no second HAProxy there has.
        inside=f"abns@modelfleet-{settings['bind'].rpartition(':')[2]}",
        patience=(settings["retries"] + 1) * (longest + settings["connect_timeout"]) + 10,
        milliseconds=lambda seconds: f"{max(1, round(seconds * 1000))}ms",
        hexadecimal=lambda name: name.encode().hex(),
        http_check=http_check,
        servers=servers,
    )
    return text


def check_everybody_serves(endpoint: Endpoint) -> None:
    """Refuse a member that would wait for requests that it never gets.

    :raises InputError: naming the member.
    """
    for member in endpoint.members:
        if member.state != "drained" and not any(model.may_be_served_by(member) for model in endpoint.models):
            raise InputError(
                f"haproxy: {member.name} ({member.jurisdiction or 'no jurisdiction'}) may serve none of the models.",
                hint="Correct its jurisdiction, or drain it.",
            )


def check_tls_names(endpoint: Endpoint) -> None:
    """Refuse a member whose certificate cannot be verified, since nobody knows its name.

    :raises InputError: naming the member.
    """
    if not endpoint.settings["member_tls"]:
        return
    for model in endpoint.models:
        for member in endpoint.members:
            if model.may_be_served_by(member) and not _tls_name(endpoint.settings, model, member):
                raise InputError(
                    f"haproxy: {member.name} has the address {member.address}, so which name its certificate must have for"
                    f" the model {model.name} is not known.",
                    hint="Set haproxy.member_tls_name, give the member's host name, or the model its host.",
                )


def _tls_name(settings: Mapping[str, Any], model: Model, member: Member) -> str:
    """Give the name that a member's certificate must have; empty where there is none."""
    return settings["member_tls_name"] or model.host or ("" if _is_ip(member.address) else member.address)


def _tls(settings: Mapping[str, Any], model: Model, member: Member, http2: bool) -> str:
    """Give the words of a server that is reached by TLS."""
    name, protocol = _tls_name(settings, model, member), "h2" if http2 else "http/1.1"
    words = f"ssl verify required ca-file {settings['member_ca']} sni str({name}) verifyhost {name} alpn {protocol}"
    return f"{words} check-sni {name} check-alpn {protocol}"


@functools.cache
def _template() -> Any:
    # Not at the top: a module that only imports this file, such as another balancer's, does not need Jinja2.
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(_TEMPLATE)


def _is_ip(address: str) -> bool:
    return ":" in address or address.replace(".", "").isdigit()
