import { createServer, type AddressInfo } from 'node:net';
import { expect, it } from '@jest/globals';
import { PortTakenError, refuseTakenPort } from './port-holder.ts';

it('names who holds a port, and what to do', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const refusal = await refuseTakenPort(port).catch((error: unknown) => error);
  await new Promise((resolve) => server.close(resolve));
  expect(refusal).toBeInstanceOf(PortTakenError);
  expect(String(refusal)).toContain(`Port ${port} is taken by process ${process.pid} (`);
  expect(String(refusal)).toContain('--port');
});

it('has nothing against a free port, or against any', async () => {
  await expect(refuseTakenPort(0)).resolves.toBeUndefined();
});
