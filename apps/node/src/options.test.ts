import { describe, expect, it } from '@jest/globals';
import { nodeOptions, type RawOptions } from './options.ts';

const RAW: RawOptions = {
  coordinator: ['/ip4/127.0.0.1/tcp/1/p2p/x'],
  data: '/d',
  engine: ['use-lite'],
  rate: [],
  region: 'local',
  chatShare: '50',
  exposureMax: '5',
  unsignedMax: '7',
  notice: '1',
  mode: 'honest',
  slowMs: '0',
};

describe('the command line of a node', () => {
  it('replaces the defaults of the rates it names and keeps the others', () => {
    expect(nodeOptions({ ...RAW, rate: ['outputToken=7'] }).rates).toMatchObject({
      outputToken: 7n,
      inputToken: 50_000n,
    });
  });

  it.each<[string, Partial<RawOptions>, string]>([
    ['no coordinator', { coordinator: [] }, '--coordinator'],
    ['an address of another kind', { coordinator: ['http://x'] }, '--coordinator http://x: expected /ip4/…/tcp/…/p2p/'],
    ['no engine', { engine: [] }, '--engine'],
    ['an engine that is none', { engine: ['ftp://x'] }, 'expected llama-cpp, use-lite'],
    ['a rate of no kind', { rate: ['speed=3'] }, 'kind one of inputToken'],
    ['a rate that is no whole amount', { rate: ['outputToken=1.5'] }, 'smallest token units'],
    ['a payout that is no address', { payout: '0x12' }, '40 hexadecimal digits'],
    ['a limit that is no amount', { unsignedMax: '1e9' }, '--unsigned-max 1e9'],
    ['a mode that is none', { mode: 'evil' }, 'honest, cheat, flapper, slow'],
    ['an isolation that is none', { isolation: 'a wall' }, 'none, bwrap, container, gvisor, kata, cvm'],
    ['too many slots', { slots: '5000' }, 'from 1 to 1024'],
    ['a share above all', { chatShare: '101' }, 'from 0 to 100'],
  ])('says what to write instead of %s', (_what, change, text) => {
    expect(() => nodeOptions({ ...RAW, ...change })).toThrow(text);
  });
});
