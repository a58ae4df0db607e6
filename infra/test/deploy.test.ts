/** `npm run deploy`, with commands in the place of the AWS CLI and the CDK that say what they are asked. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, test } from 'node:test';

import { INFRA, temporaryFolder } from './support/stacks';

function deploy(aws: string | undefined, ...given: string[]): Asked {
  return deployWith({}, aws, ...given);
}

/** What the commands were asked; the AWS CLI, what it was asked last. */
interface Asked {
  cdk: string[];
  aws: string;
  status: number | null;
}

/** With these options in `cdk.context.json`. */
function deployWith(options: object, aws: string | undefined, ...given: string[]): Asked {
  const folder = temporaryFolder('commands-');
  fs.writeFileSync(path.join(folder, 'cdk.context.json'), JSON.stringify(options));
  const command = (name: string, script: string) =>
    fs.writeFileSync(path.join(folder, name), `#!/bin/sh\nprintf '%s\\n' "$@" > ${folder}/${name}.asked\n${script}\n`, {
      mode: 0o755,
    });
  command('cdk', 'exit 3');
  if (aws !== undefined) command('aws', aws);
  const run = spawnSync(process.execPath, [path.join(INFRA, 'dist/bin/deploy.js'), ...given], {
    cwd: folder,
    env: { PATH: folder },
  });
  const asked = (name: string) => {
    const file = path.join(folder, `${name}.asked`);
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trimEnd() : '';
  };
  return { cdk: asked('cdk').split('\n'), aws: asked('aws'), status: run.status };
}

/** An account in which so much is unreserved, and in which the handler, where it is deployed, has so much. */
function account(unreserved: number, own?: number): string {
  const handler = own === undefined ? 'exit 254' : 'echo stack-Handler';
  return `case "$*" in
    lambda\\ get-account-settings*UnreservedConcurrentExecutions*) echo ${unreserved};;
    cloudformation\\ describe-stacks*) ${handler};;
    lambda\\ get-function-concurrency*stack-Handler*) echo ${own || 'None'};;
  esac`;
}

describe('a deployment', () => {
  test('reserves no concurrency where the account has none to give', () => {
    for (const unreserved of [10, 119]) {
      assert.deepEqual(deploy(account(unreserved)).cdk, ['deploy', '-c', 'reservedConcurrency=none']);
    }
  });

  test('reserves it where the account has some, and where it cannot be asked', () => {
    for (const aws of [account(120), account(1000), 'exit 255', 'echo None', undefined]) {
      assert.deepEqual(deploy(aws).cdk, ['deploy'], aws);
    }
  });

  test('counts what the handler has already', () => {
    assert.deepEqual(deploy(account(100, 20)).cdk, ['deploy']);
    assert.deepEqual(deploy(account(110, 0)).cdk, ['deploy', '-c', 'reservedConcurrency=none']);
  });

  test('looks for the handler in the stack that it updates', () => {
    const named = account(100, 20).replace('describe-stacks*', 'describe-stacks*--stack-name\\ mine*');
    assert.deepEqual(deploy(named, '-c', 'stackName=mine').cdk, ['deploy', '-c', 'stackName=mine']);
    assert.deepEqual(deployWith({ stackName: 'mine' }, named).cdk, ['deploy']);
    assert.deepEqual(deploy(named).cdk, ['deploy', '-c', 'reservedConcurrency=none']);
  });

  test('asks nothing where it was decided', () => {
    const { cdk, aws } = deploy('echo 10', '-c', 'reservedConcurrency=5');
    assert.deepEqual(cdk, ['deploy', '-c', 'reservedConcurrency=5']);
    assert.equal(aws, '');
    assert.deepEqual(deployWith({ reservedConcurrency: 5 }, 'echo 10').cdk, ['deploy']);
  });

  test('asks the account that it deploys to, and passes everything on', () => {
    const { cdk, aws } = deploy('echo 1000', '--profile', 'work', '-c', 'relay=one');
    assert.deepEqual(cdk, ['deploy', '--profile', 'work', '-c', 'relay=one']);
    assert.match(aws, /\n--profile\nwork$/);
  });

  test('ends as the CDK does', () => {
    assert.equal(deploy('echo 1000').status, 3);
  });
});
