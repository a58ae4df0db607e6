import { Duration } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as sqs from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';

/** The longest that one run of `redrive` may take. */
export const REDRIVE_TIMEOUT = Duration.seconds(60);

/**
 * How often a record is tried before it is a dead letter. `redrive` makes it wait 30 s, then twice as long each time up
 * to 15 min, so an outage of six hours takes 29 attempts: five in the first 15 min, then one every 15 min. Eleven more
 * are for receives that are none of ours to count, such as a run that was throttled or was cut off. 40 attempts end
 * within ten hours, well before the claim on the event (24 h), without which it could be processed twice.
 */
const MAX_RECEIVES = 40;

/**
 * Events that could not be processed, and behind them those that never could be.
 *
 * Encrypted with a key of SQS's own. A KMS key would let its policy decide who reads as well, at a price: a request to
 * KMS while the sender waits, and one more thing whose failure parks nothing. Who may read is settled by IAM already.
 */
export class Parking extends Construct {
  readonly queue: sqs.Queue;
  readonly deadLetters: sqs.Queue;

  constructor(scope: Construct, id: string) {
    super(scope, id);
    this.deadLetters = new sqs.Queue(this, 'DeadLetters', {
      encryption: sqs.QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
      // Counted from when the event was parked, so it has to outlast the time on that queue by far.
      retentionPeriod: Duration.days(14),
    });
    this.queue = new sqs.Queue(this, 'Queue', {
      encryption: sqs.QueueEncryption.SQS_MANAGED,
      enforceSSL: true,
      retentionPeriod: Duration.days(4),
      // Six times the timeout, as AWS advises: the poller may retry a throttled run while it holds the batch. After a
      // run that ends, `redrive` itself says when a record is seen next.
      visibilityTimeout: Duration.seconds(6 * REDRIVE_TIMEOUT.toSeconds()),
      deadLetterQueue: { queue: this.deadLetters, maxReceiveCount: MAX_RECEIVES },
    });
  }

  /**
   * Nobody else may send, whatever their own policies allow. A parked record counts as verified, since only the handler
   * puts it there after it has verified the signature; whoever else could send could speak for any user.
   */
  onlySender(role: iam.IRole): void {
    this.queue.addToResourcePolicy(
      new iam.PolicyStatement({
        sid: 'OnlyTheHandlerSends',
        effect: iam.Effect.DENY,
        principals: [new iam.AnyPrincipal()],
        actions: ['sqs:SendMessage'],
        resources: [this.queue.queueArn],
        conditions: { ArnNotEquals: { 'aws:PrincipalArn': role.roleArn } },
      }),
    );
  }
}
