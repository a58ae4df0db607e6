import { Duration } from 'aws-cdk-lib';
import type { Construct } from 'constructs';

import { allow, RustFunction } from './function';
import { reactionVariables } from './handler';
import type { Options } from './options';
import { REDRIVE_TIMEOUT, type Parking } from './parking';
import { allowRead, momentoVariables, type Secrets } from './secrets';

/** Processes what was parked. It trusts the queue, so it needs no signing secret and gets none. */
export class Redrive extends RustFunction {
  constructor(scope: Construct, id: string, options: Options, secrets: Secrets, parking: Parking) {
    super(scope, id, 'redrive', options, {
      description: 'Momento webhook: processes parked events',
      memorySize: 128,
      timeout: REDRIVE_TIMEOUT,
      environment: {
        ...momentoVariables(secrets, options),
        ...reactionVariables(options),
        PARK_QUEUE_URL: parking.queue.queueUrl,
        DEAD_LETTER_QUEUE_URL: parking.deadLetters.queueUrl,
      },
    });
    allowRead(this, secrets.apiKey);
    // The first three are the poller's, which acts as this role; the last puts off the next attempt.
    allow(
      this,
      ['sqs:ReceiveMessage', 'sqs:DeleteMessage', 'sqs:GetQueueAttributes', 'sqs:ChangeMessageVisibility'],
      parking.queue.queueArn,
    );
    allow(this, ['sqs:SendMessage'], parking.deadLetters.queueArn);
    const mapping = this.addEventSourceMapping('Parked', {
      eventSourceArn: parking.queue.queueArn,
      batchSize: 10,
      maxBatchingWindow: Duration.seconds(0),
      // Two at once, which is the least: after an outage Momento should see a trickle, not everything that waited.
      maxConcurrency: 2,
      reportBatchItemFailures: true,
    });
    // Lambda tries the permissions when the mapping is made.
    const policy = this.role?.node.tryFindChild('DefaultPolicy');
    if (policy) mapping.node.addDependency(policy);
  }
}
