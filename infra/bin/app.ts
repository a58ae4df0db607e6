import { App } from 'aws-cdk-lib';

import { readOptions } from '../lib/options';
import { WebhookStack } from '../lib/stack';

try {
  const app = new App();
  new WebhookStack(app, readOptions(app.node.getAllContext()));
  app.synth();
} catch (error) {
  // Every error here is about what was asked for, and says what to do: a stack trace would bury it.
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
