/** `make dead-letters`, with moto for SQS and a server in the place of Lambda, behind which is `redrive`. */
import assert from 'node:assert/strict';
import { execFile, type ChildProcess } from 'node:child_process';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as path from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';

import { startMoto } from './support/moto';
import { INFRA } from './support/stacks';

const skip = process.env.MOTO_SERVER && process.env.PYTHON ? false : 'MOTO_SERVER and PYTHON name no commands';

describe('dead letters', { skip }, () => {
  let moto: ChildProcess;
  let lambda: Server;
  let endpoint: string;
  let queue: string;
  let records: any[];
  let queues = 0;
  /** What `redrive` makes of a record. */
  let outcome: (body: string) => 'processed' | 'given up' | 'later' | 'crash';

  before(async () => {
    ({ process: moto, endpoint } = await startMoto());
    lambda = createServer((request, response) => {
      assert.equal(request.url, '/2015-03-31/functions/redrive/invocations');
      const parts: Buffer[] = [];
      request.on('data', (part) => parts.push(part));
      request.on('end', async () => {
        const batch = JSON.parse(Buffer.concat(parts).toString()).Records;
        records.push(...batch);
        const of = (wanted: string) => batch.filter(({ body }: any) => outcome(body) === wanted);
        if (of('crash').length > 0) {
          response.writeHead(200, { 'x-amz-function-error': 'Unhandled' }).end('{"errorType":"Crash"}');
          return;
        }
        for (const { body } of of('given up')) await sqs('SendMessage', { QueueUrl: queue, MessageBody: body });
        const batchItemFailures = of('later').map(({ messageId }: any) => ({ itemIdentifier: messageId }));
        response.end(JSON.stringify({ batchItemFailures }));
      });
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => lambda.once('listening', resolve));
  });
  after(() => {
    moto?.kill();
    lambda?.close();
  });

  beforeEach(async () => {
    records = [];
    const created = await sqs('CreateQueue', { QueueName: `dead-letters-${queues++}` });
    queue = /<QueueUrl>(.*)<\/QueueUrl>/.exec(created)![1]!;
  });

  /** moto checks no signature, but reads in it which service and region are meant. */
  const sqs = async (Action: string, parameters: Record<string, string>): Promise<string> => {
    const scope = 'Credential=test/20260101/eu-west-1/sqs/aws4_request, SignedHeaders=host, Signature=0';
    const answer = await fetch(endpoint, {
      method: 'POST',
      headers: { authorization: `AWS4-HMAC-SHA256 ${scope}` },
      body: new URLSearchParams({ Action, Version: '2012-11-05', ...parameters }),
    });
    const text = await answer.text();
    assert.ok(answer.ok, text);
    return text;
  };
  const send = async (...bodies: string[]) => {
    for (const MessageBody of bodies) await sqs('SendMessage', { QueueUrl: queue, MessageBody });
  };
  const left = async (): Promise<number> => {
    const attributes = await sqs('GetQueueAttributes', { QueueUrl: queue, 'AttributeName.1': 'All' });
    const counts = attributes.matchAll(/<Name>ApproximateNumberOfMessages(?:NotVisible)?<\/Name><Value>(\d+)</g);
    return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
  };
  const takeUp = () =>
    new Promise<{ status: number; said: string }>((resolve) => {
      const env = {
        PATH: process.env.PATH,
        QUEUE: queue,
        FUNCTION: 'redrive',
        AWS_ENDPOINT_URL_SQS: endpoint,
        AWS_ENDPOINT_URL_LAMBDA: `http://127.0.0.1:${(lambda.address() as AddressInfo).port}`,
        AWS_REGION: 'eu-west-1',
        AWS_ACCESS_KEY_ID: 'test',
        AWS_SECRET_ACCESS_KEY: 'test',
      };
      const run = execFile(process.env.PYTHON!, [path.join(INFRA, 'dev/dead_letters.py')], { env }, (_, out, error) =>
        resolve({ status: run.exitCode!, said: out + error }),
      );
    });

  test('that are processed leave the queue, however many there are', async () => {
    const bodies = Array.from({ length: 12 }, (_, number) => `event ${number}`);
    await send(...bodies);
    outcome = () => 'processed';
    const { status, said } = await takeUp();
    assert.deepEqual([status, await left()], [0, 0], said);
    assert.match(said, /^processed: 12; given up again: 0; to be tried later: 0\./);
    assert.deepEqual(records.map(({ body }) => body).sort(), bodies.sort());
    const [{ eventSource, receiptHandle, attributes }] = records;
    assert.equal(eventSource, 'aws:sqs');
    assert.equal(attributes.ApproximateReceiveCount, '1');
    assert.ok(receiptHandle);
  });

  test('that are not stay, or come back, and are not tried twice', async () => {
    await send('good', 'later', 'poison');
    outcome = (body) => (body === 'later' ? 'later' : body === 'poison' ? 'given up' : 'processed');
    const { status, said } = await takeUp();
    assert.match(said, /^processed: 1; given up again: 1; to be tried later: 1\./);
    assert.deepEqual([status, await left(), records.length], [1, 2, 3]);
  });

  test('all stay where redrive crashes, and nothing that is in them is said', async () => {
    await send('private');
    outcome = () => 'crash';
    const { status, said } = await takeUp();
    assert.deepEqual([status, await left()], [1, 1]);
    assert.equal(said, 'error: redrive failed, or is not redrive; the dead letters stay. See its log\n');
  });
});
