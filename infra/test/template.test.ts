import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, test } from 'node:test';

import { AssetManifestArtifact } from 'aws-cdk-lib/cx-api';

import { ADOPTED, application, artifacts, COMBINATIONS, synthesise, type Synthesised } from './support/stacks';

const FUNCTION = 'AWS::Lambda::Function';
const QUEUE = 'AWS::SQS::Queue';
const SECRET = 'AWS::SecretsManager::Secret';

const environment = (stack: Synthesised, name: string) => stack.properties(FUNCTION, name).Environment.Variables;

describe('the handler', () => {
  test('answers before the sender stops waiting', () => {
    const { Timeout, MemorySize, Handler, Runtime, Architectures } = synthesise().properties(FUNCTION, 'Handler');
    assert.ok(Timeout < 5, 'the sender waits for 5 s');
    assert.ok(Timeout >= 4, 'parking may take until 4 s');
    assert.deepEqual(
      { MemorySize, Handler, Runtime, Architectures },
      {
        MemorySize: 256,
        Handler: 'bootstrap',
        Runtime: 'provided.al2023',
        Architectures: ['arm64'],
      },
    );
  });

  test('has a public URL, with both permissions that it needs now and no CORS', () => {
    const stack = synthesise();
    const handler = stack.id(FUNCTION, 'Handler');
    const arn = { 'Fn::GetAtt': [handler, 'Arn'] };
    assert.deepEqual(
      stack.all('AWS::Lambda::Url').map(([, url]) => url.Properties),
      [{ AuthType: 'NONE', TargetFunctionArn: arn }],
    );
    const permissions = stack.all('AWS::Lambda::Permission').map(([, permission]) => permission.Properties);
    assert.deepEqual(
      permissions.filter(({ Principal }) => Principal === '*'),
      [
        { Action: 'lambda:InvokeFunctionUrl', FunctionName: arn, FunctionUrlAuthType: 'NONE', Principal: '*' },
        { Action: 'lambda:InvokeFunction', FunctionName: arn, InvokedViaFunctionUrl: true, Principal: '*' },
      ],
    );
  });

  test('is open to nobody with AWS authentication', () => {
    const stack = synthesise({ auth: 'iam' });
    assert.deepEqual(
      stack.all('AWS::Lambda::Url').map(([, url]) => url.Properties.AuthType),
      ['AWS_IAM'],
    );
    const open = stack.all('AWS::Lambda::Permission').filter(([, { Properties }]) => !Properties.SourceArn);
    assert.deepEqual(open, []);
  });

  test('is told the allowed sources, and nothing that was not chosen', () => {
    const stack = synthesise();
    assert.deepEqual(environment(stack, 'Handler'), {
      MOMENTO_API_KEY_SECRET_NAME: { Ref: stack.id(SECRET, 'SecretsApiKey') },
      MOMENTO_SIGNING_SECRET_NAME: { Ref: stack.id(SECRET, 'SecretsSigning') },
      EVENT_SOURCES: 'course-comments/comment',
      PARK_QUEUE_URL: { Ref: stack.id(QUEUE, 'ParkingQueue') },
      SECRET_TTL_SECONDS: '300',
      SECRET_OVERLAP_SECONDS: '900',
      METRICS_STACK: 'momento-webhook',
    });
  });

  test('is told all that was chosen', () => {
    const variables = environment(synthesise(COMBINATIONS['with all that can be set']), 'Handler');
    const { EVENT_SOURCES, FEED_TOPIC, USER_CACHE, USER_PUBLIC_FIELDS, CLAIM_CACHE, MOMENTO_ENDPOINT, METRICS_STACK } =
      variables;
    assert.deepEqual(
      [EVENT_SOURCES, FEED_TOPIC, USER_CACHE, USER_PUBLIC_FIELDS, CLAIM_CACHE, MOMENTO_ENDPOINT, METRICS_STACK],
      [
        'course-comments/comment,shop/order',
        'feed',
        'users',
        'name,picture',
        'claims',
        'cell-1-eu-west-1-1.prod.a.momentohq.com',
        'other',
      ],
    );
  });

  test('reserves concurrency, unless the account has none to give', () => {
    const reserved = (value: string | undefined) =>
      synthesise(value ? { reservedConcurrency: value } : {}).properties(FUNCTION, 'Handler')
        .ReservedConcurrentExecutions;
    assert.deepEqual([undefined, '7', 'none'].map(reserved), [20, 7, undefined]);
  });
});

describe('every function', () => {
  for (const [name, context] of Object.entries(COMBINATIONS)) {
    test(`logs JSON to a group of its own that forgets, and traces: ${name}`, () => {
      const stack = synthesise(context);
      const groups = stack.all(FUNCTION).map(([id, { Properties }]) => {
        assert.equal(Properties.LoggingConfig.LogFormat, 'JSON', id);
        assert.equal(Properties.LoggingConfig.ApplicationLogLevel, 'INFO', id);
        assert.equal(Properties.TracingConfig.Mode, 'Active', id);
        const group = Properties.LoggingConfig.LogGroup.Ref;
        assert.equal(
          stack.json.Resources[group]!.Properties.RetentionInDays,
          Number(context.logRetentionDays ?? 30),
          id,
        );
        return group;
      });
      assert.equal(new Set(groups).size, stack.all(FUNCTION).length);
    });
  }

  test('of Rust is for the architecture that was chosen', () => {
    for (const architecture of ['arm64', 'x86_64']) {
      const stack = synthesise({ architecture });
      for (const name of ['Handler', 'Redrive', 'Publisher']) {
        assert.deepEqual(stack.properties(FUNCTION, name).Architectures, [architecture]);
      }
    }
  });

  test('is deployed from its own binary', () => {
    const keys = ['Handler', 'Redrive', 'Publisher'].map((name) => synthesise().properties(FUNCTION, name).Code.S3Key);
    assert.equal(new Set(keys).size, 3);
  });

  test('has its permissions before it can run', () => {
    const stack = synthesise();
    for (const [id, { DependsOn }] of stack.all(FUNCTION)) {
      assert.ok(
        DependsOn?.some((dependency) => dependency.includes('DefaultPolicy')),
        id,
      );
    }
  });

  test('but the handler is beyond the reach of a URL', () => {
    const targets = synthesise({ relay: 'one' })
      .all('AWS::Lambda::Url')
      .map(([, url]) => url.Properties.TargetFunctionArn);
    assert.deepEqual(targets, [{ 'Fn::GetAtt': [synthesise().id(FUNCTION, 'Handler'), 'Arn'] }]);
  });
});

describe('redrive', () => {
  test('takes from the parking queue, a few at once, and says what failed', () => {
    const stack = synthesise();
    const [mapping, ...more] = stack.all('AWS::Lambda::EventSourceMapping').map(([, resource]) => resource);
    assert.ok(mapping && more.length === 0);
    assert.deepEqual(mapping.Properties, {
      BatchSize: 10,
      EventSourceArn: { 'Fn::GetAtt': [stack.id(QUEUE, 'ParkingQueue'), 'Arn'] },
      FunctionName: { Ref: stack.id(FUNCTION, 'Redrive') },
      FunctionResponseTypes: ['ReportBatchItemFailures'],
      MaximumBatchingWindowInSeconds: 0,
      ScalingConfig: { MaximumConcurrency: 2 },
    });
    assert.ok(mapping.DependsOn?.some((dependency) => dependency.includes('RedriveRoleDefaultPolicy')));
  });

  test('processes as the handler does, and never sees the signing secret', () => {
    const stack = synthesise(COMBINATIONS['with all that can be set']);
    const { EVENT_SOURCES, MOMENTO_SIGNING_SECRET_NAME, ...handler } = environment(stack, 'Handler');
    const { DEAD_LETTER_QUEUE_URL, ...redrive } = environment(stack, 'Redrive');
    assert.deepEqual(redrive, handler);
    assert.deepEqual(DEAD_LETTER_QUEUE_URL, { Ref: stack.id(QUEUE, 'ParkingDeadLetters') });
    assert.ok(EVENT_SOURCES && MOMENTO_SIGNING_SECRET_NAME);
  });
});

test('the publisher is told the API key alone', () => {
  const stack = synthesise();
  const { METRICS_STACK, SECRET_TTL_SECONDS, SECRET_OVERLAP_SECONDS, ...rest } = environment(stack, 'Publisher');
  assert.deepEqual(rest, { MOMENTO_API_KEY_SECRET_NAME: { Ref: stack.id(SECRET, 'SecretsApiKey') } });
  assert.ok(METRICS_STACK && SECRET_TTL_SECONDS && SECRET_OVERLAP_SECONDS);
});

describe('the queues', () => {
  const parking = synthesise().properties(QUEUE, 'ParkingQueue');
  const deadLetters = synthesise().properties(QUEUE, 'ParkingDeadLetters');
  const HOUR = 3600;

  test('are encrypted', () => {
    assert.deepEqual([parking.SqsManagedSseEnabled, deadLetters.SqsManagedSseEnabled], [true, true]);
  });

  test('hide a batch for as long as its run may be tried again', () => {
    assert.ok(parking.VisibilityTimeout >= 6 * synthesise().properties(FUNCTION, 'Redrive').Timeout);
  });

  test('outlast an outage of six hours, and give up before the claims are forgotten', () => {
    // What redrive does: 30 s, then twice as long each time, up to 15 min.
    const waits = Array.from({ length: parking.RedrivePolicy.maxReceiveCount - 1 }, (_, n) =>
      Math.min(30 * 2 ** n, 900),
    );
    const total = waits.reduce((sum, wait) => sum + wait, 0);
    assert.ok(total > 6 * HOUR, `${total} s`);
    assert.ok(total < 24 * HOUR, `${total} s`);
    assert.ok(parking.MessageRetentionPeriod > total);
  });

  test('keep what was given up, longer than what waits', () => {
    assert.deepEqual(parking.RedrivePolicy.deadLetterTargetArn, {
      'Fn::GetAtt': [synthesise().id(QUEUE, 'ParkingDeadLetters'), 'Arn'],
    });
    assert.equal(deadLetters.MessageRetentionPeriod, 14 * 24 * HOUR);
    assert.ok(deadLetters.MessageRetentionPeriod > 2 * parking.MessageRetentionPeriod);
  });
});

describe('the secrets', () => {
  const made = (context: Record<string, string>) =>
    synthesise(context)
      .all(SECRET)
      .map(([id, { Properties }]) => {
        const { Description, ...rest } = Properties;
        return [id.slice(0, -8), rest];
      });
  const GENERATED = { GenerateSecretString: { ExcludePunctuation: true, PasswordLength: 64 } };

  test('are an empty one for the key, and a generated one to sign with', () => {
    assert.deepEqual(made({}), [
      ['SecretsApiKey', {}],
      ['SecretsSigning', GENERATED],
    ]);
  });

  test('are both empty where Momento signs', () => {
    assert.deepEqual(made({ signer: 'momento' }), [
      ['SecretsApiKey', {}],
      ['SecretsSigning', {}],
    ]);
  });

  test('are not made where they are adopted', () => {
    assert.deepEqual(made(ADOPTED), []);
    const variables = environment(synthesise(ADOPTED), 'Handler');
    assert.equal(variables.MOMENTO_API_KEY_SECRET_NAME, ADOPTED.apiKeySecretArn);
    assert.equal(variables.MOMENTO_SIGNING_SECRET_NAME, ADOPTED.signingSecretArn);
  });

  test('may be adopted one by one', () => {
    assert.deepEqual(made({ apiKeySecretArn: ADOPTED.apiKeySecretArn! }), [['SecretsSigning', GENERATED]]);
    assert.deepEqual(made({ signingSecretArn: ADOPTED.signingSecretArn! }), [['SecretsApiKey', {}]]);
  });

  test('are never parameters, nor readable in the template', () => {
    for (const context of Object.values(COMBINATIONS)) {
      const { Parameters = {} } = synthesise(context).json as any;
      assert.deepEqual(Object.keys(Parameters), ['BootstrapVersion']);
      assert.ok(!JSON.stringify(synthesise(context).json).includes('"SecretString"'));
      assert.ok(!JSON.stringify(synthesise(context).json).includes('{{resolve:secretsmanager'));
    }
  });
});

describe('rotation', () => {
  const schedules = (context: Record<string, string>) =>
    synthesise(context)
      .all('AWS::SecretsManager::RotationSchedule')
      .map(([, { Properties }]) => Properties);

  test('replaces the generated signing secret, on a schedule and not at a deployment', () => {
    const stack = synthesise();
    assert.deepEqual(schedules({}), [
      {
        RotateImmediatelyOnUpdate: false,
        RotationLambdaARN: { 'Fn::GetAtt': [stack.id(FUNCTION, 'SecretsRotationFunction'), 'Arn'] },
        RotationRules: { AutomaticallyAfterDays: 30 },
        SecretId: { Ref: stack.id(SECRET, 'SecretsSigning') },
      },
    ]);
    assert.equal(schedules({ rotationDays: '7' })[0].RotationRules.AutomaticallyAfterDays, 7);
  });

  test('leaves alone what Momento signs with, and what was adopted', () => {
    assert.deepEqual([...schedules({ signer: 'momento' }), ...schedules(ADOPTED)], []);
  });

  test('is invoked by Secrets Manager alone, for this secret of this account', () => {
    const stack = synthesise({ auth: 'iam' });
    assert.deepEqual(
      stack.all('AWS::Lambda::Permission').map(([, { Properties }]) => Properties),
      [
        {
          Action: 'lambda:InvokeFunction',
          FunctionName: { 'Fn::GetAtt': [stack.id(FUNCTION, 'SecretsRotationFunction'), 'Arn'] },
          Principal: 'secretsmanager.amazonaws.com',
          SourceAccount: { Ref: 'AWS::AccountId' },
          SourceArn: { Ref: stack.id(SECRET, 'SecretsSigning') },
        },
      ],
    );
  });

  test('leaves an overlap that outlasts what sender and receiver keep', () => {
    const stack = synthesise({ relay: 'one' });
    const [container] = stack.properties('AWS::ECS::TaskDefinition', 'RelayTask').ContainerDefinitions;
    const relay = Object.fromEntries(container.Environment.map(({ Name, Value }: any) => [Name, Value]));
    const handler = environment(stack, 'Handler');
    for (const name of ['SECRET_TTL_SECONDS', 'SECRET_OVERLAP_SECONDS']) assert.equal(relay[name], handler[name]);
    assert.ok(Number(handler.SECRET_OVERLAP_SECONDS) > 2 * Number(handler.SECRET_TTL_SECONDS));
  });
});

describe('the relay', () => {
  const stack = synthesise({ relay: 'one' });
  const task = stack.properties('AWS::ECS::TaskDefinition', 'RelayTask');
  const [container] = task.ContainerDefinitions;

  test('is there by choice', () => {
    assert.deepEqual(
      Object.values(synthesise().json.Resources).filter(({ Type }) => /::(ECS|EC2)::/.test(Type)),
      [],
    );
  });

  test('runs alone, or as a pair that is changed one by one', () => {
    const service = (relay: string) => {
      const { DesiredCount, DeploymentConfiguration, AvailabilityZoneRebalancing } = synthesise({ relay }).properties(
        'AWS::ECS::Service',
        'RelayService',
      );
      // Rebalancing zones would take more tasks than the maximum.
      assert.equal(AvailabilityZoneRebalancing, 'DISABLED');
      return [DesiredCount, DeploymentConfiguration.MinimumHealthyPercent, DeploymentConfiguration.MaximumPercent];
    };
    assert.deepEqual(
      [service('one'), service('pair')],
      [
        [1, 0, 100],
        [2, 50, 100],
      ],
    );
  });

  test('can be reached on no port, and reaches out over HTTPS alone', () => {
    const groups = stack.all('AWS::EC2::SecurityGroup').map(([, { Properties }]) => Properties);
    assert.equal(groups.length, 1);
    assert.equal(groups[0].SecurityGroupIngress, undefined);
    assert.deepEqual(
      groups[0].SecurityGroupEgress.map(({ FromPort, ToPort, IpProtocol }: any) => [IpProtocol, FromPort, ToPort]),
      [['tcp', 443, 443]],
    );
    assert.deepEqual(stack.all('AWS::EC2::SecurityGroupIngress'), []);
    assert.equal(container.PortMappings, undefined);
  });

  test('needs no NAT gateway', () => {
    assert.deepEqual(stack.all('AWS::EC2::NatGateway'), []);
    assert.equal(stack.all('AWS::EC2::Subnet').length, 2);
    const { AssignPublicIp } = stack.properties('AWS::ECS::Service', 'RelayService').NetworkConfiguration
      .AwsvpcConfiguration;
    assert.equal(AssignPublicIp, 'ENABLED');
  });

  test('has its permissions and its way out before it starts', () => {
    const { DependsOn = [] } = stack.json.Resources[stack.id('AWS::ECS::Service', 'RelayService')]!;
    for (const needed of [
      'RelayTaskTaskRoleDefaultPolicy',
      'RelayTaskExecutionRoleDefaultPolicy',
      'PublicSubnet1DefaultRoute',
    ]) {
      assert.ok(
        DependsOn.some((dependency) => dependency.includes(needed)),
        needed,
      );
    }
  });

  test('is nobody, and can write nowhere', () => {
    assert.equal(container.User, '65532:65532');
    assert.equal(container.ReadonlyRootFilesystem, true);
    assert.deepEqual(container.LinuxParameters.Capabilities, { Drop: ['ALL'] });
    assert.notEqual(container.Privileged, true);
    assert.notEqual(stack.properties('AWS::ECS::Service', 'RelayService').EnableExecuteCommand, true);
  });

  test('may be executed by whom it runs as, even where it was built for its builder alone', () => {
    const folder = artifacts('arm64');
    fs.chmodSync(path.join(folder, 'relay/bootstrap'), 0o700);
    const { app } = application({ relay: 'one', artifacts: folder });
    const { directory, artifacts: all } = app.synth();
    const manifest = all.find((artifact) => artifact instanceof AssetManifestArtifact)!;
    const [built, ...more] = Object.values(manifest.contents.dockerImages!);
    assert.equal(more.length, 0);
    const image = path.join(directory, built!.source.directory!);
    assert.equal(fs.statSync(path.join(image, 'bootstrap')).mode & 0o777, 0o755);
    assert.match(fs.readFileSync(path.join(image, 'Dockerfile'), 'utf8'), /^COPY bootstrap \/relay$/m);
  });

  test('is told its secrets by name, and to deliver every source to the handler', () => {
    const all = synthesise(COMBINATIONS['with all that can be set']);
    const [{ Environment }] = all.properties('AWS::ECS::TaskDefinition', 'RelayTask').ContainerDefinitions;
    const variables = Object.fromEntries(Environment.map(({ Name, Value }: any) => [Name, Value]));
    assert.deepEqual(variables.MOMENTO_SIGNING_SECRET_NAME, { Ref: all.id(SECRET, 'SecretsSigning') });
    assert.deepEqual(variables.MOMENTO_API_KEY_SECRET_NAME, { Ref: all.id(SECRET, 'SecretsApiKey') });
    const [, parts] = variables.RELAY_CONFIG['Fn::Join'];
    const url = { 'Fn::GetAtt': [all.id('AWS::Lambda::Url', 'HandlerFunctionUrl'), 'FunctionUrl'] };
    assert.deepEqual(
      parts.filter((part: unknown) => typeof part === 'object'),
      [url, url],
    );
    const text = parts.map((part: unknown) => (typeof part === 'string' ? part : 'URL')).join('');
    assert.match(
      text,
      /^\[\[route\]\]\ncache = "course-comments"\ntopic = "comment"\nurl = "URL"\naws_auth = true\n\n\[\[route\]\]\ncache = "shop"\ntopic = "order"\n/,
    );
  });

  test('is built for the architecture that was chosen', () => {
    assert.equal(task.RuntimePlatform.CpuArchitecture, 'ARM64');
    const x86 = synthesise({ relay: 'one', architecture: 'x86_64' }).properties(
      'AWS::ECS::TaskDefinition',
      'RelayTask',
    );
    assert.equal(x86.RuntimePlatform.CpuArchitecture, 'X86_64');
  });
});

describe('two stacks', () => {
  /** What would be a physical name, and so could be taken already. */
  const NAMES = [
    'FunctionName',
    'QueueName',
    'RoleName',
    'LogGroupName',
    'Name',
    'AlarmName',
    'DashboardName',
    'TopicName',
    'ClusterName',
    'ServiceName',
    'GroupName',
  ];

  test('live in one region: nothing has a name of its own', () => {
    for (const context of Object.values(COMBINATIONS)) {
      for (const [id, { Type, Properties = {} }] of Object.entries(synthesise(context).json.Resources)) {
        for (const name of NAMES) {
          // A reference is to something else: the function of a permission, the log group of a filter.
          assert.notEqual(typeof Properties[name], 'string', `${id} (${Type}) is called ${Properties[name]}`);
        }
      }
    }
  });

  test('share nothing that carries the name of the stack', () => {
    const names = (stackName: string) => {
      const stack = synthesise({ stackName, relay: 'one' });
      const filter = stack
        .all('AWS::Logs::MetricFilter')
        .map(([, { Properties }]) => Properties.MetricTransformations[0].MetricNamespace);
      return [
        ...filter,
        stack.properties('AWS::ECS::TaskDefinition', 'RelayTask').Family,
        environment(stack, 'Handler').METRICS_STACK,
      ];
    };
    const [blue, green] = [names('blue'), names('green')];
    assert.equal(new Set([...blue, ...green]).size, 6);
  });

  test('export nothing', () => {
    for (const context of Object.values(COMBINATIONS)) {
      assert.ok(Object.values(synthesise(context).json.Outputs).every((output) => output.Export === undefined));
    }
  });
});

test('what holds something keeps its logical id, for another would be a new and empty one', () => {
  const kept = synthesise({ relay: 'one' });
  const ids = [...kept.all(SECRET), ...kept.all(QUEUE), ...kept.all('AWS::Lambda::Url')].map(([id]) => id);
  assert.deepEqual(ids, [
    'SecretsApiKeyC78323EB',
    'SecretsSigning47855BBC',
    'ParkingDeadLetters43743341',
    'ParkingQueue878B2F5A',
    'HandlerFunctionUrl003AF664',
  ]);
});

describe('the outputs', () => {
  const ALWAYS = [
    'HandlerUrl',
    'HandlerFunction',
    'PublisherFunction',
    'RedriveFunction',
    'ApiKeySecretArn',
    'SigningSecretArn',
    'ParkingQueueUrl',
    'DeadLetterQueueUrl',
    'DashboardUrl',
  ];
  const outputs = (context: Record<string, string>) => Object.keys(synthesise(context).json.Outputs);

  test('say what the next step needs, and each what it is', () => {
    assert.deepEqual(outputs({}).sort(), [...ALWAYS, 'FillApiKey'].sort());
    assert.deepEqual(outputs(ADOPTED).sort(), [...ALWAYS].sort());
    assert.deepEqual(outputs({ signer: 'momento' }).sort(), [...ALWAYS, 'FillApiKey', 'FillSigningSecret'].sort());
    assert.deepEqual(
      outputs({ relay: 'one' }).sort(),
      [...ALWAYS, 'FillApiKey', 'RelayCluster', 'RelayService', 'RelayLogs'].sort(),
    );
    for (const output of Object.values(synthesise().json.Outputs)) assert.ok(output.Description);
  });

  test('point at the handler and its secrets', () => {
    const stack = synthesise();
    const { HandlerUrl, ApiKeySecretArn, SigningSecretArn, FillApiKey } = stack.json.Outputs;
    assert.deepEqual(HandlerUrl.Value, {
      'Fn::GetAtt': [stack.id('AWS::Lambda::Url', 'HandlerFunctionUrl'), 'FunctionUrl'],
    });
    assert.deepEqual(ApiKeySecretArn.Value, { Ref: stack.id(SECRET, 'SecretsApiKey') });
    assert.deepEqual(SigningSecretArn.Value, { Ref: stack.id(SECRET, 'SecretsSigning') });
    assert.deepEqual(FillApiKey.Value['Fn::Join'][1][3], ApiKeySecretArn.Value);
  });
});
