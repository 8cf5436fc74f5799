import { computeEscrowAbi } from '@freehold/contracts';
import type { ChainEvent, Lane, LogPlace } from '@freehold/market';
import { unpackLanes } from '@freehold/protocol';
import { parseEventLogs, type Log } from 'viem';

/** Amounts of a withdrawal lie below its payee, amounts of a cashed voucher below its order. */
const WITHDRAWN_AMOUNT_BITS = 240n;
const CASHED_AMOUNT_BITS = 64n;

/** The escrow's logs in our words. Logs without a meaning for the books (relay fees, payout rotations) are left out. */
export function chainEvents(logs: readonly Log[]): readonly ChainEvent[] {
  return parseEventLogs({ abi: computeEscrowAbi, logs: [...logs] }).flatMap((log) => {
    if (log.blockNumber === null || log.blockHash === null || log.logIndex === null) return [];
    const place: LogPlace = { blockNumber: log.blockNumber, blockHash: log.blockHash, logIndex: log.logIndex };
    const fact = factOf(log);
    return fact === null ? [] : [{ ...place, ...fact }];
  });
}

type EscrowLog = ReturnType<typeof parseEventLogs<typeof computeEscrowAbi>>[number];
type Fact = ChainEvent extends infer E ? (E extends LogPlace ? Omit<E, keyof LogPlace> : never) : never;

function factOf(log: EscrowLog): Fact | null {
  switch (log.eventName) {
    case 'BookOpened':
      return bookOpened(log.args.terms);
    case 'BookDied':
      return { name: 'BookDied', why: textOf(log.args.why) };
    case 'BondAdded':
      return { name: 'BondAdded', amount: log.args.amount };
    case 'BondTaken':
      return { name: 'BondTaken', amount: log.args.amount };
    case 'PayeeAdded':
      return { name: 'PayeeAdded', index: Number(log.args.payee), payee: log.args.operator.toLowerCase() };
    case 'OrderOpened': {
      const { order, payer, refundTo, params, reserved, free } = log.args;
      return {
        name: 'OrderOpened',
        order: Number(order),
        payer: payer.toLowerCase(),
        refundTo: refundTo.toLowerCase(),
        params,
        reserved,
        free,
      };
    }
    case 'OrderToppedUp':
    case 'OrderRefunded': {
      const { order, reserved, free } = log.args;
      return { name: log.eventName, order: Number(order), reserved, free };
    }
    case 'OrderClosing':
      return { name: 'OrderClosing', order: Number(log.args.order), closeEpoch: log.args.closeEpoch };
    case 'EpochPosted':
      return {
        name: 'EpochPosted',
        epoch: log.args.epoch,
        debits: [...unpackLanes(log.args.debits)],
        credits: [...unpackLanes(log.args.credits)],
      };
    case 'EpochStruck':
      return { name: 'EpochStruck', epoch: log.args.epoch, payee: Number(log.args.payee), penalty: log.args.penalty };
    case 'EpochFinal': {
      const { epoch, debits, credits, fee } = log.args;
      return { name: 'EpochFinal', epoch, debits, credits, fee };
    }
    case 'VoucherRedeemed': {
      const { order, payee, gross, fee } = log.args;
      return { name: 'VoucherRedeemed', order: Number(order), payee: Number(payee), gross, fee };
    }
    case 'VouchersCashed': {
      const { payee, epoch, cashed } = log.args;
      return {
        name: 'VouchersCashed',
        payee: Number(payee),
        epoch,
        cashed: cashed.map((word) => laneAt(word, CASHED_AMOUNT_BITS)),
      };
    }
    case 'Withdrawn':
      return { name: 'Withdrawn', sent: log.args.sent.map((word) => laneAt(word, WITHDRAWN_AMOUNT_BITS)) };
    default:
      return null;
  }
}

type Terms = Extract<EscrowLog, { eventName: 'BookOpened' }>['args']['terms'];

function bookOpened(terms: Terms): Fact {
  return {
    name: 'BookOpened',
    delegate: terms.delegate.toLowerCase(),
    feeBps: terms.feeBps,
    startsAt: terms.start,
    epochSeconds: terms.epochLength,
    windowSeconds: terms.window,
    graceSeconds: terms.grace,
  };
}

function laneAt(word: bigint, amountBits: bigint): Lane {
  return [Number(word >> amountBits), word & ((1n << amountBits) - 1n)];
}

/** A short ASCII text in 32 bytes, zero-padded on the right. */
function textOf(bytes32: string): string {
  return Buffer.from(bytes32.slice(2), 'hex').toString('ascii').replace(/\0+$/, '');
}
