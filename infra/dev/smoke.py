#!/usr/bin/env python3
"""Posts a correctly signed, harmless event to a deployed handler, and says what came back.

The event's text is one that no application of course comments accepts, so the answer of a healthy handler is 422: it has
verified the signature, claimed the event and read from Momento, and done nothing.

    make smoke URL=https://….lambda-url.eu-west-1.on.aws/ SIGNING_SECRET_NAME=arn:… [SOURCE=CACHE/TOPIC] [AUTH=iam]
"""

import hashlib
import hmac
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlparse

ANSWERS = {
    200: "accepted: this handler takes any text; look for what it made of an event by nobody",
    202: "verified and parked: the cache {cache} does not exist, or Momento is not reached; see the cause in its log",
    400: "verified, but not read as an event: this is not our handler, or not its version",
    403: "denied: another signing secret, a clock that is off, a SOURCE that is not one of EVENT_SOURCES, or AUTH=iam missing",
    404: "nothing there: is the URL right?",
    422: "healthy: verified, claimed, read, and refused by the application, as intended",
    503: "it has no signing secret, or can neither process nor park; see the cause in its log",
}


def main():
    url, name = os.environ.get("URL", ""), os.environ.get("SIGNING_SECRET_NAME", "")
    if not url or not name:
        sys.exit(__doc__)
    cache, _, topic = os.environ.get("SOURCE", "course-comments/comment").partition("/")
    now = int(time.time() * 1000)
    body = json.dumps(
        {
            "cache": cache,
            "topic": topic,
            "event_timestamp": now,
            "publish_timestamp": now,
            "topic_sequence_number": 0,
            "token_id": "",
            "text": "smoke",
        },
        separators=(",", ":"),
    ).encode()
    signature = hmac.new(secret(name, url).encode(), body, hashlib.sha3_256).hexdigest()
    headers = {"content-type": "application/json", "momento-signature": signature}
    if os.environ.get("AUTH") == "iam":
        headers = signed_for_aws(url, name, headers, body)
    status, answer = post(url, headers, body)
    meaning = ANSWERS.get(status, "not an answer of the handler: is the URL right?").format(cache=cache)
    print(f"{status} {answer}\n{meaning}")
    sys.exit(status not in (200, 422))


def secret(name, url):
    import boto3  # comes with moto
    import botocore.exceptions

    try:
        client = boto3.client("secretsmanager", region_name=region(name, url))
        return client.get_secret_value(SecretId=name)["SecretString"]
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        sys.exit(f"error: cannot read the secret {name}: {error}")


def region(first, *others):
    """Where the first is, a secret's ARN or a function's URL; the others may be elsewhere, so the environment goes before."""
    # boto3 knows the second variable alone; every other SDK takes both.
    environment = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    known = [stated(first), environment, *map(stated, others)]
    return next(filter(None, known), None) or sys.exit("error: set AWS_REGION")


def stated(place):
    match = re.search(r"^arn:[^:]+:secretsmanager:([^:]+):|\.lambda-url\.([^.]+)\.on\.aws", place)
    return match and (match[1] or match[2])


def signed_for_aws(url, name, headers, body):
    import botocore.auth
    import botocore.awsrequest
    import botocore.session

    session = botocore.session.get_session()
    request = botocore.awsrequest.AWSRequest("POST", url, headers={**headers, "host": urlparse(url).netloc}, data=body)
    botocore.auth.SigV4Auth(session.get_credentials(), "lambda", region(url, name)).add_auth(request)
    return dict(request.headers)


def post(url, headers, body):
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(1000).decode(errors="replace")
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read(1000).decode(errors="replace")
    except OSError as error:
        sys.exit(f"error: {urlparse(url).netloc} cannot be reached: {error}")


main()
