/**
 * `cdk deploy`, after asking the account the one thing that cannot be known without it: whether it has concurrency to
 * reserve. New accounts are often limited to ten, of which Lambda lets nobody reserve any, and the deployment would
 * fail half-way. All arguments go to `cdk deploy`.
 */
import { spawnSync } from 'node:child_process';

import { OPTIONS } from '../lib/options';

/** What Lambda keeps for the functions that reserve nothing. */
const UNRESERVED = 100;

const given = process.argv.slice(2);

function reservation(): string[] {
  if (given.some((argument) => argument.includes('reservedConcurrency='))) return []; // it is decided
  const limit = accountLimit();
  if (limit === undefined || limit >= UNRESERVED + Number(OPTIONS.reservedConcurrency.default)) return [];
  console.error(`This account runs ${limit} functions at once at most: deploying with -c reservedConcurrency=none.`);
  return ['-c', 'reservedConcurrency=none'];
}

/** `undefined` where the AWS CLI is missing or may not ask; then it is CloudFormation's to complain. */
function accountLimit(): number | undefined {
  const query = ['lambda', 'get-account-settings', '--query', 'AccountLimit.ConcurrentExecutions', '--output', 'text'];
  const profile = given.indexOf('--profile');
  if (profile >= 0) query.push(...given.slice(profile, profile + 2));
  const asked = spawnSync('aws', query, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], timeout: 20_000 });
  const limit = Number(asked.stdout);
  return asked.status === 0 && limit > 0 ? limit : undefined;
}

const deployed = spawnSync('cdk', ['deploy', ...given, ...reservation()], { stdio: 'inherit' });
if (deployed.error) console.error(`cdk: ${deployed.error.message}: start this with \`npm run deploy\``);
process.exitCode = deployed.status ?? 1;
