import { Duration } from 'aws-cdk-lib';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import type { Construct } from 'constructs';

import { allow, RustFunction, variables } from './function';
import type { Options } from './options';
import type { Parking } from './parking';
import { allowRead, momentoVariables, type Secrets } from './secrets';

/** The webhook's receiver, behind a function URL. */
export class Handler extends RustFunction {
  readonly endpoint: lambda.FunctionUrl;

  constructor(scope: Construct, id: string, options: Options, secrets: Secrets, parking: Parking) {
    super(scope, id, 'handler', options, {
      description: 'Momento webhook: verifies events and reacts to them',
      memorySize: 256,
      // The sender waits for 5 s. The handler has parked what it could not process by 3.8 s after the request came in, and
      // this clock starts no earlier than that.
      timeout: Duration.seconds(4),
      reservedConcurrentExecutions: options.reservedConcurrency,
      environment: {
        ...momentoVariables(secrets, options),
        ...reactionVariables(options),
        MOMENTO_SIGNING_SECRET_NAME: secrets.signing.secretArn,
        EVENT_SOURCES: options.eventSources,
        PARK_QUEUE_URL: parking.queue.queueUrl,
      },
    });
    allowRead(this, secrets.apiKey);
    allowRead(this, secrets.signing);
    allow(this, ['sqs:SendMessage'], parking.queue.queueArn);
    // No CORS: no browser has business here. With NONE the CDK adds both permissions that a public URL needs.
    this.endpoint = this.addFunctionUrl({
      authType: options.auth === 'iam' ? lambda.FunctionUrlAuthType.AWS_IAM : lambda.FunctionUrlAuthType.NONE,
    });
  }
}

/** What decides how an event is processed: the handler and `redrive` must agree on it. */
export function reactionVariables(options: Options): Record<string, string> {
  return variables({
    USER_CACHE: options.userCache,
    USER_PUBLIC_FIELDS: options.userPublicFields,
    CLAIM_CACHE: options.claimCache,
    FEED_TOPIC: options.feedTopic,
  });
}
