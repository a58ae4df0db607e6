import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, test } from 'node:test';

import { Validations } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';

import { application, COMBINATIONS, INFRA, artifacts, synthesise, temporaryFolder } from './support/stacks';

describe("cdk-nag's AWS Solutions pack finds nothing that is not justified", () => {
  for (const [name, context] of Object.entries(COMBINATIONS)) {
    test(name, () => {
      const { app } = application(context);
      const { success, violations } = new AwsSolutionsChecks().validateScope(app);
      assert.deepEqual(
        violations.map(({ ruleName, violatingResources }) => [ruleName, violatingResources]),
        [],
      );
      assert.equal(success, true);
    });
  }
});

test('what is justified is this, and no more', () => {
  const found = new Set<string>();
  for (const context of Object.values(COMBINATIONS)) {
    for (const construct of application(context).stack.node.findAll()) {
      for (const { type, data } of construct.node.metadata) {
        if (type !== Validations.ACKNOWLEDGED_RULES_METADATA_KEY) continue;
        for (const [full, reason] of Object.entries(data as Record<string, string>)) {
          const id = full.replace('Annotation::', '');
          if (!id.startsWith('AwsSolutions-')) continue; // the CDK acknowledges findings of its own
          assert.ok(reason.length > 20, `${construct.node.path}: ${id} needs its reason`);
          found.add(`${construct.node.path.replace(/^[^/]+\//, '')} ${id}`);
        }
      }
    }
  }
  const star = 'AwsSolutions-IAM5[Resource::*]'; // X-Ray, and the token for ECR
  assert.deepEqual([...found].sort(), [
    `HandlerRole ${star}`,
    `PublisherRole ${star}`,
    `RedriveRole ${star}`,
    'Relay/Cluster AwsSolutions-ECS4',
    'Relay/Task AwsSolutions-ECS2',
    `Relay/Task/ExecutionRole ${star}`,
    'Relay/Vpc AwsSolutions-VPC7',
    'Secrets/ApiKey AwsSolutions-SMG4',
    `Secrets/Rotation/FunctionRole ${star}`,
    'Secrets/Signing AwsSolutions-SMG4',
  ]);
});

test('cfn-lint finds nothing', { skip: process.env.CFN_LINT ? false : 'CFN_LINT does not name the command' }, () => {
  const folder = temporaryFolder('templates-');
  const templates = Object.entries(COMBINATIONS).map(([name, context]) => {
    const template = path.join(folder, `${name.replaceAll(' ', '-')}.json`);
    fs.writeFileSync(template, JSON.stringify(synthesise(context).json, undefined, 1));
    return template;
  });
  // W3005 is about dependencies that are stated though they follow from a reference: the CDK writes them for every
  // function with a role.
  const [command, ...rest] = process.env.CFN_LINT!.split(' ');
  const lint = spawnSync(command!, [...rest, '--ignore-checks', 'W3005', '--', ...templates], { encoding: 'utf8' });
  assert.equal(lint.status, 0, `${lint.error ?? ''}${lint.stdout}${lint.stderr}`);
});

test('the command line synthesises without an account and without the network, as the kept options say', () => {
  const folder = temporaryFolder('home-');
  // A folder of its own, since in infra/ lie the options of whoever runs this.
  fs.copyFileSync(path.join(INFRA, 'cdk.json'), path.join(folder, 'cdk.json'));
  fs.symlinkSync(path.join(INFRA, 'dist'), path.join(folder, 'dist'));
  const options = { relay: 'pair', auth: 'iam', logRetentionDays: 7, artifacts: artifacts('arm64') };
  fs.writeFileSync(path.join(folder, 'cdk.context.json'), JSON.stringify(options));
  const run = spawnSync(
    path.join(INFRA, 'node_modules/.bin/cdk'),
    // The build is done, and tests that run beside this one read what it would write again.
    ['synth', '--quiet', '--build', 'true', '-c', 'auth=none'],
    {
      cwd: folder,
      encoding: 'utf8',
      // Nobody's credentials, no Docker, and a proxy that nobody answers at.
      env: {
        PATH: path.dirname(process.execPath) + ':/bin',
        HOME: folder,
        HTTPS_PROXY: 'http://127.0.0.1:9',
        AWS_EC2_METADATA_DISABLED: 'true',
      },
    },
  );
  assert.equal(run.status, 0, run.stderr);
  const template = JSON.parse(fs.readFileSync(path.join(folder, 'cdk.out/momento-webhook.template.json'), 'utf8'));
  assert.ok(template.Outputs.RelayService);
  const url = Object.values<any>(template.Resources).find(({ Type }) => Type === 'AWS::Lambda::Url');
  assert.equal(url.Properties.AuthType, 'NONE', 'the command line has the last word');
});

test('the command line says what is wrong, and nothing else', () => {
  const app = spawnSync(process.execPath, [path.join(INFRA, 'dist/bin/app.js')], {
    encoding: 'utf8',
    env: { CDK_CONTEXT_JSON: JSON.stringify({ artifacts: temporaryFolder('none-') }) },
  });
  assert.equal(app.status, 1);
  assert.match(app.stderr, /^\S+handler\/bootstrap is missing: run `make build` first.*\n$/);
});
