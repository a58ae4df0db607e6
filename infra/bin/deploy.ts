/**
 * `cdk deploy`, after asking the account the one thing that cannot be known without it: whether it has concurrency to
 * reserve. New accounts are often limited to ten, of which Lambda lets nobody reserve any, and the deployment would
 * fail half-way. All arguments go to `cdk deploy`.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';

import { OPTIONS } from '../lib/options';

/** What Lambda keeps for the functions that reserve nothing. */
const UNRESERVED = 100;

const given = process.argv.slice(2);

function reservation(): string[] {
  if (chosen('reservedConcurrency') !== undefined) return []; // it is decided
  const needed = UNRESERVED + Number(OPTIONS.reservedConcurrency.default);
  const free = count('lambda', 'get-account-settings', '--query', 'AccountLimit.UnreservedConcurrentExecutions');
  if (free === undefined || free >= needed || free + ownReservation() >= needed) return [];
  console.error(`This account has ${free} unreserved concurrent executions: deploying with -c reservedConcurrency=none.`);
  return ['-c', 'reservedConcurrency=none'];
}

/** What the handler that is there has of the account's concurrency: an update takes no more. */
function ownReservation(): number {
  const output = "Stacks[0].Outputs[?OutputKey=='HandlerFunction'].OutputValue";
  const stack = chosen('stackName') ?? OPTIONS.stackName.default!;
  const handler = ask('cloudformation', 'describe-stacks', '--stack-name', stack, '--query', output);
  if (!handler) return 0;
  const query = ['--query', 'ReservedConcurrentExecutions'];
  return count('lambda', 'get-function-concurrency', '--function-name', handler, ...query) ?? 0;
}

/** An option as the CDK will see it: from the command line, or from the files that it reads. */
function chosen(name: string): string | undefined {
  const values = given.map((argument) => new RegExp(`^(?:-c|--context=)?${name}=(.*)$`).exec(argument)?.[1]);
  const kept = { ...read('cdk.json').context, ...read('cdk.context.json') }[name];
  return values.findLast((value) => value !== undefined) ?? (kept === undefined ? undefined : String(kept));
}

function read(file: string): any {
  return fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : {};
}

function count(...query: string[]): number | undefined {
  const answer = Number(ask(...query) || NaN);
  return Number.isNaN(answer) ? undefined : answer;
}

/** `undefined` where the AWS CLI is missing or may not ask; then it is CloudFormation's to complain. */
function ask(...query: string[]): string | undefined {
  query.push('--output', 'text');
  const profile = given.indexOf('--profile');
  if (profile >= 0) query.push(...given.slice(profile, profile + 2));
  const asked = spawnSync('aws', query, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], timeout: 20_000 });
  return asked.status === 0 ? asked.stdout.trim() : undefined;
}

const deployed = spawnSync('cdk', ['deploy', ...given, ...reservation()], { stdio: 'inherit' });
if (deployed.error) console.error(`cdk: ${deployed.error.message}: start this with \`npm run deploy\``);
process.exitCode = deployed.status ?? 1;
