import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

import { App, Validations, type IPolicyValidationPlugin } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';

import { readOptions } from '../../lib/options';
import { WebhookStack } from '../../lib/stack';

export const INFRA = path.resolve(__dirname, '../../..');

export type Context = Record<string, string>;

export const ADOPTED: Context = {
  apiKeySecretArn: 'arn:aws:secretsmanager:eu-west-1:111122223333:secret:momento/key-AbCdEf',
  signingSecretArn: 'arn:aws:secretsmanager:eu-west-1:111122223333:secret:momento/signing-GhIjKl',
};

export const KEY = 'arn:aws:kms:eu-west-1:111122223333:key/0b0c0d0e-1111-2222-3333-444455556666';

/** Every choice that changes what is deployed, at least once, and those that meet, together. */
export const COMBINATIONS: Record<string, Context> = {
  'by default': {},
  'on x86_64': { architecture: 'x86_64', relay: 'one' },
  'with AWS authentication': { auth: 'iam' },
  'without reserved concurrency': { reservedConcurrency: 'none' },
  'with a relay': { relay: 'one' },
  'with a pair of relays and AWS authentication': { relay: 'pair', auth: 'iam' },
  'with adopted secrets': ADOPTED,
  'with adopted secrets under a key of their own': { ...ADOPTED, secretsKeyArn: KEY },
  'with adopted secrets and a relay': { ...ADOPTED, relay: 'one' },
  'signed by Momento': { signer: 'momento' },
  'with all that can be set': {
    relay: 'pair',
    auth: 'iam',
    stackName: 'other',
    eventSources: 'course-comments/comment,shop/order',
    feedTopic: 'feed',
    userCache: 'users',
    userPublicFields: 'name,picture',
    claimCache: 'claims',
    momentoEndpoint: 'cell-1-eu-west-1-1.prod.a.momentohq.com',
    rotationDays: '7',
    logRetentionDays: '90',
    reservedConcurrency: '50',
    alarmTopicArn: 'arn:aws:sns:eu-west-1:111122223333:alarms',
  },
};

/** A folder as `make build` leaves it, with files that are binaries as far as anything here looks. */
export function artifacts(architecture: string): string {
  const folder = temporaryFolder('artifacts-');
  for (const binary of ['handler', 'redrive', 'publisher', 'relay']) {
    const elf = Buffer.alloc(64);
    elf.write('\x7fELF', 'latin1');
    elf.writeUInt16LE(architecture === 'x86_64' ? 0x3e : 0xb7, 18);
    elf.write(binary, 32);
    fs.mkdirSync(path.join(folder, binary));
    fs.writeFileSync(path.join(folder, binary, 'bootstrap'), elf, { mode: 0o755 });
  }
  return folder;
}

const temporaryFolders: string[] = [];
process.on('exit', () => temporaryFolders.forEach((folder) => fs.rmSync(folder, { recursive: true, force: true })));

/** A folder that is gone when the tests are. */
export function temporaryFolder(prefix: string): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), prefix));
  temporaryFolders.push(folder);
  return folder;
}

/** The application as `cdk synth` would build it, with the CDK's own settings from `cdk.json`. */
export function application(
  context: Context,
  ...plugins: IPolicyValidationPlugin[]
): { app: App; stack: WebhookStack } {
  const settings = JSON.parse(fs.readFileSync(path.join(INFRA, 'cdk.json'), 'utf8')) as { context: object };
  const app = new App({ context: settings.context, outdir: temporaryFolder('cdk-out-') });
  if (plugins.length > 0) Validations.of(app).addPlugins(...plugins);
  const options = readOptions({ artifacts: artifacts(context.architecture ?? 'arm64'), ...context });
  return { app, stack: new WebhookStack(app, options) };
}

export interface CfnResource {
  Type: string;
  Properties: any;
  DependsOn?: string[];
  DeletionPolicy?: string;
}

/** A synthesised template, with short ways to what is in it. */
export class Synthesised {
  readonly json: { Resources: Record<string, CfnResource>; Outputs: Record<string, any> };

  constructor(readonly context: Context) {
    this.json = Template.fromStack(application(context).stack).toJSON() as Synthesised['json'];
  }

  /** The resources of a type, by logical id. */
  all(type: string): [string, CfnResource][] {
    return Object.entries(this.json.Resources).filter(([, resource]) => resource.Type === type);
  }

  /** The logical id of the one resource of a type that has this name, before the hash that the CDK adds. */
  id(type: string, name: string): string {
    const exact = this.all(type).filter(([id]) => id.startsWith(name) && /^[0-9A-F]{8}$/.test(id.slice(name.length)));
    if (exact.length !== 1) throw new Error(`${exact.length} of ${type} are called ${name}`);
    return exact[0]![0];
  }

  /** Its properties. */
  properties(type: string, name: string): any {
    return this.json.Resources[this.id(type, name)]!.Properties;
  }
}

const synthesised = new Map<string, Synthesised>();

/** The stack with these options; each is synthesised once in a test file. */
export function synthesise(context: Context = {}): Synthesised {
  const key = JSON.stringify(context);
  const known = synthesised.get(key) ?? new Synthesised(context);
  synthesised.set(key, known);
  return known;
}
