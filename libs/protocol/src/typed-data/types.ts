/** One member of an EIP-712 struct: its name and its Solidity type. */
export interface TypedField {
  readonly name: string;
  readonly type: string;
}

/** EIP-712 domains, one per contract that reads the messages; chain id and address come from the deployment. */
export const DOMAINS = {
  escrow: { name: 'Freehold ComputeEscrow', version: '1' },
  panel: { name: 'Freehold RefereePanel', version: '1' },
  registry: { name: 'Freehold ServiceRegistry', version: '1' },
} as const;
export type DomainOf = keyof typeof DOMAINS;

/**
 * Every message that anyone signs, by its EIP-712 primary type. No struct holds another, so a type is its own list of members.
 *
 * Amounts are uint64 in the token's smallest unit, times are seconds, `task` is the uuid left-padded to 32 bytes. Messages that
 * no contract reads are signed under the escrow's domain all the same: a signature then names its chain and its market.
 */
export const TYPES = {
  /** A node says what it can do; `hash` is the canonical hash of the whole offer. */
  Offer: [
    { name: 'node', type: 'address' },
    { name: 'payout', type: 'address' },
    { name: 'seq', type: 'uint64' },
    { name: 'expiresAt', type: 'uint64' },
    { name: 'hash', type: 'bytes32' },
  ],
  /** A node commits to the first `n` rows of a lease. */
  LeaseCheckpoint: [
    { name: 'task', type: 'bytes32' },
    { name: 'epoch', type: 'uint32' },
    { name: 'n', type: 'uint64' },
    { name: 'root', type: 'bytes32' },
  ],
  /** The coordinator received a commitment and names the chain height after which audited rows are drawn. */
  CommitCountersign: [
    { name: 'task', type: 'bytes32' },
    { name: 'epoch', type: 'uint32' },
    { name: 'root', type: 'bytes32' },
    { name: 'height', type: 'uint64' },
  ],
  /** A node states what an accepted lease did, for whoever wants it signed by the node alone, without the coordinator. */
  Receipt: [
    { name: 'task', type: 'bytes32' },
    { name: 'epoch', type: 'uint32' },
    { name: 'nonce', type: 'bytes16' },
    { name: 'node', type: 'address' },
    { name: 'payee', type: 'address' },
    { name: 'book', type: 'bytes32' },
    { name: 'order', type: 'uint16' },
    { name: 'model', type: 'bytes32' },
    { name: 'root', type: 'bytes32' },
    { name: 'rows', type: 'uint64' },
    { name: 'audited', type: 'uint64' },
    { name: 'unitsIn', type: 'uint64' },
    { name: 'unitsOut', type: 'uint64' },
    { name: 'charge', type: 'uint64' },
    { name: 'fee', type: 'uint64' },
  ],
  /**
   * The coordinator accepts a lease and promises its pay in one message: net, per order and over all orders of the epoch.
   * `receipt` is the hash of the digests of the receipt's fields (`receiptHash`).
   */
  DelegateVoucher: [
    { name: 'book', type: 'bytes32' },
    { name: 'epoch', type: 'uint32' },
    { name: 'payee', type: 'address' },
    { name: 'order', type: 'uint16' },
    { name: 'orderParams', type: 'bytes8' },
    { name: 'cumulative', type: 'uint64' },
    { name: 'total', type: 'uint64' },
    { name: 'receipt', type: 'bytes32' },
  ],
  /** A payer's own promise from the order's free lane: gross, cumulative per order and payee. Signed by the order's voucher key. */
  PayerVoucher: [
    { name: 'book', type: 'bytes32' },
    { name: 'order', type: 'uint16' },
    { name: 'orderParams', type: 'bytes8' },
    { name: 'payee', type: 'address' },
    { name: 'cumulative', type: 'uint64' },
    { name: 'deadline', type: 'uint64' },
  ],
  /** What an auditor found in the drawn rows of a commitment. */
  AuditReport: [
    { name: 'task', type: 'bytes32' },
    { name: 'epoch', type: 'uint32' },
    { name: 'root', type: 'bytes32' },
    { name: 'seed', type: 'bytes32' },
    { name: 'auditor', type: 'address' },
    { name: 'sampled', type: 'uint32' },
    { name: 'bad', type: 'uint32' },
    { name: 'evidence', type: 'bytes32' },
  ],
  /** What a payer opens; its struct hash is the nonce of an EIP-3009 opening, its first 8 bytes are `orderParams`. */
  Order: [
    { name: 'book', type: 'bytes32' },
    { name: 'payer', type: 'address' },
    { name: 'voucherKey', type: 'address' },
    { name: 'refundTo', type: 'address' },
    { name: 'reserved', type: 'uint64' },
    { name: 'free', type: 'uint64' },
    { name: 'salt', type: 'bytes32' },
  ],
  /** A payout key lets a relayer send its withdrawal and keep `fee`. */
  Withdrawal: [
    { name: 'book', type: 'bytes32' },
    { name: 'payee', type: 'address' },
    { name: 'relayer', type: 'address' },
    { name: 'fee', type: 'uint64' },
    { name: 'atLeast', type: 'uint64' },
    { name: 'nonce', type: 'uint64' },
    { name: 'deadline', type: 'uint64' },
  ],
  /** A payee lets anyone cash exactly these claims in a dead book; `claims` = keccak256 of their ABI encoding. */
  CashAuthorisation: [
    { name: 'book', type: 'bytes32' },
    { name: 'payee', type: 'address' },
    { name: 'epoch', type: 'uint32' },
    { name: 'claims', type: 'bytes32' },
    { name: 'deadline', type: 'uint64' },
  ],
  /** A referee awards from a delegate's bond. Panel domain. */
  Award: [
    { name: 'escrow', type: 'address' },
    { name: 'book', type: 'bytes32' },
    { name: 'caseId', type: 'bytes32' },
    { name: 'to', type: 'address' },
    { name: 'amount', type: 'uint64' },
    { name: 'deadline', type: 'uint64' },
  ],
  /** A referee slashes a provider's stake. Panel domain. */
  Verdict: [
    { name: 'stake', type: 'address' },
    { name: 'caseId', type: 'bytes32' },
    { name: 'provider', type: 'address' },
    { name: 'harmed', type: 'address' },
    { name: 'value', type: 'uint64' },
    { name: 'amount', type: 'uint64' },
    { name: 'deadline', type: 'uint64' },
  ],
  /** A node's key agrees to be run by an operator. Registry domain. */
  NodeConsent: [
    { name: 'node', type: 'address' },
    { name: 'operator', type: 'address' },
    { name: 'nonce', type: 'uint64' },
    { name: 'deadline', type: 'uint64' },
  ],
} as const satisfies Record<string, readonly TypedField[]>;
export type PrimaryType = keyof typeof TYPES;

/** Under which contract's domain a message is signed. */
export const DOMAIN_BY_TYPE: Readonly<Record<PrimaryType, DomainOf>> = {
  Offer: 'escrow',
  LeaseCheckpoint: 'escrow',
  CommitCountersign: 'escrow',
  Receipt: 'escrow',
  DelegateVoucher: 'escrow',
  PayerVoucher: 'escrow',
  AuditReport: 'escrow',
  Order: 'escrow',
  Withdrawal: 'escrow',
  CashAuthorisation: 'escrow',
  Award: 'panel',
  Verdict: 'panel',
  NodeConsent: 'registry',
};

/** Whether a name read from outside is one of the message types. */
export function isPrimaryType(name: string): name is PrimaryType {
  return Object.hasOwn(TYPES, name);
}

/** The EIP-712 type string that is hashed into a message, such as `Order(bytes32 book,…)`. */
export function encodeType(primaryType: PrimaryType): string {
  return `${primaryType}(${TYPES[primaryType].map((field) => `${field.type} ${field.name}`).join(',')})`;
}
