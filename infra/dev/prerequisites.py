#!/usr/bin/env python3
"""Says everything that is missing before a deployment begins, instead of failing half-way.

    prerequisites.py deploy             reads CDK_OPTIONS, and the options that are kept for the CDK
    prerequisites.py deploy-function    reads FUNCTION, ARCHITECTURE and DEPLOY_OPTIONS

Nothing here waits for longer than some seconds.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

NODE = 20  # the least that the CDK application runs on
FILL = "it fills in the API key, unless apiKeySecretArn names a secret that has it"


def deploy():
    parser = argparse.ArgumentParser("CDK_OPTIONS", allow_abbrev=False, add_help=False)
    parser.add_argument("--profile")
    parser.add_argument("-c", "--context", action="append", default=[])
    given, _ = parser.parse_known_args(shlex.split(os.environ.get("CDK_OPTIONS", "")))
    try:
        options = kept("infra/cdk.json").get("context", {}) | kept("infra/cdk.context.json")
    except ValueError as error:
        yield str(error)
        options = {}
    options |= dict(option.split("=", 1) for option in given.context if "=" in option)

    yield from rustup()
    version = re.match(r"v(\d+)", output("node", "--version") or "")
    if not version or not shutil.which("npm"):
        yield f"Node and npm are missing: install Node {NODE} or newer"
    elif int(version[1]) < NODE:
        yield f"Node {version[1]} is too old: install {NODE} or newer"
    if not options.get("apiKeySecretArn") and not shutil.which("aws"):
        yield f"the AWS CLI is missing: {FILL}"
    docker = os.environ.get("CDK_DOCKER", "docker")  # as the CDK takes it
    if options.get("relay", "none") != "none" and output(docker, "info") is None:
        yield f"`{docker} info` fails: Docker has to run here, to build the relay's image"
    yield from credentials(session(given.profile, None))


def deploy_function():
    parser = argparse.ArgumentParser("DEPLOY_OPTIONS", allow_abbrev=False, add_help=False)
    parser.add_argument("-p", "--profile")
    parser.add_argument("-r", "--region")
    parser.add_argument("--dry", action="store_true")
    given, _ = parser.parse_known_args(shlex.split(os.environ.get("DEPLOY_OPTIONS", "")))
    yield from rustup()
    if given.dry:
        return
    # cargo-lambda makes a function of what it does not find, and calls it `handler` where it is given no name.
    name = os.environ.get("FUNCTION")
    if not name:
        yield "no FUNCTION: give the name that the output HandlerFunction says"
    asked = session(given.profile, given.region)
    problems = list(credentials(asked))
    yield from problems
    if name and not problems:
        yield from function(asked, name)


def kept(file):
    if not os.path.exists(file):
        return {}
    with open(file, encoding="utf-8") as text:
        try:
            return json.load(text)
        except ValueError as error:
            raise ValueError(f"{file} is no JSON: {error}") from error


def rustup():
    if not shutil.which("rustup"):
        yield "rustup is missing: it installs what is needed to build for Lambda; see https://rustup.rs"


def output(*command):
    """What a command prints; `None` where it is missing, fails, or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def session(profile, region):
    import boto3  # comes with moto
    import botocore.exceptions

    try:
        # boto3 knows AWS_DEFAULT_REGION alone; every other SDK takes both.
        return boto3.Session(profile_name=profile, region_name=region or os.environ.get("AWS_REGION"))
    except botocore.exceptions.BotoCoreError as error:  # no such profile
        return error


def credentials(asked):
    """Tries them, wherever they come from: the environment, a file, single sign-on, a container's or a machine's role."""
    import botocore.exceptions as exceptions

    if isinstance(asked, Exception):
        yield str(asked)
        return
    if not asked.region_name:
        yield "no AWS region: set AWS_REGION"
    try:
        client(asked, "sts").get_caller_identity()
    except exceptions.NoCredentialsError:
        yield "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    except exceptions.MissingDependencyException:
        pass  # of a kind that boto3 cannot read; the tools that deploy may
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        yield f"the AWS credentials do not work: {error}"


def function(asked, name):
    import botocore.exceptions as exceptions

    functions = client(asked, "lambda")
    try:
        configuration = functions.get_function(FunctionName=name)["Configuration"]
    except functions.exceptions.ResourceNotFoundException:
        yield f"there is no function {name} in {asked.region_name}: the output HandlerFunction says its name"
        return
    except exceptions.MissingDependencyException:
        return
    except (exceptions.BotoCoreError, exceptions.ClientError) as error:
        yield f"{name} cannot be looked up: {error}"
        return
    [runs_on] = configuration.get("Architectures", ["x86_64"])
    if runs_on != os.environ["ARCHITECTURE"]:
        yield f"{name} runs on {runs_on}, not on {os.environ['ARCHITECTURE']}: give ARCHITECTURE={runs_on}"


def client(asked, service):
    from botocore.config import Config

    bounds = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2})
    return asked.client(service, region_name=asked.region_name or "us-east-1", config=bounds)


CHECKS = {"deploy": deploy, "deploy-function": deploy_function}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        sys.exit(__doc__)
    found = list(CHECKS[sys.argv[1]]())
    if found:
        sys.exit("\n".join(f"error: {problem}" for problem in found))
