#!/usr/bin/env python3
"""The whole pattern on this machine, from real parts: `local` stands for Momento and Secrets Manager, and the handler runs
under `cargo lambda watch`. `run` sends one comment all the way through and prints it. `dev` keeps everything up, with a
parking queue in moto from which `redrive` is invoked, as Lambda would do it.

Standard output is for the result alone; everything else goes to standard error.
"""

import collections
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from dead_letters import records

CACHE, TOPIC, FEED = "course-comments", "comment", "comment-feed"
LOCAL_PORT = int(os.environ.get("LOCAL_PORT", "8080"))
HANDLER_PORT = int(os.environ.get("HANDLER_PORT", "9000"))
QUEUE_PORT = int(os.environ.get("QUEUE_PORT", "9324"))
SEED = os.environ.get("SEED", "infra/dev/seed.toml")
MOMENTO = f"http://127.0.0.1:{LOCAL_PORT}"
LAMBDA = f"http://127.0.0.1:{HANDLER_PORT}"
FUNCTION_URL = f"{LAMBDA}/lambda-url/handler/"
SQS = f"http://127.0.0.1:{QUEUE_PORT}"

# What a shell, the handler and the publisher need to find the local services.
SERVICES = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": "us-east-1",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER": MOMENTO,
    "MOMENTO_ENDPOINT_URL": MOMENTO,
    "MOMENTO_API_KEY_SECRET_NAME": "momento-api-key",
}


class Failed(Exception):
    """What went wrong, in words for the person at the terminal."""


class Child:
    """A process with a group of its own, whose standard error is both shown, unless it is quiet, and kept."""

    def __init__(self, name, command, env=None, keep_output=False, quiet=False):
        self.name, self.quiet = name, quiet
        self.lines = collections.deque(maxlen=1000)
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if keep_output else subprocess.DEVNULL if quiet else sys.stderr,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._show, daemon=True).start()

    def _show(self):
        for line in self.process.stderr:
            self.lines.append(line)
            if not self.quiet:
                sys.stderr.write(line)

    def said(self, pattern):
        return [line for line in list(self.lines) if re.search(pattern, line)]

    def wait_until(self, ready, seconds):
        end = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended before it was ready")
            if time.monotonic() > end:
                raise Failed(f"{self.name} was not ready within {seconds} s")
            time.sleep(0.05)
        return self

    def signal(self, number):
        try:
            os.killpg(self.process.pid, number)
            return True
        except ProcessLookupError:
            return False

    def end(self):
        self.signal(signal.SIGTERM)
        end = time.monotonic() + 5
        while self.process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        self.signal(signal.SIGKILL)  # whatever of the group is left
        self.process.wait()


class Stack:
    def __init__(self):
        self.children = []

    def start(self, *watch_options, **variables):
        check_free("LOCAL_PORT", LOCAL_PORT)
        check_free("HANDLER_PORT", HANDLER_PORT)
        if subprocess.run(["cargo", "build", "--locked", "--bins"], stdout=sys.stderr, check=False).returncode:
            raise Failed("the build failed")

        self.local = self.child(
            "local",
            ["target/debug/local", "--port", str(LOCAL_PORT), "--seed", SEED]
            + ["--webhook", f"{CACHE}/{TOPIC}={FUNCTION_URL}"],
        ).wait_until(lambda: listens(LOCAL_PORT), 10)
        self.handler = self.child(
            "the handler",
            ["cargo-lambda", "lambda", "watch", "--quiet"]
            + ["--invoke-address", "127.0.0.1", "--invoke-port", str(HANDLER_PORT), *watch_options],
            {
                "MOMENTO_SIGNING_SECRET_NAME": "momento-signing-secret",
                **os.environ,  # so that another signing secret can be tried
                **SERVICES,
                **variables,
                "EVENT_SOURCES": f"{CACHE}/{TOPIC}",
                "FEED_TOPIC": FEED,
            },
        )
        # The first request builds and starts the function, and a webhook would not wait for that.
        self.handler.wait_until(handler_answers, 900)

    def child(self, *arguments, **options):
        self.children.append(Child(*arguments, **options))
        return self.children[-1]

    def queue(self):
        """Starts moto with the parking queue and its dead letters; what the functions need to know of them."""
        import boto3  # comes with moto

        check_free("QUEUE_PORT", QUEUE_PORT)
        moto = self.child("moto", ["moto_server", "--host", "127.0.0.1", "--port", str(QUEUE_PORT)], quiet=True)
        moto.wait_until(lambda: listens(QUEUE_PORT), 30)
        credentials = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        self.sqs = boto3.client("sqs", endpoint_url=SQS, region_name="us-east-1", **credentials)
        dead = self.sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
        self.parked = self.sqs.create_queue(QueueName="parked")["QueueUrl"]
        return {"AWS_ENDPOINT_URL_SQS": SQS, "PARK_QUEUE_URL": self.parked, "DEAD_LETTER_QUEUE_URL": dead}

    def redrive(self):
        """Invokes `redrive` with what lies in the queue, as Lambda's event source does."""
        received = self.sqs.receive_message(
            QueueUrl=self.parked,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=1,
            MessageSystemAttributeNames=["All"],
        ).get("Messages", [])
        if not received:
            return
        request = urllib.request.Request(
            f"{LAMBDA}/2015-03-31/functions/redrive/invocations", json.dumps({"Records": records(received)}).encode()
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            failures = {item["itemIdentifier"] for item in json.load(answer)["batchItemFailures"]}
        for message in received:
            if message["MessageId"] not in failures:
                self.sqs.delete_message(QueueUrl=self.parked, ReceiptHandle=message["ReceiptHandle"])

    def send(self):
        listener = self.child(
            "the listener",
            ["target/debug/publisher", "listen", "--topic", FEED, "--text", "--count", "1", "--timeout", "20"],
            SERVICES,
            keep_output=True,
        )
        listener.wait_until(lambda: listener.said('"listening"'), 10)
        publish = ["target/debug/publisher", "publish", "--cache", CACHE, "--topic", TOPIC]
        if subprocess.run(publish, env={**os.environ, **SERVICES}, stdout=sys.stderr, check=False).returncode:
            raise Failed("the comment was not published")
        try:
            listener.wait_until(lambda: listener.process.poll() == 0 or self.local.said("webhook.*gone"), 25)
        except Failed:
            pass  # what sender and handler said is of more use
        if listener.process.poll() != 0:
            time.sleep(0.5)  # until the handler's line is here too
            said = self.local.said("WARN.*webhook") + self.handler.said('"message":"webhook')
            raise Failed("the comment did not come through. What sender and handler said of it:\n" + "".join(said))
        comment = listener.process.stdout.read()
        print(comment, end="", flush=True)

    def end(self):
        for child in reversed(self.children):
            child.end()


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check_free(variable, port):
    if listens(port):
        raise Failed(f"port {port} is taken; choose another one: make {sys.argv[1]} {variable}={port + 1}")


def handler_answers():
    try:
        urllib.request.urlopen(FUNCTION_URL, timeout=60).close()
    except urllib.error.HTTPError as answer:
        return answer.code == 405  # it takes POST only
    except OSError:
        pass
    return False


def explain():
    exports = "\n".join(f"  export {name}={value}" for name, value in SERVICES.items())
    print(
        f"\nThe stack is up. In another terminal:\n\n{exports}\n"
        f"  target/debug/publisher listen --topic {FEED} &\n"
        f"  target/debug/publisher publish '{{\"courseId\":123,\"comment\":\"Hello\"}}'\n",
        file=sys.stderr,
    )


def main():
    if sys.argv[1:] not in (["run"], ["dev"]):
        sys.exit("usage: stack.py run|dev")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    stack = Stack()
    try:
        if sys.argv[1] == "run":
            stack.start("--ignore-changes")
            stack.send()
        else:
            stack.start(**stack.queue())
            explain()
            while stack.handler.process.poll() is None:
                try:
                    stack.redrive()
                except OSError as error:  # what was received comes back when its visibility ends
                    print(f"redrive was not invoked: {error}", file=sys.stderr)
    except Failed as failed:
        sys.exit(f"error: {failed}")
    except KeyboardInterrupt:
        pass
    finally:
        stack.end()


main()
