"""Prints the `authorization` that botocore gives to a request, which comes as JSON on standard input."""

import json
import sys

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

asked = json.load(sys.stdin)
request = AWSRequest("POST", asked["url"], headers=asked["headers"], data=asked["body"].encode())
request.context["timestamp"] = asked["headers"]["x-amz-date"]
auth = SigV4Auth(Credentials(*asked["credentials"]), "lambda", asked["region"])
canonical = auth.canonical_request(request)
signature = auth.signature(auth.string_to_sign(request, canonical), request)
signed = auth.signed_headers(auth.headers_to_sign(request))
print(f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}, SignedHeaders={signed}, Signature={signature}")
