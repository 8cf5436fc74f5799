import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Libp2p, Stream } from '@libp2p/interface';
import { CONTROL_FRAME_BYTES_MAX, CONTROL_PROTOCOL, CoordinatorMessage, type NodeMessage } from '@freehold/protocol';
import { generateKeyPair } from '@libp2p/crypto/keys';
import { OfferOvertaken, OfferRefused } from '@freehold/market';
import { multiaddr } from '@multiformats/multiaddr';
import { Channel } from './channel.ts';
import type { Libp2pProviderLink } from './coordinator/libp2p-provider-link.ts';
import { LINK_LIMITS } from './coordinator/limits.ts';
import type { LinkNote } from './coordinator/options.ts';
import { FrameStream } from './frames.ts';
import { createHost, NODE_HOST_LIMITS } from './host.ts';
import {
  coordinator,
  eventually,
  grantFor,
  MemorySink,
  newKey,
  node,
  rowInputs,
  signedOffer,
  TestDuties,
  TestEvents,
} from './loopback.fixture.ts';

/** Connections are counted per second and address; these tests all come from one. */
const LIMITS = {
  helloMs: 2_000,
  silenceMs: 5_000,
  hellosBurst: 5,
  controlPerSecond: 20,
  controlBurst: 40,
  rowMs: 3_000,
  startMs: 1_000,
};

describe('a coordinator among strangers', () => {
  const notes: LinkNote[] = [];
  const events = new TestEvents();
  const link: Libp2pProviderLink = coordinator(newKey(), notes, LIMITS);
  const hosts: Libp2p[] = [];

  beforeAll(async () => await link.listen(events));
  afterAll(async () => {
    await Promise.all(hosts.map(async (host) => await host.stop()));
    await link.close();
  });

  async function stranger(keyHex = newKey()): Promise<{ host: Libp2p; stream: Stream; keyHex: string; peer: string }> {
    const host = await createHost({ privateKeyHex: keyHex, listen: [], announce: [], limits: NODE_HOST_LIMITS });
    hosts.push(host);
    const stream = await host.dialProtocol(
      link.addresses().map((address) => multiaddr(address)),
      CONTROL_PROTOCOL,
    );
    return { host, stream, keyHex, peer: host.peerId.toString() };
  }
  const channelOf = (stream: Stream): Channel<CoordinatorMessage, unknown> =>
    new Channel<CoordinatorMessage, unknown>(
      new FrameStream(stream, { frameBytesMax: 1_000_000, frameMs: 5_000, writeMs: 5_000 }),
      CoordinatorMessage,
    );
  const helloOf = async (
    keyHex: string,
    change: Partial<Extract<NodeMessage, { type: 'hello' }>> = {},
  ): Promise<NodeMessage> => ({
    type: 'hello',
    version: 1,
    agent: 'x',
    offer: await signedOffer(keyHex),
    leases: [],
    vouchers: [],
    draining: false,
    ...change,
  });
  async function goodbyeTo(message: unknown, keyHex = newKey()): Promise<unknown> {
    const { stream, host } = await stranger(keyHex);
    const channel = channelOf(stream);
    await channel.send(message);
    const answer = await channel.receive(5_000);
    await eventually('the stranger is disconnected', () => host.getConnections().length === 0);
    return answer;
  }
  /** The proof that the host lives on: an honest node joins and commits a lease. */
  async function expectItWorks(): Promise<void> {
    const duties = new TestDuties(newKey());
    const honest = node(duties, link.addresses());
    await honest.start();
    try {
      await eventually('an honest node is welcomed', () => honest.connected().length === 1);
      const end = await link.runLease(
        grantFor(honest.peerId, 5),
        0,
        rowInputs(0, 5),
        new MemorySink(),
        new AbortController().signal,
      );
      expect(end).toEqual({ end: 'committed' });
    } finally {
      await honest.close();
    }
  }

  it('sends an old version away with words on how to upgrade, though its hello has another shape', async () => {
    await expect(goodbyeTo({ type: 'hello', version: 0, shape: 'of old' })).resolves.toMatchObject({
      type: 'goodbye',
      code: 'VERSION_TOO_OLD',
      message: expect.stringContaining('Upgrade'),
    });
    await expect(goodbyeTo({ type: 'hello', version: 99 })).resolves.toMatchObject({
      type: 'goodbye',
      code: 'VERSION_TOO_NEW',
    });
    await expectItWorks();
  });

  it('serves a node one version older, and tells it nothing that it would take for a fault', async () => {
    const { stream, keyHex, peer, host } = await stranger();
    const channel = channelOf(stream);
    await channel.send(await helloOf(keyHex, { version: 1 }));
    await expect(channel.receive(5_000)).resolves.toMatchObject({ type: 'welcome' });
    await eventually('it has joined', () => link.nodes().length === 1);
    const lease = { task: '11111111-0000-4000-8000-000000000000', epoch: 1 };
    const isTold = [
      link.tell(peer, { type: 'yield', lease, why: 'room' }),
      link.tell(peer, { type: 'processes', processes: [] }),
      link.tell(peer, { type: 'drop', lease, why: 'over' }),
    ];
    expect(isTold).toEqual([false, false, true]);
    await expect(channel.receive(5_000)).resolves.toMatchObject({ type: 'drop' });
    await host.stop();
    await eventually('it has left', () => link.nodes().length === 0);
  });

  it('believes no offer that is forged, of another node, expired, or too long', async () => {
    const key = newKey();
    const other = await signedOffer(newKey());
    const own = await signedOffer(key);
    const expired = await signedOffer(key, { expiresAt: 1_000 });
    const endless = await signedOffer(key, { expiresAt: 9_999_999_999 });
    const forged = { offer: { ...own.offer, region: 'elsewhere' }, signature: own.signature };
    const claimed = { offer: { ...own.offer, address: other.offer.address }, signature: own.signature };
    for (const [offer, code] of [
      [forged, 'OFFER_FORGED'],
      [other, 'OFFER_OF_ANOTHER'],
      [claimed, 'OFFER_ADDRESS'],
      [expired, 'OFFER_EXPIRED'],
      [endless, 'OFFER_TOO_LONG'],
    ] as const) {
      await expect(goodbyeTo(await helloOf(key, { offer }), key)).resolves.toMatchObject({ type: 'goodbye', code });
    }
    expect(link.nodes()).toEqual([]);
    expect(events.hellos.filter((peer) => peer === own.offer.node)).toEqual([]);
  });

  it("takes a newer node's offer by what it knows of it, keeps it whole, and believes no change of the rest", async () => {
    const key = newKey();
    const known = await signedOffer(key);
    const newer = {
      ...known.offer,
      powerW: 300,
      engines: known.offer.engines.map((engine) => ({ ...engine, later: [1] })),
    };
    const offer = await signedOffer(key, newer);
    const forged = { ...offer, offer: { ...newer, powerW: 1 } };
    await expect(goodbyeTo(await helloOf(key, { offer: forged }), key)).resolves.toMatchObject({
      code: 'OFFER_FORGED',
    });
    const kept: unknown[] = [];
    const { hello, renewed } = events;
    events.hello = async (node, held, vouchers) => (kept.push(node), await hello(node, held, vouchers));
    events.renewed = async (node) => (kept.push(node), await renewed(node));
    const { stream, host } = await stranger(key);
    const channel = channelOf(stream);
    await channel.send(await helloOf(key, { offer }));
    await expect(channel.receive(5_000)).resolves.toMatchObject({ type: 'welcome' });
    await eventually('it has joined', () => link.nodes().length === 1);
    expect(link.nodes()[0]?.offer).toEqual(known.offer);
    const next = await signedOffer(key, { ...newer, seq: 2, region: 'moved' });
    await channel.send({ type: 'offer', offer: next });
    await eventually('it has moved', () => link.nodes()[0]?.offer.region === 'moved');
    expect(link.nodes()[0]?.offer).toEqual({ ...known.offer, seq: 2, region: 'moved' });
    expect(kept).toEqual([offer, next]);
    Object.assign(events, { hello, renewed });
    await host.stop();
    await eventually('it has left', () => link.nodes().length === 0);
  });

  it('places nothing on an offer that nobody may make, in a hello or later, and says so', async () => {
    const refused = { type: 'goodbye', message: expect.stringContaining('asks nothing'), retryAfterMs: null };
    const usual = events.renewed;
    const refusing = async (): Promise<never> => Promise.reject(new OfferRefused('The offer asks nothing for m.'));
    const [key, later] = [newKey(), newKey()];
    const hello = events.hello;
    events.hello = refusing;
    await expect(goodbyeTo(await helloOf(key), key)).resolves.toMatchObject({ ...refused, code: 'OFFER_REFUSED' });
    events.hello = hello;
    const { stream, host } = await stranger(later);
    const channel = channelOf(stream);
    const good = await signedOffer(later);
    await channel.send(await helloOf(later, { offer: good }));
    await expect(channel.receive(5_000)).resolves.toMatchObject({ type: 'welcome' });
    await eventually('it has joined', () => link.nodes().length === 1);
    const seen: string[] = [];
    events.renewed = async (node) => {
      seen.push(...link.nodes().map(({ offer }) => offer.region));
      return node.offer.region === 'free' ? await refusing() : undefined;
    };
    for (const [i, region] of ['moved', 'free'].entries())
      await channel.send({ type: 'offer', offer: await signedOffer(later, { seq: good.offer.seq + i + 1, region }) });
    await expect(channel.receive(5_000)).resolves.toMatchObject({
      message: expect.stringMatching(/OFFER_REFUSED.*nothing/),
    });
    events.renewed = usual;
    await eventually('it is disconnected', () => host.getConnections().length === 0);
    expect([seen, link.nodes()]).toEqual([[good.offer.region, 'moved'], []]);
  });

  it('tells a stranger nothing of what failed here, and notes it', async () => {
    const key = newKey();
    const { hello, heartbeat } = events;
    const failing = (): Promise<never> => Promise.reject(new Error('duplicate key value violates "node_address_key"'));
    const told = { message: expect.stringContaining('The coordinator failed'), retryAfterMs: expect.any(Number) };
    events.hello = failing;
    await expect(goodbyeTo(await helloOf(key), key)).resolves.toMatchObject({ ...told, code: 'HELLO_REFUSED' });
    events.hello = () => Promise.reject(new OfferOvertaken('Offer 1 is not newer.'));
    await expect(goodbyeTo(await helloOf(key), key)).resolves.toMatchObject({
      ...{ code: 'HELLO_REFUSED', message: 'Offer 1 is not newer.' },
    });
    Object.assign(events, { hello, heartbeat: failing });
    const channel = channelOf((await stranger(key)).stream);
    await channel.send(await helloOf(key));
    await expect(channel.receive(5_000)).resolves.toMatchObject({ type: 'welcome' });
    await channel.send({ type: 'heartbeat', leases: [], freeSlots: 0, busyChats: 0, draining: false });
    await expect(channel.receive(5_000)).resolves.toMatchObject({ ...told, code: 'INTERNAL' });
    Object.assign(events, { heartbeat });
    const noted = notes.filter(({ message }) => message?.includes('node_address_key'));
    expect(noted.map(({ code }) => code)).toEqual(['HELLO_REFUSED', 'INTERNAL']);
    await expectItWorks();
  });

  it('cuts off malformed JSON, messages of no schema, and a first frame that is no hello', async () => {
    const key = newKey();
    await expect(goodbyeTo({ ...(await helloOf(key)), surprise: 1 }, key)).resolves.toMatchObject({
      code: 'MESSAGE_MALFORMED',
    });
    await expect(goodbyeTo({ type: 'kept', task: 'x' })).resolves.toMatchObject({ code: 'HELLO_EXPECTED' });
    const { stream, host } = await stranger();
    stream.send(Uint8Array.from([3, 0x7b, 0xff, 0x7d]));
    await eventually('it is disconnected', () => host.getConnections().length === 0);
    expect(notes.some(({ code }) => code === 'JSON_MALFORMED')).toBe(true);
    const deep: unknown = JSON.parse('['.repeat(100) + ']'.repeat(100));
    await expect(goodbyeTo(deep)).resolves.toMatchObject({
      code: 'JSON_MALFORMED',
      message: expect.stringContaining('at most 64 levels'),
    });
    await expectItWorks();
  });

  it('refuses an oversized frame by its announced length, without waiting for its bytes', async () => {
    const { stream, host } = await stranger();
    const announced = CONTROL_FRAME_BYTES_MAX + 1;
    stream.send(Uint8Array.from([(announced & 0x7f) | 0x80, ((announced >> 7) & 0x7f) | 0x80, announced >> 14]));
    await eventually('it is disconnected', () => host.getConnections().length === 0);
    expect(notes.at(-1)).toMatchObject({ event: 'cut-off', code: 'FRAME_TOO_LARGE' });
    await expectItWorks();
  });

  it('gives a slow trickle of a hello no more time than a hello has', async () => {
    const { stream, host } = await stranger();
    stream.send(Uint8Array.from([0x80, 0x10]));
    const trickle = setInterval(() => {
      if (stream.status === 'open') stream.send(Uint8Array.from([0x7b]));
    }, 50);
    await eventually('it is disconnected', () => host.getConnections().length === 0);
    clearInterval(trickle);
    expect(notes.some(({ code }) => code === 'FRAME_LATE')).toBe(true);
  });

  it('closes connections that say nothing at all, libp2p or not', async () => {
    const host = await createHost({ privateKeyHex: newKey(), listen: [], announce: [], limits: NODE_HOST_LIMITS });
    hosts.push(host);
    await host.dial(link.addresses().map((address) => multiaddr(address)));
    await eventually('the silent one is disconnected', () => host.getConnections().length === 0);
    const port = Number(/tcp\/(\d+)/.exec(link.addresses()[0] ?? '')?.[1]);
    const socket = connect(port, '127.0.0.1', () => socket.write(Buffer.alloc(4_096, 0x47)));
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    await closed;
    await expect(
      host.dialProtocol(
        link.addresses().map((address) => multiaddr(address)),
        '/no/such/protocol',
      ),
    ).rejects.toThrow();
    await expectItWorks();
  });

  it('knows nodes by secp256k1 keys only, because they are addresses too', async () => {
    const { privateKeyFromRaw } = await import('@libp2p/crypto/keys');
    const ed25519 = await generateKeyPair('Ed25519');
    expect(privateKeyFromRaw(ed25519.raw).type).toBe('Ed25519');
    const { addressOfPeer } = await import('./identity.ts');
    const { peerIdFromPrivateKey } = await import('@libp2p/peer-id');
    expect(addressOfPeer(peerIdFromPrivateKey(ed25519))).toBeNull();
  });

  it('cuts off a node that floods its control stream', async () => {
    const key = newKey();
    const { stream, host } = await stranger(key);
    const channel = channelOf(stream);
    await channel.send(await helloOf(key));
    expect(await channel.receive(5_000)).toMatchObject({ type: 'welcome' });
    try {
      for (let i = 0; i < 200; i += 1)
        await channel.send({ type: 'heartbeat', leases: [], freeSlots: 1, busyChats: 0, draining: false });
    } catch {
      // Cut off in the middle of it, as it should be.
    }
    await eventually('it is disconnected', () => host.getConnections().length === 0);
    expect(notes.some(({ event, code }) => event === 'cut-off' && code === 'TOO_MANY_MESSAGES')).toBe(true);
    expect(link.nodes()).toEqual([]);
  });

  it('takes a second hello of a node in place of the first', async () => {
    const key = newKey();
    const first = await stranger(key);
    const one = channelOf(first.stream);
    await one.send(await helloOf(key));
    await one.receive(5_000);
    const again = await first.host.dialProtocol(
      link.addresses().map((address) => multiaddr(address)),
      CONTROL_PROTOCOL,
    );
    const two = channelOf(again);
    await two.send(await helloOf(key));
    expect(await two.receive(5_000)).toMatchObject({ type: 'welcome' });
    await eventually('the first stream is gone', () => first.stream.status !== 'open');
    expect(link.nodes().map(({ id }) => id)).toEqual([first.peer]);
    await first.host.stop();
    await eventually('the node is gone', () => link.nodes().length === 0 && events.gones.includes(first.peer));
  });

  it.each<[string, TestDuties['onRows'], string]>([
    [
      'results out of order',
      async (call) => (
        await call.send({ type: 'started' }),
        await call.send({ type: 'result', index: 3, output: { kind: 'failed', code: 'x', message: '' } })
      ),
      'MESSAGE_UNEXPECTED',
    ],
    [
      'a checkpoint over rows that never came',
      async (call) => (
        await call.send({ type: 'started' }),
        await call.send({
          type: 'checkpoint',
          n: 5,
          root: `0x${'0'.repeat(64)}`,
          signature: `0x${'0'.repeat(130)}`,
          last: true,
        })
      ),
      'MESSAGE_UNEXPECTED',
    ],
    [
      'a message of no schema',
      // No type allows it.
      async (call) => (await call.send({ type: 'started' }), await call.send({ type: 'result', index: -1 } as never)),
      'MESSAGE_MALFORMED',
    ],
  ])('fails a lease whose node sends %s, and keeps the host', async (_what, onRows, code) => {
    const duties = new TestDuties(newKey());
    duties.onRows = async (call) => {
      await onRows(call);
      await call.receive().catch(() => null);
      await new Promise((resolve) => setTimeout(resolve, 200));
    };
    const bad = node(duties, link.addresses());
    await bad.start();
    await eventually('it is welcomed', () => bad.connected().length === 1);
    const end = await link.runLease(
      grantFor(bad.peerId, 5),
      0,
      rowInputs(0, 5),
      new MemorySink(),
      new AbortController().signal,
    );
    expect(end).toMatchObject({ end: 'failed', code });
    await bad.close();
    await expectItWorks();
  });

  it('cuts a lease whose node never answers, after the time it has', async () => {
    const duties = new TestDuties(newKey());
    duties.onRows = async () => await new Promise((resolve) => setTimeout(resolve, 3_000));
    const silent = node(duties, link.addresses());
    await silent.start();
    await eventually('it is welcomed', () => silent.connected().length === 1);
    const end = await link.runLease(
      grantFor(silent.peerId, 5),
      0,
      rowInputs(0, 5),
      new MemorySink(),
      new AbortController().signal,
    );
    expect(end).toMatchObject({ end: 'cut', message: expect.stringContaining('1000 ms') });
    await silent.close();
  });

  it('is set up for five thousand nodes', () => {
    expect(LINK_LIMITS.host.connectionsMax).toBeGreaterThanOrEqual(5_000);
  });
});
