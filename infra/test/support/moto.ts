import { spawn, type ChildProcess } from 'node:child_process';
import { createServer, type AddressInfo } from 'node:net';

/** Starts the AWS that `MOTO_SERVER` names, on a port of its own; it answers when this returns, and whoever asked ends it. */
export async function startMoto(): Promise<{ process: ChildProcess; endpoint: string }> {
  const port = await freePort();
  const [command, ...rest] = process.env.MOTO_SERVER!.split(' ');
  const moto = spawn(command!, [...rest, '-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' });
  const endpoint = `http://127.0.0.1:${port}`;
  await answers(endpoint, moto);
  return { process: moto, endpoint };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function answers(endpoint: string, server: ChildProcess): Promise<void> {
  const failed = new Promise<never>((_, reject) => {
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`moto_server ended with ${code}`)));
  });
  failed.catch(() => undefined); // it ends when the tests do
  const deadline = Date.now() + 60_000;
  while (Date.now() < deadline) {
    const up = await Promise.race([
      fetch(`${endpoint}/moto-api/`).then(
        () => true,
        () => false,
      ),
      failed,
    ]);
    if (up) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`moto_server does not answer at ${endpoint}`);
}
