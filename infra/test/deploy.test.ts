/** `npm run deploy`, with commands in the place of the AWS CLI and the CDK that say what they are asked. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, test } from 'node:test';

import { INFRA, temporaryFolder } from './support/stacks';

function deploy(aws: string | undefined, ...given: string[]): { cdk: string[]; aws: string; status: number | null } {
  const folder = temporaryFolder('commands-');
  const command = (name: string, script: string) =>
    fs.writeFileSync(path.join(folder, name), `#!/bin/sh\nprintf '%s\\n' "$@" > ${folder}/${name}.asked\n${script}\n`, {
      mode: 0o755,
    });
  command('cdk', 'exit 3');
  if (aws !== undefined) command('aws', aws);
  const run = spawnSync(process.execPath, [path.join(INFRA, 'dist/bin/deploy.js'), ...given], {
    env: { PATH: folder },
  });
  const asked = (name: string) => {
    const file = path.join(folder, `${name}.asked`);
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trimEnd() : '';
  };
  return { cdk: asked('cdk').split('\n'), aws: asked('aws'), status: run.status };
}

describe('a deployment', () => {
  test('reserves no concurrency where the account has none to give', () => {
    assert.deepEqual(deploy('echo 10').cdk, ['deploy', '-c', 'reservedConcurrency=none']);
    assert.deepEqual(deploy('echo 119').cdk, ['deploy', '-c', 'reservedConcurrency=none']);
  });

  test('reserves it where the account has some, and where it cannot be asked', () => {
    for (const aws of ['echo 120', 'echo 1000', 'exit 255', 'echo None', undefined]) {
      assert.deepEqual(deploy(aws).cdk, ['deploy'], aws);
    }
  });

  test('asks nothing where it was decided', () => {
    const { cdk, aws } = deploy('echo 10', '-c', 'reservedConcurrency=5');
    assert.deepEqual(cdk, ['deploy', '-c', 'reservedConcurrency=5']);
    assert.equal(aws, '');
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
