// The job of Momento's original example, in the plainest form that today's SDKs allow: what `make bench` compares with.
// It does what that example did and no more: no claim, no user data, no freshness, secrets kept for ever.

import { createHmac, timingSafeEqual } from "node:crypto";

import { GetSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { CacheClient, CacheListPushFront, Configurations, CredentialProvider } from "@gomomento/sdk";

const CACHE = "course-comments";

const secrets = new SecretsManagerClient({});
let clients;

async function secret(name) {
  const answer = await secrets.send(new GetSecretValueCommand({ SecretId: name }));
  return answer.SecretString;
}

// With MOMENTO_ENDPOINT_URL the cache is a local server, which this SDK reaches in plaintext and without the key.
function credentials(apiKey) {
  const url = process.env.MOMENTO_ENDPOINT_URL && new URL(process.env.MOMENTO_ENDPOINT_URL);
  return url
    ? CredentialProvider.forMomentoLocal({ hostname: url.hostname, port: Number(url.port) })
    : CredentialProvider.fromString({ apiKey });
}

async function start() {
  const [signingSecret, apiKey] = await Promise.all([
    secret(process.env.THE_SIGNING_SECRET),
    secret(process.env.MOMENTO_API_KEY_SECRET_NAME),
  ]);
  const cache = await CacheClient.create({
    configuration: Configurations.Lambda.latest(),
    credentialProvider: credentials(apiKey),
    defaultTtlSeconds: 24 * 60 * 60,
  });
  return { signingSecret, cache };
}

function isGenuine(signingSecret, body, signature) {
  const expected = createHmac("sha3-256", signingSecret).update(body).digest();
  const given = Buffer.from(signature ?? "", "hex");
  return given.length === expected.length && timingSafeEqual(given, expected);
}

export async function handler(event) {
  clients ??= start();
  const { signingSecret, cache } = await clients;
  if (!isGenuine(signingSecret, event.body, event.headers["momento-signature"])) {
    return { statusCode: 403, body: JSON.stringify({ message: "Access Denied!" }) };
  }
  const { token_id: userID, text } = JSON.parse(event.body);
  const { courseId, comment } = JSON.parse(text);
  const pushed = await cache.listPushFront(CACHE, String(courseId), JSON.stringify({ userID, comment }));
  if (pushed instanceof CacheListPushFront.Error) {
    throw pushed.innerException();
  }
  return { statusCode: 200, body: JSON.stringify({}) };
}
