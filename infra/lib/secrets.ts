import { Aws, Validations } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as secretsmanager from 'aws-cdk-lib/aws-secretsmanager';
import { Construct } from 'constructs';

import { allow, variables } from './function';
import { rotates, type Options } from './options';
import { Rotation } from './rotation/rotation';

/** How long a process keeps a secret before it asks again, in seconds. */
const TTL = 300;
/**
 * How long after a rotation the previous signing secret still verifies, in seconds. The relay goes on signing with it
 * for one TTL, a handler may have read its copy one TTL before, and what was signed then may be delivered a little
 * later: three TTLs leave room for all of it.
 */
const OVERLAP = 3 * TTL;

/** What every process that keeps secrets has to agree on. */
export const SECRET_TIMES = { SECRET_TTL_SECONDS: String(TTL), SECRET_OVERLAP_SECONDS: String(OVERLAP) };

/**
 * The Momento API key and the webhook's signing secret: adopted, or made here, and never with a value that could be
 * read in the template.
 */
export class Secrets extends Construct {
  readonly apiKey: secretsmanager.ISecret;
  readonly signing: secretsmanager.ISecret;
  readonly rotation: Rotation | undefined;

  constructor(scope: Construct, id: string, options: Options) {
    super(scope, id);
    this.apiKey = options.apiKeySecretArn
      ? this.adopted('ApiKey', options.apiKeySecretArn, options)
      : this.empty('ApiKey', 'Momento API key', 'Momento issues this key, and its owner replaces it by hand.');
    if (options.signingSecretArn) {
      this.signing = this.adopted('Signing', options.signingSecretArn, options);
    } else if (options.signer === 'momento') {
      this.signing = this.empty('Signing', 'Signing secret of the Momento webhook', 'Momento rotates this secret.');
    } else {
      this.signing = new secretsmanager.Secret(this, 'Signing', {
        description: 'Signing secret of the Momento webhook: the relay signs with it, the handler verifies',
        generateSecretString: { passwordLength: 64, excludePunctuation: true },
      });
    }
    if (rotates(options)) this.rotation = new Rotation(this, 'Rotation', this.signing, options);
  }

  private adopted(id: string, secretCompleteArn: string, { secretsKeyArn }: Options): secretsmanager.ISecret {
    const encryptionKey = secretsKeyArn ? kms.Key.fromKeyArn(this, `${id}Key`, secretsKeyArn) : undefined;
    return secretsmanager.Secret.fromSecretAttributes(this, id, { secretCompleteArn, encryptionKey });
  }

  /**
   * A secret without a value until its owner puts one there. A made-up one would only fail later, and at Momento;
   * without any the handler answers 503 and names the secret in its log.
   */
  private empty(id: string, description: string, whyNotRotated: string): secretsmanager.ISecret {
    const secret = new secretsmanager.CfnSecret(this, id, { description });
    Validations.of(secret).acknowledge({ id: 'AwsSolutions-SMG4', reason: whyNotRotated });
    return secretsmanager.Secret.fromSecretCompleteArn(this, `${id}Ref`, secret.ref);
  }
}

/** Lets a role read one secret, and describe or change none. */
export function allowRead(role: iam.IGrantable, secret: secretsmanager.ISecret): void {
  allow(role, ['secretsmanager:GetSecretValue'], secret.secretArn);
  if (!secret.encryptionKey) return;
  const statement = new iam.PolicyStatement({
    actions: ['kms:Decrypt'],
    resources: [secret.encryptionKey.keyArn],
    // The key may guard much else: only Secrets Manager may use it for us, and only on this secret.
    conditions: {
      StringEquals: {
        'kms:ViaService': `secretsmanager.${Aws.REGION}.amazonaws.com`,
        'kms:EncryptionContext:SecretARN': secret.secretArn,
      },
    },
  });
  role.grantPrincipal.addToPrincipalPolicy(statement);
}

/** What the processes that talk to Momento have in common. */
export function momentoVariables(secrets: Secrets, options: Options): Record<string, string> {
  return variables({
    MOMENTO_API_KEY_SECRET_NAME: secrets.apiKey.secretArn,
    MOMENTO_ENDPOINT: options.momentoEndpoint,
    METRICS_STACK: options.stackName,
    ...SECRET_TIMES,
  });
}
