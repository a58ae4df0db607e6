#!/usr/bin/env python3
"""The whole pattern on this machine, from real parts: `local` stands for Momento and Secrets Manager, and the handler runs
under `cargo lambda watch`. `run` sends one comment all the way through and prints it; `dev` keeps everything up.

Standard output is for the result alone; everything else goes to standard error.
"""

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

CACHE, TOPIC, FEED = "course-comments", "comment", "comment-feed"
LOCAL_PORT = int(os.environ.get("LOCAL_PORT", "8080"))
HANDLER_PORT = int(os.environ.get("HANDLER_PORT", "9000"))
SEED = os.environ.get("SEED", "infra/dev/seed.toml")
MOMENTO = f"http://127.0.0.1:{LOCAL_PORT}"
FUNCTION_URL = f"http://127.0.0.1:{HANDLER_PORT}/lambda-url/handler/"

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
    """A process with a group of its own, whose standard error is both shown and kept."""

    def __init__(self, name, command, env=None, keep_output=False):
        self.name, self.lines = name, []
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if keep_output else sys.stderr,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._show, daemon=True).start()

    def _show(self):
        for line in self.process.stderr:
            self.lines.append(line)
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

    def start(self, *watch_options):
        for port, variable in ((LOCAL_PORT, "LOCAL_PORT"), (HANDLER_PORT, "HANDLER_PORT")):
            with socket.socket() as taken:
                if taken.connect_ex(("127.0.0.1", port)) == 0:
                    raise Failed(f"port {port} is taken; choose another one: make {sys.argv[1]} {variable}={port + 1}")
        if subprocess.run(["cargo", "build", "--locked", "--bins"], stdout=sys.stderr, check=False).returncode:
            raise Failed("the build failed")

        self.local = self.child(
            "local",
            ["target/debug/local", "--port", str(LOCAL_PORT), "--seed", SEED]
            + ["--webhook", f"{CACHE}/{TOPIC}={FUNCTION_URL}"],
        ).wait_until(lambda: self.local_listens(), 10)
        self.handler = self.child(
            "the handler",
            ["cargo-lambda", "lambda", "watch", "--quiet", "--bin", "handler"]
            + ["--invoke-address", "127.0.0.1", "--invoke-port", str(HANDLER_PORT), *watch_options],
            {
                "MOMENTO_SIGNING_SECRET_NAME": "momento-signing-secret",
                **os.environ,  # so that another signing secret can be tried
                **SERVICES,
                "EVENT_SOURCES": f"{CACHE}/{TOPIC}",
                "FEED_TOPIC": FEED,
            },
        )
        # The first request builds and starts the function, and a webhook would not wait for that.
        self.handler.wait_until(handler_answers, 900)

    def child(self, *arguments, **options):
        self.children.append(Child(*arguments, **options))
        return self.children[-1]

    def local_listens(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", LOCAL_PORT)) == 0

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
            stack.start()
            explain()
            stack.handler.process.wait()
    except Failed as failed:
        sys.exit(f"error: {failed}")
    except KeyboardInterrupt:
        pass
    finally:
        stack.end()


main()
