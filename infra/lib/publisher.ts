import { Duration } from 'aws-cdk-lib';
import type { Construct } from 'constructs';

import { RustFunction } from './function';
import type { Options } from './options';
import { allowRead, momentoVariables, type Secrets } from './secrets';

/**
 * Mints scoped tokens and publishes with them. Whoever invokes it speaks for any user, so it has no URL and no
 * resource policy: only identities to which the account's own policies give `lambda:InvokeFunction` reach it.
 */
export class Publisher extends RustFunction {
  constructor(scope: Construct, id: string, options: Options, secrets: Secrets) {
    super(scope, id, 'publisher', options, {
      description: 'Momento webhook: mints scoped tokens and publishes',
      memorySize: 256,
      // A token and a message, each tried twice at most, at 5 s a call; and the key has to be fetched.
      timeout: Duration.seconds(25),
      environment: momentoVariables(secrets, options),
    });
    allowRead(this, secrets.apiKey);
  }
}
