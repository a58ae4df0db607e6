/** The rotation function against a Secrets Manager that keeps versions and stages as the real one does: moto's. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { after, before, beforeEach, describe, test } from 'node:test';

import {
  CreateSecretCommand,
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  SecretsManagerClient,
} from '@aws-sdk/client-secrets-manager';

import type { RotationEvent } from '../lib/rotation/function';
import { startMoto } from './support/moto';

const skip = process.env.MOTO_SERVER ? false : 'MOTO_SERVER does not name the command';

describe('a rotation', { skip }, () => {
  let moto: ChildProcess;
  let client: SecretsManagerClient;
  let handler: (event: RotationEvent) => Promise<void>;
  let secret: string;

  before(async () => {
    const started = await startMoto();
    moto = started.process;
    Object.assign(process.env, {
      AWS_ENDPOINT_URL_SECRETS_MANAGER: started.endpoint,
      AWS_REGION: 'eu-west-1',
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
    });
    client = new SecretsManagerClient({});
    ({ handler } = await import('../lib/rotation/function/index.js')); // it makes its client when it is loaded
  });

  after(() => {
    client?.destroy();
    moto?.kill();
  });

  beforeEach(async () => {
    const created = await client.send(new CreateSecretCommand({ Name: randomUUID(), SecretString: 'x'.repeat(64) }));
    secret = created.ARN!;
  });

  const step = (Step: string, ClientRequestToken: string) => handler({ Step, SecretId: secret, ClientRequestToken });
  const value = async (VersionStage: string) =>
    (await client.send(new GetSecretValueCommand({ SecretId: secret, VersionStage }))).SecretString;
  const rotate = async (token: string) => {
    for (const name of ['createSecret', 'setSecret', 'testSecret', 'finishSecret']) await step(name, token);
  };

  test('replaces the secret, and keeps the one before it', async () => {
    await rotate(randomUUID());
    assert.match((await value('AWSCURRENT'))!, /^[A-Za-z0-9_-]{64}$/);
    assert.equal(await value('AWSPREVIOUS'), 'x'.repeat(64));
  });

  test('makes a new secret each time', async () => {
    await rotate(randomUUID());
    const first = await value('AWSCURRENT');
    await rotate(randomUUID());
    assert.notEqual(await value('AWSCURRENT'), first);
    assert.equal(await value('AWSPREVIOUS'), first);
  });

  test('changes nothing before its last step', async () => {
    const token = randomUUID();
    for (const name of ['createSecret', 'setSecret', 'testSecret']) await step(name, token);
    assert.equal(await value('AWSCURRENT'), 'x'.repeat(64));
  });

  test('may be run again from any step, and then finds its own work done', async () => {
    const token = randomUUID();
    await step('createSecret', token);
    const made = await value('AWSPENDING');
    await step('createSecret', token);
    assert.equal(await value('AWSPENDING'), made);
    await rotate(token);
    await step('finishSecret', token);
    assert.deepEqual([await value('AWSCURRENT'), await value('AWSPREVIOUS')], [made, 'x'.repeat(64)]);
  });

  test('does not put into service what is not pending', async () => {
    await assert.rejects(step('finishSecret', randomUUID()), /is not pending/);
    await assert.rejects(step('testSecret', randomUUID()), { name: 'ResourceNotFoundException' });
    assert.equal(await value('AWSCURRENT'), 'x'.repeat(64));
  });

  test('does not put into service what is too short to be safe', async () => {
    const token = randomUUID();
    const short = { SecretId: secret, ClientRequestToken: token, SecretString: 'short', VersionStages: ['AWSPENDING'] };
    await client.send(new PutSecretValueCommand(short));
    await assert.rejects(step('testSecret', token), /too short/);
  });

  test('accepts the trial that Secrets Manager makes of a new schedule: a pending copy of what is current', async () => {
    const token = randomUUID();
    const copy = {
      SecretId: secret,
      ClientRequestToken: token,
      SecretString: await value('AWSCURRENT'),
      VersionStages: ['AWSPENDING'],
    };
    await client.send(new PutSecretValueCommand(copy));
    await step('testSecret', token);
  });

  test('refuses a step that does not exist', async () => {
    await assert.rejects(step('dropSecret', randomUUID()), /no rotation step dropSecret/);
    const { VersionIdsToStages } = await client.send(new DescribeSecretCommand({ SecretId: secret }));
    assert.equal(Object.keys(VersionIdsToStages!).length, 1);
  });
});
