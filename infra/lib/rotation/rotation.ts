import * as path from 'node:path';

import { Aws, Duration } from 'aws-cdk-lib';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as secretsmanager from 'aws-cdk-lib/aws-secretsmanager';
import { Construct } from 'constructs';

import { allow, BareFunction } from '../function';
import type { Options } from '../options';

/**
 * Replaces the signing secret on a schedule. The relay and the handlers read the new one when theirs has aged, and the
 * handler goes on accepting the previous one during the overlap, so nothing has to be restarted.
 *
 * Not the CDK's `addRotationSchedule`: it would let the function call `GetRandomPassword`, which takes only a star.
 */
export class Rotation extends Construct {
  readonly function: lambda.IFunction;

  constructor(scope: Construct, id: string, secret: secretsmanager.ISecret, options: Options) {
    super(scope, id);
    const rotate = new BareFunction(this, 'Function', {
      description: 'Momento webhook: rotates the signing secret',
      runtime: lambda.Runtime.NODEJS_24_X, // its AWS SDK is the runtime's, so there is nothing to bundle
      handler: 'index.handler',
      code: lambda.Code.fromAsset(path.join(__dirname, 'function')),
      architecture: lambda.Architecture.ARM_64, // it is the same text on either, and this one costs less
      memorySize: 128,
      timeout: Duration.seconds(30),
      environment: {},
      logRetentionDays: options.logRetentionDays,
    });
    const actions = ['DescribeSecret', 'GetSecretValue', 'PutSecretValue', 'UpdateSecretVersionStage'];
    allow(
      rotate,
      actions.map((action) => `secretsmanager:${action}`),
      secret.secretArn,
    );
    const invoke = new lambda.CfnPermission(this, 'Invoke', {
      action: 'lambda:InvokeFunction',
      functionName: rotate.functionArn,
      principal: 'secretsmanager.amazonaws.com',
      sourceAccount: Aws.ACCOUNT_ID, // for no other account's secrets
      sourceArn: secret.secretArn,
    });
    const schedule = new secretsmanager.CfnRotationSchedule(this, 'Schedule', {
      secretId: secret.secretArn,
      rotationLambdaArn: rotate.functionArn,
      rotationRules: { automaticallyAfterDays: options.rotationDays },
      rotateImmediatelyOnUpdate: false, // a deployment is no reason to change a secret
    });
    // Secrets Manager invokes the function while the schedule is made, so all that it needs comes first.
    const policy = rotate.role?.node.tryFindChild('DefaultPolicy');
    schedule.node.addDependency(invoke, ...(policy ? [policy] : []));
    this.function = rotate;
  }
}
