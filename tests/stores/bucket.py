# SPDX-FileCopyrightText: The modelfleet maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve a folder as the bucket ``models`` by S3's own interface, to one user alone; prints the user's keys as JSON.

It runs in the environment of requirements.lock until its standard input ends: bucket.py ADDRESS FOLDER
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import boto3
from moto import settings
from moto.server import ThreadedMotoServer

_POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}],
}


def main(address: str, folder: Path) -> None:
    """Fill the bucket, make the user, and let nobody in without keys from then on."""
    server = ThreadedMotoServer(ip_address=address, port=0)
    with contextlib.redirect_stdout(sys.stderr):  # its banner
        server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    anyone = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    s3, iam = (boto3.client(service, endpoint_url=endpoint, **anyone) for service in ("s3", "iam"))
    s3.create_bucket(Bucket="models")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            s3.upload_file(str(path), "models", str(path.relative_to(folder)))
    iam.create_user(UserName="store")
    iam.put_user_policy(UserName="store", PolicyName="read", PolicyDocument=json.dumps(_POLICY))
    key = iam.create_access_key(UserName="store")["AccessKey"]
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    keys = {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}
    print(json.dumps({"endpoint": endpoint, **keys}), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
