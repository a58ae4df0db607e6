/** What each role may do and may not, as an independent policy engine reads the synthesised policies. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { Account, type Principal } from './support/account';
import { ADOPTED, COMBINATIONS, KEY, synthesise, type Context } from './support/stacks';

const SECRET = [
  'GetSecretValue',
  'DescribeSecret',
  'PutSecretValue',
  'UpdateSecretVersionStage',
  'UpdateSecret',
  'DeleteSecret',
];
const QUEUE = [
  'SendMessage',
  'ReceiveMessage',
  'DeleteMessage',
  'ChangeMessageVisibility',
  'GetQueueAttributes',
  'GetQueueUrl',
  'PurgeQueue',
  'SetQueueAttributes',
];
const FUNCTION = [
  'InvokeFunction',
  'InvokeFunctionUrl',
  'GetFunction',
  'UpdateFunctionCode',
  'UpdateFunctionConfiguration',
  'AddPermission',
];
const LOG = ['PutLogEvents', 'CreateLogStream', 'GetLogEvents'];

/** Everything that is tried: by a short name of the resource, its ARN and the actions. */
function universe(account: Account, context: Context): [string, string, string[]][] {
  const secret = (name: string, adopted: string | undefined) =>
    adopted ?? account.arn('AWS::SecretsManager::Secret', `Secrets${name}`);
  const rotates = !context.signingSecretArn && context.signer !== 'momento';
  const relay = context.relay !== undefined;
  const functions = {
    handler: 'Handler',
    redrive: 'Redrive',
    publisher: 'Publisher',
    ...(rotates && { rotation: 'SecretsRotationFunction' }),
  };
  const logs = { ...functions, ...(relay && { relay: 'RelayRelay' }) };
  const all = (service: string, actions: string[]) => actions.map((action) => `${service}:${action}`);
  return [
    ['api key', secret('ApiKey', context.apiKeySecretArn), all('secretsmanager', SECRET)],
    ['signing secret', secret('Signing', context.signingSecretArn), all('secretsmanager', SECRET)],
    [
      'another secret',
      'arn:aws:secretsmanager:eu-west-1:111122223333:secret:another-AbCdEf',
      all('secretsmanager', SECRET),
    ],
    [
      'any secret',
      '*',
      ['secretsmanager:ListSecrets', 'secretsmanager:GetRandomPassword', 'secretsmanager:BatchGetSecretValue'],
    ],
    ['parking queue', account.arn('AWS::SQS::Queue', 'ParkingQueue'), all('sqs', QUEUE)],
    ['dead letters', account.arn('AWS::SQS::Queue', 'ParkingDeadLetters'), all('sqs', QUEUE)],
    ['another queue', 'arn:aws:sqs:eu-west-1:111122223333:another', all('sqs', QUEUE)],
    ...Object.entries(functions).map(([name, id]): [string, string, string[]] => [
      name,
      account.arn('AWS::Lambda::Function', id),
      all('lambda', FUNCTION),
    ]),
    ...Object.entries(logs).map(([name, id]): [string, string, string[]] => [
      `${name}'s log`,
      account.arn('AWS::Logs::LogGroup', `${id}Logs`).replace(/\*$/, 'log-stream:any'),
      all('logs', LOG),
    ]),
    ['another log', 'arn:aws:logs:eu-west-1:111122223333:log-group:another:log-stream:any', all('logs', LOG)],
    [
      'images',
      'arn:aws:ecr:eu-west-1:111122223333:repository/cdk-hnb659fds-container-assets-111122223333-eu-west-1',
      all('ecr', ['BatchCheckLayerAvailability', 'BatchGetImage', 'GetDownloadUrlForLayer', 'PutImage']),
    ],
    ['other images', 'arn:aws:ecr:eu-west-1:111122223333:repository/another', all('ecr', ['BatchGetImage'])],
    [
      '*',
      '*',
      [
        'xray:PutTraceSegments',
        'xray:PutTelemetryRecords',
        'xray:GetTraceSummaries',
        'ecr:GetAuthorizationToken',
        'cloudwatch:PutMetricData',
        'sns:ListTopics',
        's3:ListAllMyBuckets',
      ],
    ],
    ['a key', KEY, ['kms:Decrypt', 'kms:Encrypt', 'kms:GenerateDataKey']],
    ['a role', account.arn('AWS::IAM::Role', 'HandlerRole'), ['iam:PassRole', 'sts:AssumeRole', 'iam:PutRolePolicy']],
  ];
}

const READ = 'secretsmanager:GetSecretValue';
const lambdaBasics = (name: string) => [
  `logs:CreateLogStream ${name}'s log`,
  `logs:PutLogEvents ${name}'s log`,
  'xray:PutTelemetryRecords *',
  'xray:PutTraceSegments *',
];

/** All that each role may do. */
const ALLOWED: Record<string, string[]> = {
  HandlerRole: [
    ...lambdaBasics('handler'),
    `${READ} api key`,
    `${READ} signing secret`,
    'sqs:SendMessage parking queue',
  ],
  RedriveRole: [
    ...lambdaBasics('redrive'),
    `${READ} api key`,
    'sqs:ChangeMessageVisibility parking queue',
    'sqs:DeleteMessage parking queue',
    'sqs:GetQueueAttributes parking queue',
    'sqs:ReceiveMessage parking queue',
    'sqs:SendMessage dead letters',
  ],
  PublisherRole: [...lambdaBasics('publisher'), `${READ} api key`],
  SecretsRotationFunctionRole: [
    ...lambdaBasics('rotation'),
    'secretsmanager:DescribeSecret signing secret',
    `${READ} signing secret`,
    'secretsmanager:PutSecretValue signing secret',
    'secretsmanager:UpdateSecretVersionStage signing secret',
  ],
  RelayTaskTaskRole: [`${READ} api key`, `${READ} signing secret`],
  RelayTaskExecutionRole: [
    'ecr:BatchCheckLayerAvailability images',
    'ecr:BatchGetImage images',
    'ecr:GetAuthorizationToken *',
    'ecr:GetDownloadUrlForLayer images',
    "logs:CreateLogStream relay's log",
    "logs:PutLogEvents relay's log",
  ],
};

/** A request through a function URL, as Lambda describes it to IAM. */
const throughUrl = (auth: string) => ({ 'lambda:FunctionUrlAuthType': auth, 'lambda:InvokedViaFunctionUrl': 'true' });

/** What of all that is tried a principal may do, without the public's share of it. */
async function allowed(account: Account, context: Context, principal: Principal): Promise<string[]> {
  const found: string[] = [];
  for (const [name, arn, actions] of universe(account, context)) {
    for (const action of actions) if (await account.may(principal, action, arn)) found.push(`${action} ${name}`);
  }
  return found.sort();
}

for (const [name, context] of Object.entries(COMBINATIONS)) {
  const stack = synthesise(context);
  const account = new Account(stack);
  describe(`${name}, each role may do its work and nothing else:`, () => {
    for (const [id] of stack.all('AWS::IAM::Role')) {
      const role = id.slice(0, -8); // without the hash
      test(role, async () => {
        assert.deepEqual(await allowed(account, context, { role }), [...(ALLOWED[role] ?? [])].sort());
      });
    }
  });
}

describe('only the handler may send to the parking queue', () => {
  const account = new Account(synthesise({ relay: 'one' }));
  const queue = account.arn('AWS::SQS::Queue', 'ParkingQueue');
  const administrator = { name: 'Administrator', policies: [everything()] };

  test('an administrator may not, who may receive', async () => {
    assert.equal(await account.may(administrator, 'sqs:SendMessage', queue), false);
    assert.equal(await account.may(administrator, 'sqs:ReceiveMessage', queue), true);
  });

  test('another role with the same permissions may not', async () => {
    const send = {
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Action: 'sqs:SendMessage', Resource: queue }],
    };
    assert.equal(await account.may({ name: 'Other', policies: [send] }, 'sqs:SendMessage', queue), false);
  });

  test('nobody may, who does not come over TLS', async () => {
    const plain = { 'aws:SecureTransport': 'false' };
    assert.equal(await account.may({ role: 'HandlerRole' }, 'sqs:SendMessage', queue, plain), false);
    assert.equal(await account.may({ role: 'RedriveRole' }, 'sqs:ReceiveMessage', queue, plain), false);
    const deadLetters = account.arn('AWS::SQS::Queue', 'ParkingDeadLetters');
    assert.equal(await account.may({ role: 'RedriveRole' }, 'sqs:SendMessage', deadLetters, plain), false);
  });
});

describe('who may call the handler', () => {
  const call = async (context: Context, principal: Principal, auth: string) => {
    const account = new Account(synthesise(context));
    const handler = account.arn('AWS::Lambda::Function', 'Handler');
    const may = (action: string, via: Record<string, string>) => account.may(principal, action, handler, via);
    return {
      throughUrl:
        (await may('lambda:InvokeFunctionUrl', throughUrl(auth))) &&
        (await may('lambda:InvokeFunction', throughUrl(auth))),
      directly: await may('lambda:InvokeFunction', { 'lambda:InvokedViaFunctionUrl': 'false' }),
    };
  };

  test('by default anybody, through the URL alone', async () => {
    assert.deepEqual(await call({}, 'anonymous', 'NONE'), { throughUrl: true, directly: false });
  });

  test('with AWS authentication nobody from outside', async () => {
    assert.deepEqual(await call({ auth: 'iam' }, 'anonymous', 'AWS_IAM'), { throughUrl: false, directly: false });
    assert.deepEqual(await call({ auth: 'iam' }, { name: 'Other', policies: [] }, 'AWS_IAM'), {
      throughUrl: false,
      directly: false,
    });
  });

  test('with AWS authentication the relay, through the URL alone', async () => {
    const context = { relay: 'pair', auth: 'iam' };
    assert.deepEqual(await call(context, { role: 'RelayTaskTaskRole' }, 'AWS_IAM'), {
      throughUrl: true,
      directly: false,
    });
    assert.deepEqual(await call(context, { role: 'PublisherRole' }, 'AWS_IAM'), { throughUrl: false, directly: false });
  });
});

test('nobody from outside may invoke anything else', async () => {
  const account = new Account(synthesise({ relay: 'one' }));
  for (const name of ['Publisher', 'Redrive', 'SecretsRotationFunction']) {
    const arn = account.arn('AWS::Lambda::Function', name);
    for (const action of ['lambda:InvokeFunction', 'lambda:InvokeFunctionUrl']) {
      assert.equal(await account.may('anonymous', action, arn, throughUrl('NONE')), false, `${action} ${name}`);
    }
  }
});

test('who takes up dead letters needs three rights for it, and no others', async () => {
  const account = new Account(synthesise());
  const [queue, redrive] = [
    account.arn('AWS::SQS::Queue', 'ParkingDeadLetters'),
    account.arn('AWS::Lambda::Function', 'Redrive'),
  ];
  const rights = [
    { Effect: 'Allow', Action: ['sqs:ReceiveMessage', 'sqs:DeleteMessage'], Resource: queue },
    { Effect: 'Allow', Action: 'lambda:InvokeFunction', Resource: redrive },
  ];
  const operator = { name: 'Operator', policies: [{ Version: '2012-10-17', Statement: rights }] };
  for (const action of ['sqs:ReceiveMessage', 'sqs:DeleteMessage']) {
    assert.ok(await account.may(operator, action, queue), action);
  }
  assert.ok(await account.may(operator, 'lambda:InvokeFunction', redrive));
});

test('a star stands only where AWS takes nothing else', () => {
  for (const context of Object.values(COMBINATIONS)) {
    for (const [id, policy] of synthesise(context).all('AWS::IAM::Policy')) {
      for (const { Action, Resource } of policy.Properties.PolicyDocument.Statement) {
        for (const action of [Action].flat()) {
          assert.ok(!action.includes('*'), `${id}: ${action}`);
          const starred = JSON.stringify(Resource).includes('*');
          const must = ['xray:PutTelemetryRecords', 'xray:PutTraceSegments', 'ecr:GetAuthorizationToken'].includes(
            action,
          );
          assert.equal(starred, must, `${id}: ${action} on ${JSON.stringify(Resource)}`);
        }
      }
    }
  }
});

// Read from the template, since the engine does not know the keys of an encryption context. That nobody may use the key
// for themselves is tried above, with everything else.
test('the key of adopted secrets decrypts for each function the secrets that it may read', () => {
  const stack = synthesise({ ...ADOPTED, secretsKeyArn: KEY });
  const decrypts = stack.all('AWS::IAM::Policy').map(([id, { Properties }]) => {
    const statements = Properties.PolicyDocument.Statement.filter(({ Action }: any) =>
      [Action].flat().includes('kms:Decrypt'),
    );
    const secrets = statements.map(({ Action, Resource, Condition }: any) => {
      assert.deepEqual([Action, Resource, Object.keys(Condition)], ['kms:Decrypt', KEY, ['StringEquals']]);
      const { 'kms:ViaService': via, 'kms:EncryptionContext:SecretARN': secret, ...more } = Condition.StringEquals;
      assert.deepEqual(via, { 'Fn::Join': ['', ['secretsmanager.', { Ref: 'AWS::Region' }, '.amazonaws.com']] });
      assert.deepEqual(more, {});
      return secret;
    });
    return [id.replace(/RoleDefaultPolicy.*/, ''), secrets];
  });
  const { apiKeySecretArn, signingSecretArn } = ADOPTED;
  assert.deepEqual(decrypts, [
    ['Handler', [apiKeySecretArn, signingSecretArn]],
    ['Redrive', [apiKeySecretArn]],
    ['Publisher', [apiKeySecretArn]],
  ]);
});

test('adopted secrets are granted by their complete ARN', () => {
  const granted = JSON.stringify(synthesise(ADOPTED).all('AWS::IAM::Policy'));
  assert.ok(Object.values(ADOPTED).every((arn) => granted.includes(`"${arn}"`)));
});

function everything(): object {
  return { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }] };
}
