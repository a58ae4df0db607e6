import * as fs from 'node:fs';
import * as path from 'node:path';

import type { Options } from './options';

export type Binary = 'handler' | 'redrive' | 'publisher' | 'relay';

/** What an ELF file says about its processor: `e_machine`, two bytes from byte 18. */
const MACHINES = { arm64: 0xb7, x86_64: 0x3e };

/**
 * The folder that holds a binary, as cargo-lambda lays it out: `<artifacts>/<binary>/bootstrap`.
 *
 * @throws where it was not built, or was built for the other architecture: Lambda would take it, and fail at each start.
 */
export function artifact(binary: Binary, options: Pick<Options, 'artifacts' | 'architecture'>): string {
  const folder = path.join(options.artifacts, binary);
  const file = path.join(folder, 'bootstrap');
  if (!fs.existsSync(file)) {
    throw new Error(`${file} is missing: run \`make build\` first, or say where it is with -c artifacts=FOLDER`);
  }
  const other = options.architecture === 'arm64' ? 'x86_64' : 'arm64';
  if (machine(file) !== MACHINES[options.architecture]) {
    throw new Error(
      `${file} is no Linux binary for ${options.architecture}: run \`make build\` for it, or give -c architecture=${other}`,
    );
  }
  return folder;
}

function machine(file: string): number | undefined {
  const header = Buffer.alloc(20);
  const descriptor = fs.openSync(file, 'r');
  try {
    fs.readSync(descriptor, header, 0, header.length, 0);
  } finally {
    fs.closeSync(descriptor);
  }
  return header.subarray(0, 4).toString('latin1') === '\x7fELF' ? header.readUInt16LE(18) : undefined;
}
