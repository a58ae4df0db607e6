#!/usr/bin/env python3
"""Has `redrive` take up the dead letters, once what was wrong has been mended, and deletes those that it has done with.

Each is taken up once. What cannot be processed yet stays; what is given up again comes back as a new dead letter. They are
not moved to the parking queue, since nobody but the handler may send to that.

    make dead-letters QUEUE=<DeadLetterQueueUrl> FUNCTION=<RedriveFunction>
"""

import json
import os
import re
import sys

HIDDEN_SECONDS = 120  # twice as long as a run of `redrive` may take


def main():
    import boto3  # comes with moto
    import botocore.exceptions
    from botocore.config import Config

    queue, name = os.environ.get("QUEUE", ""), os.environ.get("FUNCTION", "")
    if not queue or not name:
        sys.exit(__doc__)
    stated = re.search(r"//sqs\.([^.]+)\.amazonaws\.", queue)
    region = stated[1] if stated else os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region:
        sys.exit("error: set AWS_REGION")
    # A run takes up to a minute, and is not to be asked for twice.
    patient = Config(read_timeout=90, retries={"total_max_attempts": 1})
    try:
        sqs = boto3.client("sqs", region_name=region)
        functions = boto3.client("lambda", region_name=region, config=patient)
        sys.exit(take_up(sqs, queue, functions, name))
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        sys.exit(f"error: {error}")


def take_up(sqs, queue, functions, name):
    """Whether any are left."""
    taken, waiting, given_up = set(), set(), set()
    while messages := receive(sqs, queue):
        given_up |= {message["Body"] for message in messages if message["Body"] in taken}
        fresh = [message for message in messages if message["Body"] not in taken]
        taken |= {message["Body"] for message in fresh}
        if not fresh:
            continue  # they stay hidden for long enough for the rest to be seen
        failures = invoke(functions, name, records(fresh))
        for message in fresh:
            if message["MessageId"] in failures:
                waiting.add(message["Body"])
            else:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    given_up -= waiting
    done = len(taken) - len(waiting) - len(given_up)
    print(f"processed: {done}; given up again: {len(given_up)}; to be tried later: {len(waiting)}. Its log says why.")
    return bool(given_up or waiting)


def receive(sqs, queue):
    received = sqs.receive_message(
        QueueUrl=queue,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=1,
        VisibilityTimeout=HIDDEN_SECONDS,
        MessageSystemAttributeNames=["All"],
    )
    return received.get("Messages", [])


def records(messages):
    """As Lambda's event source hands them to `redrive`."""
    return [
        {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message["Attributes"],
            "eventSource": "aws:sqs",
        }
        for message in messages
    ]


def invoke(functions, name, batch):
    answer = functions.invoke(FunctionName=name, Payload=json.dumps({"Records": batch}))
    result = json.load(answer["Payload"])
    if not isinstance(result, dict) or "batchItemFailures" not in result:
        sys.exit(f"error: {name} failed, or is not redrive; the dead letters stay. See its log")
    return {failure["itemIdentifier"] for failure in result["batchItemFailures"]}


if __name__ == "__main__":
    main()
