# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the arguments in ``module_utils/_endpoint/arguments.py``."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of every module that talks to a balancer."""

    DOCUMENTATION = r"""
requirements:
  - jinja2 (Python package, in the interpreter that runs the task), for O(balancer=haproxy)
  - HAProxy 2.6 or later, started with C(-W -S ADDRESS), for O(balancer=haproxy)
  - dnspython >= 2.1 (Python package, in the interpreter that runs the task), for O(balancer=rfc2136)
  - boto3 >= 1.34 (Python package, in the interpreter that runs the task), for O(balancer=route53)
  - azure-mgmt-trafficmanager >= 2.0 and azure-identity (Python packages, in the interpreter that runs the task), for
    O(balancer=traffic_manager)
  - cloudflare >= 5 (Python package, in the interpreter that runs the task), for O(balancer=cloudflare)
  - google-api-python-client >= 2.100 (Python package, in the interpreter that runs the task), for
    O(balancer=google_cloud)
options:
  balancer:
    description: What carries the endpoint.
    type: str
    choices: [cloudflare, google_cloud, haproxy, rfc2136, route53, traffic_manager]
    default: haproxy
  cloudflare:
    description:
      - How to reach Cloudflare, which host name carries the endpoint, and how it is set up. Required with
        O(balancer=cloudflare).
      - The options up to O(cloudflare.timeout) say how to reach it, by the names that community.general.cloudflare_dns
        has for them. A setting that is left out keeps its stored value, or gets the default named here when the
        endpoint is created.
    type: dict
    suboptions:
      zone:
        description: Name or id of the zone. An id is needed where several accounts have a zone of that name.
        type: str
        required: true
        aliases: [domain]
      record:
        description:
          - Complete host name of the load balancer.
          - The definition is kept in the load balancer's description.
        type: str
        required: true
      account_id:
        description: Id of the account that has the monitors and pools. That of the zone, unless set.
        type: str
      api_token:
        description:
          - API token. Without O(cloudflare.api_token) and O(cloudflare.account_api_key), E(CLOUDFLARE_TOKEN) or
            E(CLOUDFLARE_API_TOKEN).
        type: str
      account_api_key:
        description:
          - API key of a user, with O(cloudflare.account_email). It excludes O(cloudflare.api_token).
          - Where nothing is given and there is no token in the environment, E(CLOUDFLARE_API_KEY).
        type: str
        aliases: [account_api_token]
      account_email:
        description: E-mail address of the user of the key, or E(CLOUDFLARE_EMAIL).
        type: str
      endpoint_url:
        description: Address of the API, or E(CLOUDFLARE_BASE_URL).
        type: str
      timeout:
        description: Seconds for one answer. What fails in passing is tried eight times, with growing pauses.
        type: float
        default: 30.0
      policy:
        description:
          - How a member is chosen. V(weighted) when it is created.
          - With V(weighted), active members get shares by weight, in hundredths of the largest. One member can stand
            by, and gets the traffic when none of these is healthy.
          - With V(failover), there is one active member. Any number stand by, and take over in the order of their
            weight.
          - With V(geographic), O(cloudflare.locations) says who serves where.
        type: str
        choices: [weighted, failover, geographic]
      proxied:
        description:
          - Whether requests pass through Cloudflare. Otherwise it only answers with the members' addresses.
          - V(true) when it is created.
        type: bool
      ttl:
        description:
          - Seconds for which resolvers keep an answer, without O(cloudflare.proxied), 30 to 86400.
          - V(30) when it is created.
        type: int
      locations:
        description:
          - The members of each place, the preferred first. The first healthy one that is active serves it, or else
            the first standby.
          - Places are V(country:DE), regions of Cloudflare such as V(region:WEU), and V(*) for everywhere else, which
            is needed.
          - Give all of them at once. V({}) when it is created.
        type: dict
      health_check_type:
        description: How Cloudflare checks the members. V(NONE) for not at all. V(HTTP) when it is created.
        type: str
        choices: [HTTP, HTTPS, TCP, NONE]
      health_check_port:
        description: Port to check; V(0) for the member's own. V(0) when it is created.
        type: int
      health_check_path:
        description:
          - Path that the health check asks for by C(GET), C({model}) in it being the only model. A member has one
            check, so with several models it must tell of all of them, as the prober's V(/healthz) does.
          - When it is empty, the check asks for the metadata of the only model. Only a loaded model has any,
            but a wrong one has it, too.
          - Empty when it is created.
        type: str
      health_check_host:
        description: Host that the checks ask for; empty for O(cloudflare.record). Empty when it is created.
        type: str
      health_check_interval:
        description:
          - Seconds between two checks, 5 to 3600. V(60) when it is created.
          - How short it may be depends on the plan.
        type: int
      health_check_timeout:
        description: Seconds for an answer to a check, 1 to 10. V(5) when it is created.
        type: int
      health_check_retries:
        description: How often a check is tried again at once when there is no answer, 0 to 5. V(2) when it is created.
        type: int
      health_check_threshold:
        description: How many checks in a row must fail, or pass, 1 to 10. V(1) when it is created.
        type: int
      health_check_regions:
        description:
          - Regions from which Cloudflare checks. Empty for what the plan has. Empty when it is created.
        type: list
        elements: str
        choices: [WNAM, ENAM, WEU, EEU, NSAM, SSAM, OC, ME, NAF, SAF, SAS, SEAS, NEAS]
      health_check_validate_certs:
        description: Whether V(HTTPS) checks need a trusted certificate. V(true) when it is created.
        type: bool
  google_cloud:
    description:
      - How to reach Google Cloud, which global external Application Load Balancer carries the endpoint, and how it is
        set up. Required with O(balancer=google_cloud).
      - The options up to O(google_cloud.operation_timeout) say how to reach it, by the names that google.cloud has for
        them. A setting that is left out keeps its stored value, or gets the default named here when the endpoint is
        created.
    type: dict
    suboptions:
      url_map:
        description:
          - Name of the URL map, which holds the definition; the names of all other objects begin with it. At most 40
            characters.
        type: str
        required: true
      project:
        description: Id of the project, or E(GCP_PROJECT).
        type: str
      auth_kind:
        description:
          - Kind of the credentials, or E(GCP_AUTH_KIND).
          - Without it, V(serviceaccount) where its file or contents are given, V(accesstoken) where a token is, and
            else V(application).
        type: str
        choices: [application, machineaccount, serviceaccount, accesstoken]
      service_account_file:
        description: File with the key of a service account, or E(GCP_SERVICE_ACCOUNT_FILE).
        type: path
      service_account_contents:
        description: The key of a service account itself, as JSON, or E(GCP_SERVICE_ACCOUNT_CONTENTS).
        type: jsonarg
      service_account_email:
        description: Service account of the machine, for V(machineaccount), or E(GCP_SERVICE_ACCOUNT_EMAIL).
        type: str
      access_token:
        description: A token, for V(accesstoken), or E(GCP_ACCESS_TOKEN).
        type: str
      scopes:
        description:
          - What the credentials are asked to allow, or E(GCP_SCOPES), with commas.
          - V(https://www.googleapis.com/auth/compute) unless set.
        type: list
        elements: str
      endpoint_url:
        description: Address of the API without its path, for gateways and emulators.
        type: str
      ca_path:
        description: File with the certificate authorities to trust.
        type: path
      validate_certs:
        description: Whether to check the server's certificate.
        type: bool
        default: true
      timeout:
        description: Seconds for one answer. What fails in passing is tried eight times, with growing pauses.
        type: float
        default: 20.0
      operation_timeout:
        description: Seconds until Google must have done one change.
        type: float
        default: 300.0
      zones:
        description:
          - The zone of each member that is reached by a private connection (Cloud VPN, Cloud Interconnect), by its
            name, such as V(europe-west1-b). Google checks such members, and others stand in for one that fails.
          - Without any, members are reached through the internet, unchecked, and nobody stands in for them.
          - All members have one, or are in O(google_cloud.negs), or none is. Names that are no members are ignored.
          - Give all of them at once. V({}) when it is created.
        type: dict
      negs:
        description:
          - The zonal network endpoint groups of each member that has its own, such as those that GKE makes of a
            Service, as a list of their addresses (C(https://www.googleapis.com/compute/v1/projects/.../networkEndpointGroups/...)).
          - They are used as they are, and the member's address and port mean nothing then. Google checks them.
          - Give all of them at once. V({}) when it is created.
        type: dict
      network:
        description: Name or address of the VPC network with these connections. The project's C(default) one when it is
          created.
        type: str
      protocol:
        description: How members are asked. V(H2C) and V(HTTP2) carry gRPC, too. V(HTTP) when it is created.
        type: str
        choices: [HTTP, HTTPS, HTTP2, H2C]
      retries:
        description:
          - How many more tries a request gets that ends with status 502, 503 or 504, or without a connection, 0 to 10.
          - V(2) when it is created.
        type: int
      certificates:
        description:
          - Names or addresses of the SSL certificates, up to 15. With any, the endpoint speaks HTTPS.
          - V([]) when it is created.
        type: list
        elements: str
      certificate_map:
        description: Name or address of a map of Certificate Manager, in place of O(google_cloud.certificates). None
          when it is created.
        type: str
      domains:
        description:
          - Host names for each of which Google makes a certificate and renews it. With any, the endpoint speaks HTTPS.
          - A certificate is there once the name leads to the endpoint's address; until then, and for up to an hour
            after, TLS fails for it.
          - V([]) when it is created.
        type: list
        elements: str
      address:
        description:
          - Name of a global external address that somebody has reserved, on which the endpoint then is. It is used as
            it is, and stays when the endpoint goes.
          - When it is empty, the endpoint has an address of its own, which comes and goes with it.
          - Others may use other ports of it. Empty when it is created.
        type: str
      ports:
        description:
          - Ports at which clients reach the endpoint, all of them with HTTP, or all with HTTPS.
          - When it is empty, it is 443 with a certificate, and else 80.
          - V([]) when it is created.
        type: list
        elements: int
      labels:
        description: Labels of the forwarding rules and of the address, for people and bills. Give all of them at once.
          V({}) when it is created.
        type: dict
      health_check_type:
        description: How Google checks members that have a zone. V(HTTP) when it is created.
        type: str
        choices: [HTTP, HTTPS, HTTP2, TCP]
      health_check_port:
        description: Port to check; V(0) for the member's own. V(0) when it is created.
        type: int
      health_check_path:
        description:
          - Path that the health check asks for by C(GET), such as C(/healthz) of the prober that makes real predictions
            of all models (role P(modelfleet.serving.serving#role), C(serving_prober)).
          - When it is empty, or has V({model}) in it, there can be one model. Empty means its metadata. Only a loaded
            model has any, but a wrong one has it, too.
          - Empty when it is created.
        type: str
      health_check_host:
        description: Host that the health check asks for; empty for the member's address. Empty when it is created.
        type: str
      health_check_interval:
        description: Seconds between two checks, 1 to 300, and for one answer. V(5) when it is created.
        type: int
      health_check_threshold:
        description: How many checks in a row must fail, or pass, 1 to 10. V(2) when it is created.
        type: int
  haproxy:
    description:
      - How to reach HAProxy, and how it is set up.
      - The first four say how to reach it. A setting that is left out keeps its stored value, or gets the default named
        here when the endpoint is created.
    type: dict
    suboptions:
      config_path:
        description: The configuration file, which is written completely. Its folder must be writable.
        type: path
        default: /etc/haproxy/haproxy.cfg
      master:
        description: Address of the master process' command line (C(-S)), as C(HOST:PORT) or the path of a socket.
        type: str
        default: /run/haproxy-master.sock
      validate_command:
        description:
          - Command that judges a configuration on its standard input before anything is changed, as a list of words.
          - Without it, C(haproxy -c -f /dev/stdin) is used where C(haproxy) is installed.
          - An empty list means none. A configuration that HAProxy does not take is rolled back all the same.
        type: list
        elements: str
      timeout:
        description: Seconds for one answer of the master process, and for one reload.
        type: float
        default: 10.0
      bind:
        description: Where the endpoint listens, for REST and gRPC. V(*:8080) when it is created.
        type: str
      certificate:
        description:
          - PEM file with a certificate, its chain and its key, or a folder of such files, on the machine of HAProxy and
            readable by it. Clients then speak TLS to O(haproxy.bind), with HTTP/1.1 or HTTP/2.
          - It is read when HAProxy is reloaded or restarted, so reload HAProxy when it was renewed.
          - Empty, for clients without TLS, when the endpoint is created.
        type: str
      member_tls:
        description:
          - Whether HAProxy speaks TLS to the members, and verifies their certificates by O(haproxy.member_ca). Then
            nobody can read what passes between clouds.
          - The certificate must have the name O(haproxy.member_tls_name), or else the host of the model, or else the
            member's address, which the member is also told (SNI).
          - V(false) when the endpoint is created.
        type: bool
      member_ca:
        description: >-
          File with the certificates of the authorities that O(haproxy.member_tls) trusts, on the machine of HAProxy.
          V(/etc/ssl/certs/ca-certificates.crt) when the endpoint is created.
        type: str
      member_tls_name:
        description: One name for the certificates of all members. Empty when the endpoint is created.
        type: str
      stats_bind:
        description:
          - Where the statistics page listens; empty for none.
          - V(127.0.0.1:8404) when the endpoint is created.
        type: str
      runtime_bind:
        description:
          - Where HAProxy's Runtime API listens, for people and other tools, as C(HOST:PORT) or the path of a socket.
          - This module does not need it. Whoever reaches it commands HAProxy. None when the endpoint is created.
        type: str
      user:
        description: >-
          The account that HAProxy runs as. Unchanged (that is, as it was started) when the endpoint
          is created.
        type: str
      group:
        description: The group that HAProxy runs as.
        type: str
      resolvers:
        description:
          - Name servers that follow the members' addresses, as C(HOST:PORT), V(127.0.0.11:53) for one in Docker.
          - Those of the system (C(/etc/resolv.conf)) when the endpoint is created.
        type: list
        elements: str
      connect_timeout:
        description: Seconds until a connection to a member is given up. V(1.0) when it is created.
        type: float
      check_interval:
        description:
          - Seconds between two health checks. Two failures in a row take a member out, two successes bring it back.
          - After the first of them, the next check comes five times as soon.
          - V(0.25) when the endpoint is created.
        type: float
      check_timeout:
        description:
          - Seconds that a health check, a real prediction, may take. V(0.5) when the endpoint is created.
          - A silent cluster is noticed after at most twice this time and one and a fifth of an interval.
        type: float
      retries:
        description:
          - How many other members are tried when one fails to answer. V(3) when the endpoint is created.
          - Only what may be repeated is (C(GET), C(:predict), C(:classify), C(:regress), gRPC predictions).
        type: int
      max_body:
        description:
          - Bytes of the largest request that is retried, since HAProxy retries only what it holds in one buffer.
          - Each request in flight takes up to a few buffers of this size, and a copy of one costs processor time.
            Set it to what the largest requests need. V(1048576) when the endpoint is created.
        type: int
      max_connections:
        description: How many clients may be connected at once. V(1000) when the endpoint is created.
        type: int
  rfc2136:
    description:
      - The DNS record that is the endpoint, and how to reach the name server that takes its updates (RFC 2136).
        Needed with O(balancer=rfc2136).
      - The record holds the addresses of the active members. Beside it, C(_modelfleet.RECORD) holds the definition
        as TXT.
      - DNS asks no cluster, weighs nothing and knows no ports; what it cannot say is refused.
    type: dict
    suboptions:
      server:
        description: Host name or IP address of the zone's primary, which takes updates.
        type: str
        required: true
      port:
        description: TCP port of the server, and of the zone's name servers.
        type: int
        default: 53
      zone:
        description: The zone that holds the record, such as V(example.org).
        type: str
        required: true
      record:
        description: The complete name that clients resolve, such as V(models.example.org).
        type: str
        required: true
      name_servers:
        description:
          - The servers that must answer the new addresses before a change counts as done, as C(HOST) or C(HOST:PORT).
          - Those that the zone itself names (NS), unless set. An empty list means none but the primary.
          - One that does not answer at all is not waited for, since it gives nobody an old address.
        type: list
        elements: str
      key_name:
        description:
          - Name of the TSIG key that signs every message to O(rfc2136.server).
          - Without a key, nothing is signed, and the server must trust the address of this machine.
        type: str
      key_secret:
        description: The key itself, in base64, as C(tsig-keygen) prints it.
        type: str
      key_algorithm:
        description: Algorithm of the key.
        type: str
        choices: [hmac-sha1, hmac-sha224, hmac-sha256, hmac-sha384, hmac-sha512]
        default: hmac-sha256
      timeout:
        description: Seconds for one answer.
        type: float
        default: 3.0
      propagation_timeout:
        description: Seconds until every name server that answers must have the change.
        type: float
        default: 15.0
      ttl:
        description:
          - Seconds that resolvers keep the addresses, so the time that a shift takes.
          - V(30) when the endpoint is created.
          - A setting that is left out keeps its stored value.
        type: int
  route53:
    description:
      - How to reach AWS Route 53, which record carries the endpoint, and how it is set up. Required with
        O(balancer=route53).
      - The options up to O(route53.propagation_timeout) say how to reach it, by the names that amazon.aws has for
        them. A setting that
        is left out keeps its stored value, or gets the default named here when the endpoint is created.
    type: dict
    suboptions:
      hosted_zone:
        description: Id or name of the public hosted zone. An id is needed where the account has several zones of
          that name.
        type: str
        required: true
      record:
        description:
          - Complete name of the record that clients resolve.
          - The definition is kept beside it, in the TXT record C(_modelfleet.RECORD), which everybody can read.
        type: str
        required: true
      access_key:
        description:
          - Access key. Without O(route53.access_key) and O(route53.profile), E(AWS_ACCESS_KEY_ID), E(AWS_ACCESS_KEY)
            or
            E(EC2_ACCESS_KEY), and after these all that boto3 knows, such as the identity of a machine or a pod.
        type: str
        aliases: [aws_access_key_id, aws_access_key]
      secret_key:
        description: Secret key, or E(AWS_SECRET_ACCESS_KEY), E(AWS_SECRET_KEY) or E(EC2_SECRET_KEY).
        type: str
        aliases: [aws_secret_access_key, aws_secret_key]
      session_token:
        description: Token of temporary credentials, or E(AWS_SESSION_TOKEN), E(AWS_SECURITY_TOKEN) or
          E(EC2_SECURITY_TOKEN).
        type: str
        aliases: [aws_session_token]
      profile:
        description: Profile of AWS' configuration files, or E(AWS_PROFILE). It excludes O(route53.access_key).
        type: str
        aliases: [aws_profile]
      region:
        description:
          - Region that requests are signed for, or E(AWS_REGION), E(AWS_DEFAULT_REGION) or E(EC2_REGION).
          - Route 53 is one for the whole world; only the partitions of China and of the US government need it.
        type: str
        aliases: [aws_region]
      endpoint_url:
        description: Address of the API, or E(AWS_URL) or E(EC2_URL), for gateways and emulators.
        type: str
        aliases: [aws_endpoint_url]
      aws_ca_bundle:
        description: File with the certificate authorities to trust, or E(AWS_CA_BUNDLE).
        type: path
      validate_certs:
        description: Whether to check the server's certificate.
        type: bool
        default: true
      timeout:
        description: Seconds to connect, and for one answer. What fails in passing is tried ten times, with growing
          pauses.
        type: float
        default: 10.0
      propagation_timeout:
        description: Seconds until all of Route 53's name servers must have a change.
        type: float
        default: 120.0
      policy:
        description:
          - How the answer is chosen. V(weighted) when it is created.
          - With V(weighted), active members get shares by weight, and the standby ones traffic when none of these is
            healthy.
          - With V(failover), there is one active member and one standby.
          - With V(latency) and V(geolocation), O(route53.locations) says who answers where.
        type: str
        choices: [weighted, failover, latency, geolocation]
      ttl:
        description: Seconds for which resolvers keep an answer. V(30) when it is created.
        type: int
      locations:
        description:
          - The members of each place, the preferred first. The first one that is active answers, or else the first
            standby.
          - For V(latency), places are AWS regions, such as V(eu-west-1).
          - For V(geolocation), they are V(continent:EU), V(country:DE), V(state:CA) (of the USA), and V(*) for
            everywhere else.
          - Give all of them at once. V({}) when it is created.
        type: dict
      health_check_type:
        description: How Route 53 checks the members. V(NONE) for not at all. V(HTTP) when it is created.
        type: str
        choices: [HTTP, HTTPS, TCP, NONE]
      health_check_port:
        description: Port to check; V(0) for the member's own. V(0) when it is created.
        type: int
      health_check_path:
        description:
          - Path that the health checks ask for by C(GET). C({model}) in it stands for a model, and each model then has
            a health check of its own, such as C(/healthz/{model}) of the prober that makes real predictions
            (role P(modelfleet.serving.serving#role), C(serving_prober)).
          - When it is empty, each model has its own health check, which asks for the model's metadata. Only a loaded
            model has any, but a wrong one has it, too.
          - Empty when it is created.
        type: str
      health_check_host:
        description:
          - Host that the checks ask for, when the members have IP addresses; empty for O(route53.record). Empty when
            it is created.
          - A member with a host name is asked for that.
        type: str
      health_check_interval:
        description: Seconds between two checks of each of Route 53's checkers. V(10) when it is created; V(30) costs
          less.
        type: int
        choices: [10, 30]
      health_check_threshold:
        description: How many checks in a row must fail, or pass, 1 to 10. V(3) when it is created.
        type: int
  traffic_manager:
    description:
      - How to reach Azure Traffic Manager, which profiles carry the endpoint, and how it is set up. Required with
        O(balancer=traffic_manager).
      - The options up to O(traffic_manager.timeout) say how to reach it; those for signing in have the names that
        azure.azcollection has for them. A setting that is left out keeps its stored value, or gets the default named
        here when the endpoint is created.
    type: dict
    suboptions:
      resource_group:
        description: Resource group of the profiles. It has to be there.
        type: str
        required: true
      profile_name:
        description:
          - Name of the profile that clients ask, 58 characters at most.
          - The profile C(PROFILE_NAME-pool) beside it routes among the active members, and its tags hold the
            definition.
        type: str
        required: true
      relative_name:
        description:
          - First label of the name that clients resolve, such as C(models) of C(models.trafficmanager.net), which
            nobody else in the world may have. It cannot be changed later.
          - That of O(traffic_manager.profile_name) in small letters, unless set.
        type: str
      subscription_id:
        description: Id of the subscription, or E(AZURE_SUBSCRIPTION_ID).
        type: str
      client_id:
        description: Id of the service principal, or of the managed identity, or E(AZURE_CLIENT_ID).
        type: str
      secret:
        description: Secret of the service principal, or E(AZURE_SECRET) or E(AZURE_CLIENT_SECRET).
        type: str
      tenant:
        description: Id of the tenant, or E(AZURE_TENANT) or E(AZURE_TENANT_ID).
        type: str
      ad_user:
        description: Name of a person, or E(AZURE_AD_USER), for an account without a second factor. A service principal
          is better.
        type: str
      password:
        description: Password of O(traffic_manager.ad_user), or E(AZURE_PASSWORD).
        type: str
      profile:
        description: Section of the file C(~/.azure/credentials), or E(AZURE_PROFILE).
        type: str
      auth_source:
        description:
          - Where the credentials come from, or E(ANSIBLE_AZURE_AUTH_SOURCE). V(auto), unless set.
          - V(auto) takes the options, then the environment, then the file C(~/.azure/credentials), then all that
            azure-identity knows, such as the identity of a machine or a pod, and C(az login).
          - V(msi) is the managed identity of the machine, V(cli) that of C(az login).
        type: str
        choices: [auto, cli, credential_file, env, msi]
      cloud_environment:
        description: V(AzureCloud), V(AzureChinaCloud) or V(AzureUSGovernment), or E(AZURE_CLOUD_ENVIRONMENT).
          V(AzureCloud), unless set.
        type: str
      endpoint_url:
        description: Address of Azure Resource Manager, for gateways. That of the cloud, unless set.
        type: str
      timeout:
        description: Seconds to connect, and for one answer. What fails in passing is tried six times, with growing
          pauses.
        type: float
        default: 30.0
      policy:
        description:
          - How the answer is chosen among the active members. V(weighted) when it is created.
          - With V(weighted), they get shares by weight.
          - With V(performance), the nearest one answers, by O(traffic_manager.locations).
          - With both, the standby members take over, one after the other, when no active one is healthy.
          - With V(geographic), O(traffic_manager.locations) says who answers where, and a health check moves nobody.
        type: str
        choices: [weighted, performance, geographic]
      ttl:
        description: Seconds for which resolvers keep an answer. V(30) when it is created.
        type: int
      locations:
        description:
          - The members of each place.
          - For V(performance), places are Azure regions, such as V(westeurope), and each member is named under the
            one that is nearest to it.
          - For V(geographic), they are Traffic Manager's codes, such as V(DE), V(US-CA), V(GEO-EU), and V(WORLD) for
            everywhere else. The first member that is active answers, or else the first standby.
          - Give all of them at once. V({}) when it is created.
        type: dict
      health_check_type:
        description: How Traffic Manager checks the members. V(NONE) for not at all. V(HTTP) when it is created.
        type: str
        choices: [HTTP, HTTPS, TCP, NONE]
      health_check_port:
        description: Port to check; V(0) for the members' own. V(0) when it is created.
        type: int
      health_check_path:
        description:
          - Path that the health check asks for by C(GET), one for all members and so for all models. Several models
            need one, such as V(/healthz) of the prober that makes real predictions (role
            P(modelfleet.serving.serving#role), C(serving_prober)).
          - C({model}) in it stands for the model, where there is one.
          - When it is empty, it is that of the model's metadata. Only a loaded model has any, but a wrong one has it,
            too.
          - Empty when it is created.
        type: str
      health_check_host:
        description: Host that the checks ask for; empty for the address of the member. Empty when it is created.
        type: str
      health_check_interval:
        description: Seconds between two checks from each of Traffic Manager's places. V(10) when it is created; V(30)
          costs less.
        type: int
        choices: [10, 30]
      health_check_timeout:
        description: Seconds that a check may take, 5 to 10, or to 9 with an interval of 10. V(5) when it is created.
        type: int
      health_check_threshold:
        description: How many checks in a row must fail, 1 to 10. V(3) when it is created.
        type: int
"""
