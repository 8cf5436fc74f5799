import { readFile } from 'node:fs/promises';
import type { ExitPlan, ExitStep } from '@freehold/market';
import { RelayRequest, type RelayedStep } from '@freehold/protocol';
import { claimsHash, createSigner, ExitClient, ExitWallet, type ExitCall } from '@freehold/wiring/node';
import { OptionError } from '../options.ts';
import { jsonOf } from './receipt-files.ts';
import { rpcUrlOf } from './rpc-url.ts';
import type { Claimant } from './book-exit.ts';
import { keyOfFile } from './key-of-file.ts';

/** A relayer has so long: enough for a person to look at it, and for one congested day. */
const RELAY_S = 3n * 86_400n;

/** The plan of a payee without gas, signed for one relayer; null when there is nothing to do now. */
export async function relayRequest(facts: {
  readonly plan: ExitPlan;
  readonly client: ExitClient;
  readonly claimant: Claimant;
  readonly privateKey: `0x${string}`;
  readonly address: string;
  readonly relayer: string;
  readonly fee: string;
  readonly now: bigint;
}): Promise<RelayRequest | null> {
  const { plan, claimant, client } = facts;
  if (plan.steps.length === 0) return null;
  const relayer = facts.relayer.toLowerCase();
  if (!/^0x[0-9a-f]{40}$/.test(relayer)) throw new OptionError(`--relayer ${facts.relayer}: expected an address.`);
  if (!/^[0-9]{1,18}$/.test(facts.fee))
    throw new OptionError(`--relay-fee ${facts.fee}: expected an amount in the token's smallest unit.`);
  const { chainId, escrow, book, payee } = claimant;
  const payeeNow = await client.payee(payee);
  const payout = payeeNow?.payout ?? payee;
  if (payout !== facts.address)
    throw new OptionError(`${payee} is paid at ${payout}, whose key signs a relay request: give it with --key FILE.`);
  const signer = createSigner(facts.privateKey, { chainId, escrow });
  const deadline = facts.now + RELAY_S;
  const steps: RelayedStep[] = [];
  for (const step of plan.steps) {
    if (step.do === 'withdraw' || step.do === 'close' || step.do === 'refund') continue;
    const { epoch } = step;
    if (step.do !== 'cash')
      steps.push({
        ...step,
        ...(step.do === 'contest' ? { posted: String(step.posted) } : {}),
        epoch: String(epoch),
      } as RelayedStep);
    else {
      const message = { book, payee, epoch, claims: claimsHash(step.claims), deadline };
      const signature = await signer.sign('CashAuthorisation', message);
      steps.push({
        do: 'cash',
        epoch: String(epoch),
        claims: [...step.claims],
        amount: String(step.amount),
        signature,
      });
    }
  }
  const withdraw = plan.steps.find((step) => step.do === 'withdraw');
  const fee = BigInt(facts.fee);
  if (withdraw !== undefined && withdraw.amount <= fee)
    throw new OptionError(`--relay-fee ${fee}: all that comes in is ${withdraw.amount}.`);
  const nonce = BigInt(payeeNow?.nonce ?? 0);
  const withdrawal =
    withdraw === undefined
      ? null
      : {
          fee: String(fee),
          atLeast: String(withdraw.amount),
          signature: await signer.sign('Withdrawal', {
            book,
            payee,
            relayer,
            fee,
            atLeast: withdraw.amount,
            nonce,
            deadline,
          }),
        };
  return { v: 1, chainId, escrow, book, payee, relayer, deadline: String(deadline), steps, withdrawal };
}

/** The relayer's side: sends the steps of a request, none that would revert, and is paid by the last. */
export async function relay(
  file: string,
  options: { readonly rpc?: string; readonly key: string },
  print: (line: string) => void,
): Promise<number> {
  const rpcUrl = rpcUrlOf(options);
  const parsed = RelayRequest.safeParse(jsonOf(await readFile(file, 'utf8')));
  if (!parsed.success) throw new OptionError(`${file} is no relay request: ${parsed.error.issues[0]?.message ?? ''}`);
  const request = parsed.data;
  const { chainId, escrow, book, payee } = request;
  const wallet = new ExitWallet({ rpcUrl, privateKey: await keyOfFile(options.key) });
  if (wallet.address !== request.relayer)
    throw new OptionError(
      `${file} is signed for relayer ${request.relayer}; the key given is that of ${wallet.address}.`,
    );
  const client = new ExitClient({ rpcUrl, escrow, book });
  await client.requireChain(chainId);
  await wallet.settleEarlier();
  // A step may have been done by a run that was cut, or by anybody else; the last one says whether all of them were.
  let last: string | null = null;
  for (const step of request.steps) last = await sendOne(wallet, await callOfRelayed(client, request, step), print);
  if (request.withdrawal !== null) {
    const { fee, atLeast, signature } = request.withdrawal;
    const call = client.withdrawForCall({
      payee: (await client.payee(payee))?.index ?? 0,
      fee: BigInt(fee),
      atLeast: BigInt(atLeast),
      deadline: BigInt(request.deadline),
      signature: signature as `0x${string}`,
    });
    last = await sendOne(wallet, call, print);
  }
  if (last !== null) throw new OptionError(last);
  return 0;
}

async function callOfRelayed(client: ExitClient, request: RelayRequest, step: RelayedStep): Promise<ExitCall> {
  if (step.do !== 'cash') {
    const known = {
      ...step,
      epoch: BigInt(step.epoch),
      ...(step.do === 'contest' ? { posted: BigInt(step.posted) } : {}),
    };
    return await client.callOf(known as ExitStep, request.payee);
  }
  const { epoch, claims, amount, signature } = step;
  const index = (await client.payee(request.payee))?.index;
  if (index === undefined) throw new Error(`${request.payee} is no payee of the book yet: its enrolment comes first.`);
  const cash = { do: 'cash', epoch: BigInt(epoch), claims, amount: BigInt(amount) } as const;
  return client.cashCall(cash, index, BigInt(request.deadline), signature as `0x${string}`);
}

/** Why the call was not sent; null when it was. */
async function sendOne(wallet: ExitWallet, call: ExitCall, print: (line: string) => void): Promise<string | null> {
  const why = await wallet.refusal(call);
  if (why !== null) {
    const text = `not sent, because it would revert: ${call.what}: ${why}`;
    print(text);
    return text;
  }
  const { hash } = await wallet.send(call);
  print(`did: ${call.what} (${hash})`);
  return null;
}
