import { RemovalPolicy, Validations, type Duration } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import type { Construct } from 'constructs';

import { artifact, type Binary } from './artifacts';
import type { Options } from './options';

export interface BareFunctionProps {
  description: string;
  runtime: lambda.Runtime;
  handler: string;
  code: lambda.Code;
  architecture: lambda.Architecture;
  memorySize: number;
  timeout: Duration;
  environment: Record<string, string>;
  logRetentionDays: number;
  reservedConcurrentExecutions?: number;
}

/**
 * A function with a role and a log group of its own, and no permission but to write there and to send traces.
 *
 * Not the managed policy `AWSLambdaBasicExecutionRole`, which the CDK would attach: it may create and write every log
 * group of the account.
 */
export class BareFunction extends lambda.Function {
  constructor(scope: Construct, id: string, props: BareFunctionProps) {
    const { logRetentionDays, ...rest } = props;
    const logGroup = logGroupOf(scope, id, logRetentionDays);
    const role = new iam.Role(scope, `${id}Role`, {
      assumedBy: new iam.ServicePrincipal('lambda.amazonaws.com'),
      description: `${props.description}: what it may do`,
    });
    logGroup.grantWrite(role);
    Validations.of(role).acknowledge({
      id: 'AwsSolutions-IAM5[Resource::*]',
      reason: 'xray:PutTraceSegments and xray:PutTelemetryRecords know no resource: X-Ray takes nothing but a star.',
    });
    super(scope, id, {
      ...rest,
      role,
      logGroup,
      loggingFormat: lambda.LoggingFormat.JSON,
      applicationLogLevelV2: lambda.ApplicationLogLevel.INFO,
      systemLogLevelV2: lambda.SystemLogLevel.INFO, // below it, the report of each invocation would be gone
      tracing: lambda.Tracing.ACTIVE,
    });
  }
}

/** One of the binaries that `make build` leaves, as a function. */
export class RustFunction extends BareFunction {
  constructor(
    scope: Construct,
    id: string,
    binary: Binary,
    options: Options,
    props: Omit<BareFunctionProps, 'runtime' | 'handler' | 'code' | 'architecture' | 'logRetentionDays'>,
  ) {
    super(scope, id, {
      ...props,
      runtime: lambda.Runtime.PROVIDED_AL2023,
      handler: 'bootstrap',
      code: lambda.Code.fromAsset(artifact(binary, options)),
      architecture: options.architecture === 'arm64' ? lambda.Architecture.ARM_64 : lambda.Architecture.X86_64,
      logRetentionDays: options.logRetentionDays,
    });
  }
}

/** Logs that end with their retention, and with the stack. */
export function logGroupOf(scope: Construct, id: string, retentionDays: number): logs.LogGroup {
  return new logs.LogGroup(scope, `${id}Logs`, { retention: retentionDays, removalPolicy: RemovalPolicy.DESTROY });
}

/** Allows exactly these actions on exactly these resources; the CDK's `grant…` methods add actions that we never call. */
export function allow(role: iam.IGrantable, actions: string[], ...resources: string[]): void {
  role.grantPrincipal.addToPrincipalPolicy(new iam.PolicyStatement({ actions, resources }));
}

/** Variables without those that are not set. */
export function variables(all: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined));
}
