import type { Options } from './options';

/**
 * The relay's configuration, as the TOML text that it reads from `RELAY_CONFIG`. Everything that this application
 * assumes of the relay's own format stands here.
 *
 * A Fargate task has no disk that outlives it, so the position in each topic is kept in Momento, in the topic's cache.
 */
export function relayConfig(options: Options, url: string): { RELAY_CONFIG: string } {
  const routes = options.eventSources.split(',').map((source) => {
    const slash = source.indexOf('/');
    return [
      '[[route]]',
      `cache = ${quoted(source.slice(0, slash))}`,
      `topic = ${quoted(source.slice(slash + 1))}`,
      `url = ${quoted(url)}`,
      `aws_auth = ${options.auth === 'iam'}`,
    ];
  });
  const position = ['[position]', 'kind = "momento"'];
  return { RELAY_CONFIG: [...routes, position].map((table) => `${table.join('\n')}\n`).join('\n') };
}

/** A TOML basic string has the escapes of a JSON string, and a few more. */
function quoted(value: string): string {
  return JSON.stringify(value);
}
