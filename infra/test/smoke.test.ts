/** `make smoke` against a server in the place of the handler, with moto for Secrets Manager. */
import assert from 'node:assert/strict';
import { execFile, type ChildProcess } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { CreateSecretCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager';

import { startMoto } from './support/moto';
import { INFRA } from './support/stacks';

const skip = process.env.MOTO_SERVER && process.env.PYTHON ? false : 'MOTO_SERVER and PYTHON name no commands';

describe('a smoke test', { skip }, () => {
  let moto: ChildProcess;
  let handler: Server;
  let variables: Record<string, string>;
  let secret: string;
  let answer = 422;
  let asked: { headers: IncomingHttpHeaders; body: string };

  before(async () => {
    const started = await startMoto();
    moto = started.process;
    const credentials = { accessKeyId: 'test', secretAccessKey: 'test' };
    const client = new SecretsManagerClient({ endpoint: started.endpoint, region: 'eu-west-3', credentials });
    secret = (await client.send(new CreateSecretCommand({ Name: 'signing', SecretString: 'x'.repeat(64) }))).ARN!;
    client.destroy();
    handler = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part) => parts.push(part));
      request.on('end', () => {
        asked = { headers: request.headers, body: Buffer.concat(parts).toString() };
        response.writeHead(answer).end('{}');
      });
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => handler.once('listening', resolve));
    variables = {
      URL: `http://127.0.0.1:${(handler.address() as AddressInfo).port}/`,
      SIGNING_SECRET_NAME: secret,
      AWS_ENDPOINT_URL: started.endpoint,
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
    };
  });
  after(() => {
    moto?.kill();
    handler?.close();
  });

  const smoke = (more: Record<string, string> = {}) =>
    new Promise<{ status: number; said: string }>((resolve) => {
      const env = { PATH: process.env.PATH, ...variables, ...more };
      const run = execFile(process.env.PYTHON!, [path.join(INFRA, 'dev/smoke.py')], { env }, (_, stdout, stderr) =>
        resolve({ status: run.exitCode!, said: stdout + stderr }),
      );
    });

  test('posts a signed event, with the secret of the region in its ARN', async () => {
    const { status, said } = await smoke();
    assert.equal(status, 0, said);
    assert.match(said, /^422 \{\}\nhealthy/);
    const signature = createHmac('sha3-256', 'x'.repeat(64)).update(asked.body).digest('hex');
    assert.equal(asked.headers['momento-signature'], signature);
    assert.equal((await smoke({ AWS_REGION: 'us-east-1' })).status, 0);
  });

  test('signs for AWS too, where the function is', async () => {
    assert.equal((await smoke({ AUTH: 'iam' })).status, 0);
    assert.match(asked.headers.authorization!, /\/eu-west-3\/lambda\/aws4_request/);
    await smoke({ AUTH: 'iam', AWS_REGION: 'us-east-1' }); // the URL does not say, so the environment does
    assert.match(asked.headers.authorization!, /\/us-east-1\/lambda\/aws4_request/);
  });

  test('says that the cache may be missing, where the event was parked', async () => {
    answer = 202;
    const { status, said } = await smoke({ SOURCE: 'shop/order' });
    assert.equal(status, 1);
    assert.match(said, /^202 \{\}\nverified and parked: the cache shop does not exist, or /);
  });

  test('asks for the region where nothing says it', async () => {
    const { status, said } = await smoke({ SIGNING_SECRET_NAME: 'signing' });
    assert.equal(status, 1);
    assert.equal(said, 'error: set AWS_REGION\n');
  });
});
