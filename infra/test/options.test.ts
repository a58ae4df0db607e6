import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { artifact } from '../lib/artifacts';
import { OPTIONS, readOptions } from '../lib/options';
import { ADOPTED, KEY, artifacts, temporaryFolder } from './support/stacks';

test('nothing has to be chosen', () => {
  const { artifacts: folder, ...options } = readOptions({});
  assert.match(folder, /\/target\/lambda$/);
  assert.deepEqual(options, {
    stackName: 'momento-webhook',
    architecture: 'arm64',
    auth: 'none',
    reservedConcurrency: 20,
    relay: 'none',
    signer: 'relay',
    eventSources: 'course-comments/comment',
    rotationDays: 30,
    logRetentionDays: 30,
  });
});

test('an option that does not exist is refused, and those that do are listed', () => {
  assert.throws(
    () => readOptions({ auht: 'iam' }),
    (error: Error) =>
      error.message.startsWith('there is no option auht; there are:\n') &&
      Object.keys(OPTIONS).every((name) => error.message.includes(`\n  ${name}: `)),
  );
});

test("the CDK's own context is none of our options", () => {
  readOptions({ '@aws-cdk/core:anything': true, 'aws:cdk:enable-path-metadata': true, 'cli-telemetry': false });
});

test('a value that cannot be is refused by name, with what can be', () => {
  for (const [name, value] of [
    ['stackName', '1st'],
    ['architecture', 'arm'],
    ['auth', 'public'],
    ['reservedConcurrency', '0'],
    ['reservedConcurrency', '1.5'],
    ['reservedConcurrency', 'off'],
    ['relay', '2'],
    ['signer', 'me'],
    ['eventSources', 'no-topic'],
    ['eventSources', 'cache/topic,'],
    ['momentoEndpoint', 'https://cell.momentohq.com'],
    ['rotationDays', '0'],
    ['logRetentionDays', '31'],
    ['apiKeySecretArn', 'momento/key'],
    ['secretsKeyArn', 'alias/mine'],
    ['alarmTopicArn', 'alarms'],
  ] as const) {
    const message = `${name}=${value} is not valid: use ${OPTIONS[name].expected}`;
    assert.throws(() => readOptions({ [name]: value }), { message });
  }
});

test('an ARN without the end that Secrets Manager adds is refused, since IAM would need a pattern for it', () => {
  const partial = ADOPTED.apiKeySecretArn!.slice(0, -7);
  assert.throws(() => readOptions({ apiKeySecretArn: partial }), /apiKeySecretArn=.* is not valid/);
});

test('everything that is wrong is said at once', () => {
  assert.throws(
    () => readOptions({ auth: 'x', relay: 'y', z: '1' }),
    (error: Error) => ['auth=x', 'relay=y', 'no option z'].every((part) => error.message.includes(part)),
  );
});

test('options that contradict each other are refused', () => {
  assert.throws(
    () => readOptions({ feedTopic: 'b/c', eventSources: 'x/y,a/b/c' }),
    /feedTopic=b\/c is one of eventSources/,
  );
  assert.throws(() => readOptions({ relay: 'one', signer: 'momento' }), /deliver every message twice/);
  assert.throws(() => readOptions({ secretsKeyArn: KEY }), /secretsKeyArn has no effect/);
  assert.throws(() => readOptions({ rotationDays: '7', signer: 'momento' }), /rotationDays has no effect/);
  assert.throws(() => readOptions({ rotationDays: '7', ...ADOPTED }), /rotationDays has no effect/);
});

test('a binary that was not built is named, with what to do', () => {
  const folder = temporaryFolder('empty-');
  assert.throws(() => artifact('handler', { artifacts: folder, architecture: 'arm64' }), {
    message: new RegExp(`^${path.join(folder, 'handler/bootstrap')} is missing: run \`make build\` first`),
  });
});

test('a binary for the other architecture, or for another system, is refused', () => {
  const folder = artifacts('x86_64');
  artifact('relay', { artifacts: folder, architecture: 'x86_64' });
  assert.throws(() => artifact('relay', { artifacts: folder, architecture: 'arm64' }), /is no Linux binary for arm64/);
  fs.writeFileSync(path.join(folder, 'relay/bootstrap'), 'short');
  assert.throws(
    () => artifact('relay', { artifacts: folder, architecture: 'x86_64' }),
    /is no Linux binary for x86_64/,
  );
});
