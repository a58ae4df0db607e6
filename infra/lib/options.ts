import * as path from 'node:path';

/** What may be chosen at deployment: kept in `cdk.context.json`, or given once as `-c name=value`. */
export interface Options {
  stackName: string;
  artifacts: string;
  architecture: 'arm64' | 'x86_64';
  auth: 'none' | 'iam';
  reservedConcurrency: number | undefined;
  relay: 'none' | 'one' | 'pair';
  signer: 'relay' | 'momento';
  eventSources: string;
  feedTopic: string | undefined;
  userCache: string | undefined;
  userPublicFields: string | undefined;
  claimCache: string | undefined;
  momentoEndpoint: string | undefined;
  apiKeySecretArn: string | undefined;
  signingSecretArn: string | undefined;
  secretsKeyArn: string | undefined;
  rotationDays: number;
  logRetentionDays: number;
  alarmTopicArn: string | undefined;
}

/** A context value: what it is for, what it may be, and how its text becomes a value. */
interface Option<T> {
  meaning: string;
  /** What is accepted, for the error message. */
  expected: string;
  /** As it would be written on the command line; `undefined`: not set unless it is given. */
  default?: string;
  /** The value, or `undefined` where `text` is none. */
  parse: (text: string) => { value: T } | undefined;
}

/** The folder of this application, seen from `dist/lib`, where the compiled code runs. */
const INFRA = path.resolve(__dirname, '../..');

/** How long CloudWatch Logs can be told to keep what it is sent, in days, up to two years. */
const RETENTIONS = [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731];

const ARN = 'arn:aws[a-z-]*';

export const OPTIONS: { [Name in keyof Options]: Option<Options[Name]> } = {
  stackName: {
    meaning: "the stack's name; a second stack needs another",
    expected: 'a letter, then up to 127 letters, digits and hyphens',
    default: 'momento-webhook',
    parse: matching(/^[A-Za-z][A-Za-z0-9-]{0,127}$/),
  },
  artifacts: {
    meaning: 'the folder with <binary>/bootstrap, as `make build` leaves it; relative to infra/',
    expected: 'a path',
    default: '../target/lambda',
    parse: (text) => ({ value: path.resolve(INFRA, text) }),
  },
  architecture: {
    meaning: 'what the artifacts were built for',
    expected: 'arm64 or x86_64',
    default: 'arm64',
    parse: oneOf('arm64', 'x86_64'),
  },
  auth: {
    meaning: 'who may call the function URL: anyone (the signature decides), or AWS identities only',
    expected: 'none or iam',
    default: 'none',
    parse: oneOf('none', 'iam'),
  },
  reservedConcurrency: {
    meaning: "how many handlers may run at once; none where the account's limit leaves nothing to reserve",
    expected: 'a whole number from 1 to 1000, or none',
    default: '20',
    parse: (text) => (text === 'none' ? { value: undefined } : wholeNumber(1, 1000)(text)),
  },
  relay: {
    meaning: 'run the relay on Fargate: not at all, one task, or a pair',
    expected: 'none, one or pair',
    default: 'none',
    parse: oneOf('none', 'one', 'pair'),
  },
  signer: {
    meaning: 'who signs: the relay (the secret is generated and rotated), or Momento (you fill it in)',
    expected: 'relay or momento',
    default: 'relay',
    parse: oneOf('relay', 'momento'),
  },
  eventSources: {
    meaning: 'the topics that may send events',
    expected: 'CACHE/TOPIC pairs with commas between them',
    default: 'course-comments/comment',
    parse: (text) => {
      const sources = text.split(',').map((source) => source.trim());
      return sources.every((source) => /^[^/]+\/.+$/.test(source)) ? { value: sources.join(',') } : undefined;
    },
  },
  feedTopic: text('the topic on which the reaction publishes; not one of eventSources'),
  userCache: text("the cache that holds users' data; the event's own where it is not set"),
  userPublicFields: text("the fields of a user's data that others may see, with commas between them"),
  claimCache: text("the cache that holds the claims; the event's own where it is not set"),
  momentoEndpoint: {
    meaning: 'the service endpoint that a v2 API key needs beside it',
    expected: 'a host name',
    parse: matching(/^[a-z0-9-]+(\.[a-z0-9-]+)+$/),
  },
  apiKeySecretArn: secretArn('the Momento API key'),
  signingSecretArn: secretArn('the signing secret'),
  secretsKeyArn: {
    meaning: "the KMS key that adopted secrets are encrypted with, where it is not AWS's own",
    expected: 'the ARN of a KMS key',
    parse: matching(new RegExp(`^${ARN}:kms:[a-z0-9-]+:\\d{12}:key/[A-Za-z0-9-]+$`)),
  },
  rotationDays: {
    meaning: 'how often the generated signing secret is replaced',
    expected: 'a whole number of days from 1 to 365',
    default: '30',
    parse: wholeNumber(1, 365),
  },
  logRetentionDays: {
    meaning: 'how long logs are kept',
    expected: `one of ${RETENTIONS.join(', ')} (days)`,
    default: '30',
    parse: (text) => (RETENTIONS.includes(Number(text)) ? { value: Number(text) } : undefined),
  },
  alarmTopicArn: {
    meaning: 'the SNS topic that alarms are sent to; without it they show on the dashboard only',
    expected: 'the ARN of an SNS topic',
    parse: matching(new RegExp(`^${ARN}:sns:[a-z0-9-]+:\\d{12}:[A-Za-z0-9_-]{1,256}$`)),
  },
};

/**
 * Reads the options from the application's context.
 *
 * @throws an error that lists everything that is wrong, and for a name that is none of ours the names that exist: a
 * misspelt `-c auht=iam` must not deploy a public function.
 */
export function readOptions(context: Record<string, unknown>): Options {
  const problems = unknownNames(context);
  const options: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(OPTIONS) as [string, Option<unknown>][]) {
    const given = context[name] ?? option.default;
    if (given === undefined || given === '') continue;
    const parsed = option.parse(String(given));
    if (parsed) options[name] = parsed.value;
    else problems.push(`${name}=${String(given)} is not valid: use ${option.expected}`);
  }
  if (problems.length === 0) problems.push(...contradictions(options as unknown as Options, context));
  if (problems.length > 0) throw new Error(problems.join('\n'));
  return options as unknown as Options;
}

function unknownNames(context: Record<string, unknown>): string[] {
  // The CDK's own keys hold a colon, except for this one.
  const names = Object.keys(context).filter((name) => !name.includes(':') && name !== 'cli-telemetry');
  const unknown = names.filter((name) => !(name in OPTIONS));
  if (unknown.length === 0) return [];
  const known = Object.entries(OPTIONS).map(([name, option]) => {
    const standard = option.default === undefined ? '' : ` [${option.default}]`;
    return `  ${name}: ${option.meaning}${standard}`;
  });
  return [`there is no option ${unknown.join(', ')}; there are:\n${known.join('\n')}`];
}

function contradictions(options: Options, context: Record<string, unknown>): string[] {
  const problems: string[] = [];
  const topics = options.eventSources.split(',').map((source) => source.slice(source.indexOf('/') + 1));
  if (options.feedTopic && topics.includes(options.feedTopic)) {
    problems.push(`feedTopic=${options.feedTopic} is one of eventSources: every message would return as an event`);
  }
  if (options.relay !== 'none' && options.signer === 'momento') {
    problems.push('signer=momento with a relay would deliver every message twice: drop one of them');
  }
  if (options.secretsKeyArn && !options.apiKeySecretArn && !options.signingSecretArn) {
    problems.push('secretsKeyArn has no effect without apiKeySecretArn or signingSecretArn');
  }
  if (context.rotationDays !== undefined && !rotates(options)) {
    problems.push(
      'rotationDays has no effect: a secret that you adopt, or that Momento signs with, is rotated where it was made',
    );
  }
  return problems;
}

/** Is the signing secret ours to replace? */
export function rotates(options: Options): boolean {
  return options.signer === 'relay' && options.signingSecretArn === undefined;
}

function oneOf<T extends string>(...values: T[]): Option<T>['parse'] {
  return (text) => {
    const value = values.find((candidate) => candidate === text);
    return value === undefined ? undefined : { value };
  };
}

function matching(pattern: RegExp): Option<string>['parse'] {
  return (text) => (pattern.test(text) ? { value: text } : undefined);
}

function wholeNumber(from: number, to: number): Option<number>['parse'] {
  return (text) =>
    /^\d+$/.test(text) && from <= Number(text) && Number(text) <= to ? { value: Number(text) } : undefined;
}

function text(meaning: string): Option<string> {
  return { meaning, expected: 'up to 255 characters', parse: matching(/^.{1,255}$/) };
}

function secretArn(secret: string): Option<string> {
  return {
    meaning: `an existing secret with ${secret}, instead of one of the stack's own`,
    // Without the six characters IAM would need a pattern, which would match other secrets too.
    expected: 'the complete ARN of a secret, with the six characters at its end',
    parse: matching(new RegExp(`^${ARN}:secretsmanager:[a-z0-9-]+:\\d{12}:secret:.+-[A-Za-z0-9]{6}$`)),
  };
}
