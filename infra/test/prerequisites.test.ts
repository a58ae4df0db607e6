/** What `make deploy` and `make deploy-function` check first, with moto for AWS. */
import assert from 'node:assert/strict';
import { spawnSync, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { startMoto } from './support/moto';
import { INFRA, temporaryFolder } from './support/stacks';

const skip = process.env.MOTO_SERVER && process.env.PYTHON ? false : 'MOTO_SERVER and PYTHON name no commands';

/** The commands that a machine has on which nothing is missing. */
const COMMANDS: Record<string, string> = { rustup: 'exit 0', node: 'echo v20.0.0', npm: 'exit 0', aws: 'exit 0' };

describe('before a deployment', { skip }, () => {
  let moto: ChildProcess;
  let account: Record<string, string>;

  before(async () => {
    const started = await startMoto();
    moto = started.process;
    account = {
      AWS_ENDPOINT_URL: started.endpoint,
      AWS_REGION: 'eu-west-1',
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
    };
    await deployed(started.endpoint, 'MyStack-Handler123', 'arm64');
  });
  after(() => moto?.kill());

  /** What is said to be missing, line by line. */
  const missing = (
    mode: string,
    variables: Record<string, string> = {},
    commands: Record<string, string> = COMMANDS,
    options?: string,
  ): string[] => {
    const folder = temporaryFolder('machine-');
    for (const [name, script] of Object.entries(commands)) {
      fs.writeFileSync(path.join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    }
    fs.mkdirSync(path.join(folder, 'infra'));
    if (options) fs.writeFileSync(path.join(folder, 'infra/cdk.context.json'), options);
    const run = spawnSync(process.env.PYTHON!, [path.join(INFRA, 'dev/prerequisites.py'), mode], {
      cwd: folder,
      encoding: 'utf8',
      env: { PATH: folder, HOME: folder, AWS_EC2_METADATA_DISABLED: 'true', ...account, ...variables },
    });
    const said = run.stderr.split('\n').filter(Boolean);
    assert.equal(run.status, said.length > 0 ? 1 : 0, run.stderr);
    for (const line of said) assert.match(line, /^error: /);
    return said.map((line) => line.replace('error: ', ''));
  };

  test('nothing is said where nothing is missing', () => {
    assert.deepEqual(missing('deploy'), []);
  });

  test('everything that is missing is said at once', () => {
    const none = { AWS_ACCESS_KEY_ID: '', AWS_SECRET_ACCESS_KEY: '', AWS_REGION: '' };
    const said = missing('deploy', { ...none, CDK_OPTIONS: '-c relay=pair' }, {});
    const about = [/^rustup /, /^Node /, /^the AWS CLI /, /^`docker info` fails/, /^no AWS region/, /^no AWS credentials/];
    assert.equal(said.length, about.length, said.join('\n'));
    about.forEach((pattern, index) => assert.match(said[index]!, pattern));
  });

  test('a Node that is too old is named', () => {
    assert.deepEqual(missing('deploy', {}, { ...COMMANDS, node: 'echo v18.19.1' }), [
      'Node 18 is too old: install 20 or newer',
    ]);
  });

  test('Docker is asked for where a relay was chosen, in the file or on the command line', () => {
    const docker = [/^`docker info` fails/];
    const expect = (said: string[], patterns: RegExp[]) => {
      assert.equal(said.length, patterns.length, said.join('\n'));
      patterns.forEach((pattern, index) => assert.match(said[index]!, pattern));
    };
    expect(missing('deploy', {}, COMMANDS, '{"relay": "one"}'), docker);
    expect(missing('deploy', { CDK_OPTIONS: '--context=relay=one' }), docker);
    expect(missing('deploy', { CDK_OPTIONS: '-c relay=none' }, COMMANDS, '{"relay": "one"}'), []);
    expect(missing('deploy', {}, { ...COMMANDS, docker: 'exit 0' }, '{"relay": "one"}'), []);
  });

  test('the AWS CLI is asked for where there is a key to fill in', () => {
    const { aws, ...commands } = COMMANDS;
    assert.ok(aws);
    assert.equal(missing('deploy', {}, commands).length, 1);
    assert.deepEqual(missing('deploy', { CDK_OPTIONS: '-c apiKeySecretArn=arn' }, commands), []);
  });

  test('options that are no JSON are named', () => {
    assert.match(missing('deploy', {}, COMMANDS, '{')[0]!, /^infra\/cdk.context.json is no JSON: /);
  });

  test('credentials that do not work are refused, wherever they are from', () => {
    const [none] = missing('deploy', { CDK_OPTIONS: '--profile nobody' });
    assert.match(none!, /nobody/);
    const [said] = missing('deploy', { AWS_ENDPOINT_URL_STS: 'http://127.0.0.1:9' });
    assert.match(said!, /^the AWS credentials do not work: .*127\.0\.0\.1:9/);
  });

  test('the function has to be named, and to be there', () => {
    assert.match(missing('deploy-function', { ARCHITECTURE: 'arm64' })[0]!, /^no FUNCTION: /);
    const [typo] = missing('deploy-function', { ARCHITECTURE: 'arm64', FUNCTION: 'MyStack-Hadler123' });
    assert.match(typo!, /^there is no function MyStack-Hadler123 in eu-west-1: /);
    assert.deepEqual(missing('deploy-function', { ARCHITECTURE: 'arm64', FUNCTION: 'MyStack-Handler123' }), []);
  });

  test('the function has to run on what is built', () => {
    assert.deepEqual(missing('deploy-function', { ARCHITECTURE: 'x86_64', FUNCTION: 'MyStack-Handler123' }), [
      'MyStack-Handler123 runs on arm64, not on x86_64: give ARCHITECTURE=arm64',
    ]);
  });

  test('a dry run needs no account', () => {
    const variables = { ARCHITECTURE: 'x86_64', AWS_ACCESS_KEY_ID: '', DEPLOY_OPTIONS: '--dry' };
    assert.deepEqual(missing('deploy-function', variables), []);
  });
});

/** Makes a function in moto, which checks no signature, but reads in it which service and region are meant. */
async function deployed(endpoint: string, name: string, architecture: string): Promise<void> {
  const ask = async (service: string, where: string, body: string, type: string) => {
    const scope = `Credential=test/20260101/eu-west-1/${service}/aws4_request, SignedHeaders=host, Signature=0`;
    const headers = { authorization: `AWS4-HMAC-SHA256 ${scope}`, 'content-type': type };
    const answer = await fetch(endpoint + where, { method: 'POST', headers, body });
    assert.ok(answer.ok, await answer.text());
  };
  const role = 'Action=CreateRole&Version=2010-05-08&RoleName=handler&AssumeRolePolicyDocument=%7B%7D';
  await ask('iam', '/', role, 'application/x-www-form-urlencoded');
  const emptyZip = Buffer.concat([Buffer.from('PK\x05\x06'), Buffer.alloc(18)]);
  const create = {
    FunctionName: name,
    Runtime: 'provided.al2023',
    Handler: 'bootstrap',
    Role: 'arn:aws:iam::123456789012:role/handler',
    Architectures: [architecture],
    Code: { ZipFile: emptyZip.toString('base64') },
  };
  await ask('lambda', '/2015-03-31/functions', JSON.stringify(create), 'application/json');
}
