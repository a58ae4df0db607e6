/**
 * Secrets Manager's four rotation steps for a secret that is nothing but random text.
 *
 * Every step may be run again, after a failure or by a second delivery, and must then find its own work done.
 */
import { randomBytes } from 'node:crypto';

import {
  DescribeSecretCommand,
  GetSecretValueCommand,
  PutSecretValueCommand,
  ResourceNotFoundException,
  SecretsManagerClient,
  UpdateSecretVersionStageCommand,
} from '@aws-sdk/client-secrets-manager';

export interface RotationEvent {
  Step: string;
  SecretId: string;
  /** The id of the version that is being made. */
  ClientRequestToken: string;
}

/** 48 random bytes are 64 characters, as long as what the stack was created with. */
const BYTES = 48;

const client = new SecretsManagerClient({});

export async function handler(event: RotationEvent): Promise<void> {
  switch (event.Step) {
    case 'createSecret':
      return createSecret(event);
    case 'setSecret':
      return; // There is no third party that has to be told: relay and handlers come and read.
    case 'testSecret':
      return testSecret(event);
    case 'finishSecret':
      return finishSecret(event);
    default:
      throw new Error(`there is no rotation step ${event.Step}`);
  }
}

async function createSecret(event: RotationEvent): Promise<void> {
  try {
    await pending(event);
  } catch (error) {
    if (!(error instanceof ResourceNotFoundException)) throw error;
    await client.send(
      new PutSecretValueCommand({
        SecretId: event.SecretId,
        ClientRequestToken: event.ClientRequestToken,
        SecretString: randomBytes(BYTES).toString('base64url'),
        VersionStages: ['AWSPENDING'],
      }),
    );
  }
}

async function testSecret(event: RotationEvent): Promise<void> {
  // The length alone: Secrets Manager tries a new schedule by this step, with a pending copy of what is current.
  if (((await pending(event)) ?? '').length < 32) throw new Error('the pending signing secret is too short');
}

async function finishSecret(event: RotationEvent): Promise<void> {
  const { VersionIdsToStages: versions = {} } = await client.send(
    new DescribeSecretCommand({ SecretId: event.SecretId }),
  );
  const stages = versions[event.ClientRequestToken];
  if (stages?.includes('AWSCURRENT')) return;
  if (!stages?.includes('AWSPENDING')) throw new Error(`version ${event.ClientRequestToken} is not pending`);
  const current = Object.keys(versions).find((version) => versions[version]?.includes('AWSCURRENT'));
  // Moving this stage makes the version that loses it AWSPREVIOUS, which the handler accepts during the overlap.
  await client.send(
    new UpdateSecretVersionStageCommand({
      SecretId: event.SecretId,
      VersionStage: 'AWSCURRENT',
      MoveToVersionId: event.ClientRequestToken,
      RemoveFromVersionId: current,
    }),
  );
}

async function pending(event: RotationEvent): Promise<string | undefined> {
  const { SecretString } = await client.send(
    new GetSecretValueCommand({
      SecretId: event.SecretId,
      VersionId: event.ClientRequestToken,
      VersionStage: 'AWSPENDING',
    }),
  );
  return SecretString;
}
