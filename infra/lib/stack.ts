import { Aws, CfnOutput, Stack, type App } from 'aws-cdk-lib';

import { Handler } from './handler';
import { Observability } from './observability';
import type { Options } from './options';
import { Parking } from './parking';
import { Publisher } from './publisher';
import { Redrive } from './redrive';
import { Relay } from './relay';
import { Secrets } from './secrets';

/** Everything that runs on AWS. Nothing has a fixed name, so that two of these live in one region. */
export class WebhookStack extends Stack {
  constructor(app: App, options: Options) {
    super(app, options.stackName, {
      description: 'Momento webhook: handler, redrive, publisher, and the relay if chosen',
    });

    const secrets = new Secrets(this, 'Secrets', options);
    const parking = new Parking(this, 'Parking');
    const handler = new Handler(this, 'Handler', options, secrets, parking);
    parking.onlySender(handler.role!);
    const redrive = new Redrive(this, 'Redrive', options, secrets, parking);
    const publisher = new Publisher(this, 'Publisher', options, secrets);
    const relay = options.relay === 'none' ? undefined : new Relay(this, 'Relay', options, secrets, handler);
    const rotation = secrets.rotation?.function;
    const { dashboard } = new Observability(this, 'Observability', options, {
      handler,
      redrive,
      publisher,
      parking,
      relay,
      rotation,
    });

    this.output('HandlerUrl', handler.endpoint.url, 'Where the webhook is to be delivered');
    this.output('HandlerFunction', handler.functionName, 'The handler, for `aws logs tail` and `aws lambda`');
    this.output('PublisherFunction', publisher.functionName, 'The publisher, for `aws lambda invoke`');
    this.output('RedriveFunction', redrive.functionName, 'The function that processes parked events');
    this.output('ApiKeySecretArn', secrets.apiKey.secretArn, 'The secret with the Momento API key');
    this.output(
      'SigningSecretArn',
      secrets.signing.secretArn,
      'The secret with the signing secret, for a relay elsewhere',
    );
    if (!options.apiKeySecretArn) this.fill('ApiKey', secrets.apiKey.secretArn, 'the Momento API key');
    if (!options.signingSecretArn && options.signer === 'momento') {
      this.fill('SigningSecret', secrets.signing.secretArn, 'the signing secret that Momento shows');
    }
    this.output('ParkingQueueUrl', parking.queue.queueUrl, 'Events that wait to be processed');
    this.output('DeadLetterQueueUrl', parking.deadLetters.queueUrl, 'Events that were given up');
    const cloudwatch = `https://${this.region}.console.aws.amazon.com/cloudwatch/home?region=${this.region}`;
    this.output('DashboardUrl', `${cloudwatch}#dashboards/dashboard/${dashboard.dashboardName}`, 'Is it healthy?');
    if (relay) {
      this.output('RelayCluster', relay.cluster.clusterName, "The relay's cluster, for `aws ecs`");
      this.output('RelayService', relay.service.serviceName, "The relay's service, for `aws ecs`");
      this.output('RelayLogs', relay.logGroup.logGroupName, 'The log of the relay, for `aws logs tail`');
    }
  }

  private output(id: string, value: string, description: string): void {
    new CfnOutput(this, id, { value, description });
  }

  /** The next step after a first deployment, to be pasted into a shell; the value shows up in no history or listing. */
  private fill(id: string, arn: string, what: string): void {
    const put = `aws secretsmanager put-secret-value --region ${Aws.REGION} --secret-id '${arn}'`;
    this.output(
      `Fill${id}`,
      `read -rs VALUE && printf %s "$VALUE" | ${put} --secret-string file:///dev/stdin`,
      `Run this once and paste ${what}`,
    );
  }
}
