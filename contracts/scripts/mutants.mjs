// The mutation gate: plants one bug at a time in a copy of the contracts and demands that the named invariant or test turns
// red. A bug caught by something else, or by nothing, fails the gate: then a test has gone soft.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CONTRACTS, ROOT, forge } from './forge.mjs';

const ESCROW = 'ComputeEscrow.sol';

/**
 * @typedef {object} Mutant
 * @property {string} bug What a careless or malicious change would do.
 * @property {string} file Under contracts/src.
 * @property {[string, string][]} edits Text that must occur exactly once, and what takes its place.
 * @property {string} caughtBy `I0`–`I15` for an invariant of the campaign, else the name of a test.
 */

/** @type {Mutant[]} */
export const MUTANTS = [
  {
    bug: 'anyone enrols any payee without a voucher of the delegate',
    file: ESCROW,
    edits: [
      [
        '        _requireDelegateVoucher(book, epoch, b.delegate, operator, claim);\n        _addPayee',
        '        epoch; claim;\n        _addPayee',
      ],
    ],
    caughtBy: 'test_nobody_enrols_without_the_delegates_voucher_for_exactly_that_payee',
  },
  {
    bug: 'a payer drains the reserved lane with its own vouchers',
    file: ESCROW,
    edits: [
      ['uint256 free = _free[book][place];', 'uint256 free = _reserved[book][place];'],
      ['_free[book][place] = free.sub(claim.order, gross);', '_reserved[book][place] = free.sub(claim.order, gross);'],
    ],
    caughtBy: 'test_payer_voucher_pays_at_once_from_the_free_lane_only',
  },
  {
    bug: 'an epoch credits more than it debits',
    file: 'libraries/Postings.sol',
    edits: [
      [
        'if (credits > debits) revert CreditsAboveDebits(credits, debits);\n        fee = debits - credits;',
        'fee = credits > debits ? 0 : debits - credits;',
      ],
    ],
    caughtBy: 'I4',
  },
  {
    bug: "a delegate keeps more than the book's fee",
    file: 'libraries/Postings.sol',
    edits: [['if (fee > bound) revert FeeAboveBound(fee, bound);', 'bound;']],
    caughtBy: 'test_a_fee_above_its_bound_is_refused',
  },
  {
    bug: 'a debit above its lane borrows from the neighbours',
    file: 'libraries/Lanes.sol',
    edits: [['if (amount > (word >> shift) & MAX) return (0, 0, shift / _BITS);', '']],
    caughtBy: 'test_a_debit_above_its_lane_is_refused',
  },
  {
    bug: 'an order listed twice is debited twice',
    file: 'libraries/Postings.sol',
    edits: [['if (place < lowest) revert PostingOutOfOrder(position, lowest, place);', 'position; lowest;']],
    caughtBy: 'test_an_order_listed_twice_is_refused',
  },
  {
    bug: 'an understated credit cannot be contested',
    file: ESCROW,
    edits: [['if (claim.total <= posted)', 'if (claim.total <= posted || posted != 0)']],
    caughtBy: 'I3',
  },
  {
    bug: 'a delegate may amend for ever',
    file: ESCROW,
    edits: [['if (b.stage == Stage.Amended) {', 'if (b.stage == Stage.None) {']],
    caughtBy: 'test_an_understated_posting_is_struck_amended_and_struck_again_until_the_book_dies',
  },
  {
    bug: 'a refund is gated by time instead of settled epochs',
    file: ESCROW,
    edits: [
      [
        'bool settled = o.closing != 0 && b.next >= o.closing;',
        'bool settled = o.closing != 0 && _epochAt(b, block.timestamp) >= o.closing;',
      ],
    ],
    caughtBy: 'I14',
  },
  {
    bug: 'a close takes effect at once, under the feet of an honest delegate',
    file: ESCROW,
    edits: [
      ['uint256 closeEpoch = _epochAt(b, block.timestamp) + 1;', 'uint256 closeEpoch = _epochAt(b, block.timestamp);'],
    ],
    caughtBy: 'test_a_refund_waits_for_settled_epochs_and_not_for_time',
  },
  {
    bug: 'a stranger with a stale voucher burns the escape bit',
    file: ESCROW,
    edits: [['if (msg.sender != p.operator && msg.sender != _payout(p)) {', 'if (block.timestamp == 0) {']],
    caughtBy: 'I15',
  },
  {
    bug: 'a short lane uses up a voucher for less than it says',
    file: ESCROW,
    edits: [['if (amount == 0 || amount < atLeast) revert', 'if (amount == 0) revert']],
    caughtBy: 'test_a_short_lane_does_not_use_up_a_voucher_silently',
  },
  {
    bug: 'a contract wallet un-signs what was earned',
    file: ESCROW,
    edits: [
      [
        'if (recovered != key) revert SignerDiffers(key, recovered);',
        'if (recovered != key) revert SignerDiffers(key, recovered);\n        if (key.code.length != 0 && !SignatureChecker.isValidERC1271SignatureNow(key, structHash, abi.encode(r, vs))) revert SignerDiffers(key, key);',
      ],
    ],
    caughtBy: 'I14',
  },
  {
    bug: 'the same work is paid by posting and by voucher',
    file: ESCROW,
    edits: [['if (epoch < b.next) revert EpochFinalAlready(epoch, b.next);', '']],
    caughtBy: 'I12',
  },
  {
    bug: 'a voucher is cashed twice',
    file: ESCROW,
    edits: [['bits[index >> 8] = word | bit;', '']],
    caughtBy: 'I12',
  },
  {
    bug: 'the cap is clamped after the transfer',
    file: ESCROW,
    edits: [
      [
        '_credit(book, claim.payee, gross - fee);',
        '_credit(book, claim.payee, claim.cumulative - before.amountOf(claim.payee) - fee);',
      ],
    ],
    caughtBy: 'I3',
  },
  {
    bug: 'a withdrawal has no nonce',
    file: ESCROW,
    edits: [['        ++p.nonce;\n', '']],
    caughtBy: 'I15',
  },
  {
    bug: 'a payer voucher has no deadline',
    file: ESCROW,
    edits: [['_inTime(claim.deadline);\n', '']],
    caughtBy: 'test_an_expired_voucher_is_refused',
  },
  {
    bug: 'a voucher is good on every chain',
    file: ESCROW,
    edits: [
      [
        '    address public immutable TREASURY;\n',
        '    address public immutable TREASURY;\n    bytes32 private immutable _FIXED;\n',
      ],
      ['        TREASURY = treasury;\n', '        TREASURY = treasury;\n        _FIXED = _domainSeparatorV4();\n'],
      [
        'ECDSA.tryRecover(_hashTypedDataV4(structHash), r, vs)',
        'ECDSA.tryRecover(keccak256(abi.encodePacked(hex"1901", _FIXED, structHash)), r, vs)',
      ],
    ],
    caughtBy: 'I5',
  },
  {
    bug: 'a pause blocks an exit',
    file: ESCROW,
    edits: [
      [
        'function withdraw(bytes32 book, uint16[] calldata payees) external nonReentrant {',
        'function withdraw(bytes32 book, uint16[] calldata payees) external whenNotPaused nonReentrant {',
      ],
    ],
    caughtBy: 'I8',
  },
  {
    bug: 'a posting pays before its window',
    file: ESCROW,
    edits: [['        _notBefore(closesAt);\n', '']],
    caughtBy: 'I10',
  },
  {
    bug: 'a delegate voucher is cashed before its notice',
    file: ESCROW,
    edits: [['        _notBefore(b.since + NOTICE);\n', '']],
    caughtBy: 'I10',
  },
  {
    bug: 'dust enters a lane in front of a redemption',
    file: ESCROW,
    edits: [
      [
        'if (amount < b.depositMin) revert DepositTooSmall(amount, b.depositMin);\n        uint256 place',
        'uint256 place',
      ],
    ],
    caughtBy: 'test_dust_and_strangers_do_not_enter_an_order',
  },
  {
    bug: 'a token that takes a fee is accepted',
    file: ESCROW,
    edits: [['if (arrived != amount) revert TokenTookFee(amount, arrived);', 'arrived;']],
    caughtBy: 'test_a_token_that_returns_false_takes_a_fee_or_blocks_moves_nothing',
  },
  {
    bug: 'a slash goes beyond its bound',
    file: 'ProviderStake.sol',
    edits: [['if (wanted > bound) revert SlashAboveBound(wanted, bound);', 'bound;']],
    caughtBy: 'I11',
  },
  {
    bug: 'bonded stake is slashed before unbonding stake',
    file: 'ProviderStake.sol',
    edits: [
      [
        'uint256 fromUnbonding = wanted < s.unbonding ? wanted : s.unbonding;\n        uint256 rest = wanted - fromUnbonding;\n        uint256 fromBonded = rest < s.bonded ? rest : s.bonded;',
        'uint256 fromBonded = wanted < s.bonded ? wanted : s.bonded;\n        uint256 rest = wanted - fromBonded;\n        uint256 fromUnbonding = rest < s.unbonding ? rest : s.unbonding;',
      ],
    ],
    caughtBy: 'test_a_slash_takes_unbonding_stake_first_and_pays_the_harmed_first',
  },
];

const HELP = `node contracts/scripts/mutants.mjs [--only TEXT]
  plants ${MUTANTS.length} bugs in a copy of the contracts; each must be caught by the invariant or test that is named for it`;

function workshop() {
  const root = mkdtempSync(join(tmpdir(), 'freehold-mutants-'));
  mkdirSync(join(root, 'contracts'));
  mkdirSync(join(root, 'test'));
  for (const part of ['src', 'test', 'script', 'out', 'cache', 'foundry.toml']) {
    const from = join(CONTRACTS, part);
    if (existsSync(from)) cpSync(from, join(root, 'contracts', part), { recursive: true, preserveTimestamps: true });
  }
  cpSync(join(ROOT, 'test', 'vectors'), join(root, 'test', 'vectors'), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  return root;
}

function plant(path, mutant) {
  let source = readFileSync(path, 'utf8');
  for (const [from, to] of mutant.edits) {
    const places = source.split(from).length - 1;
    if (places !== 1)
      throw new Error(`mutants: "${mutant.bug}": expected its text once in ${mutant.file}, found it ${places} times`);
    source = source.replace(from, () => to);
  }
  writeFileSync(path, source);
}

/** What the run says about the mutant: null when the named check caught it. */
function verdict(mutant, { status, output }) {
  if (/Compiler run failed|Error \(\d+\)/.test(output)) return `does not compile\n${output.slice(-1_500)}`;
  if (!/[1-9]\d* (passed|failed)/.test(output)) return `ran no test: is ${mutant.caughtBy} still there?`;
  if (status === 0) return 'survived';
  const named = mutant.caughtBy.startsWith('I')
    ? new RegExp(`${mutant.caughtBy}: `)
    : new RegExp(`FAIL[^\\n]*${mutant.caughtBy}\\(`);
  return named.test(output) ? null : `was caught by something else\n${output.slice(-1_500)}`;
}

function check(root, mutant) {
  const path = join(root, 'contracts', 'src', mutant.file);
  const original = readFileSync(path, 'utf8');
  try {
    plant(path, mutant);
    const test = mutant.caughtBy.startsWith('I') ? 'invariant_all' : mutant.caughtBy;
    return verdict(
      mutant,
      forge(['test', '--match-test', test], { root, quiet: true, env: { FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT: '0' } }),
    );
  } finally {
    writeFileSync(path, original);
  }
}

function main(args) {
  if (args.includes('--help')) return void process.stdout.write(`${HELP}\n`);
  const only = args.includes('--only') ? (args[args.indexOf('--only') + 1] ?? '') : '';
  const chosen = MUTANTS.filter((mutant) => mutant.bug.includes(only) || mutant.caughtBy.includes(only));
  const root = workshop();
  let missed = 0;
  try {
    const names = chosen.map((mutant) => (mutant.caughtBy.startsWith('I') ? 'invariant_all' : mutant.caughtBy));
    const sound = forge(['test', '--match-test', `(${[...new Set(names)].join('|')})`], { root, quiet: true });
    if (sound.status !== 0)
      throw new Error(`mutants: the contracts fail before any bug is planted\n${sound.output.slice(-2_000)}`);
    for (const mutant of chosen) {
      const started = Date.now();
      const why = check(root, mutant);
      if (why !== null) missed += 1;
      const seconds = Math.round((Date.now() - started) / 1000);
      process.stdout.write(
        `${why === null ? 'caught' : 'MISSED'}  ${mutant.bug}  [${mutant.caughtBy}] ${seconds} s${why === null ? '' : `: ${why}`}\n`,
      );
    }
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
  process.stdout.write(`mutants: ${chosen.length - missed} of ${chosen.length} caught by the check named for them\n`);
  if (missed > 0) process.exitCode = 1;
}

main(process.argv.slice(2));
