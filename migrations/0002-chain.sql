-- What the chain knows, as far as we have seen it, and what we owe it.
-- Books are named by the hash of their terms (0x…, 32 bytes), payees by the address that signs for them, orders by their index in the book.

CREATE TABLE chain_book (
  book text PRIMARY KEY CHECK (book ~ '^0x[0-9a-f]{64}$'),
  escrow text NOT NULL CHECK (escrow ~ '^0x[0-9a-f]{40}$'),
  delegate text NOT NULL,
  fee_bps integer NOT NULL,
  -- Seconds of chain time.
  starts_at bigint NOT NULL,
  epoch_seconds integer NOT NULL,
  window_seconds integer NOT NULL,
  grace_seconds integer NOT NULL,
  state text NOT NULL DEFAULT 'alive' CHECK (state IN ('alive', 'dead')),
  opened_block bigint NOT NULL
);

CREATE TABLE chain_order (
  book text NOT NULL REFERENCES chain_book,
  order_index integer NOT NULL,
  -- First 8 bytes of the order's hash: every voucher repeats them.
  params bytea NOT NULL CHECK (length(params) = 8),
  -- Whose balance its reserved lane is: an org with this wallet, or the operator (credits), or nobody we know (then no work is charged to it).
  org_id text REFERENCES org,
  is_operator boolean NOT NULL DEFAULT false,
  payer text NOT NULL,
  refund_to text NOT NULL,
  -- Everything ever put into the lanes.
  reserved numeric(78,0) NOT NULL CHECK (reserved >= 0),
  free numeric(78,0) NOT NULL DEFAULT 0 CHECK (free >= 0),
  -- Gross of all vouchers ever written on the reserved lane: what is left may still be promised.
  spent numeric(78,0) NOT NULL DEFAULT 0 CHECK (spent >= 0),
  -- gone: its opening was removed by a reorganisation.
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closing', 'refunded', 'gone')),
  -- Last epoch in which work may be charged to it.
  close_epoch bigint,
  opened_block bigint NOT NULL,
  PRIMARY KEY (book, order_index),
  CHECK (spent <= reserved OR state = 'gone')
);
CREATE INDEX chain_order_by_org ON chain_order (org_id) WHERE state IN ('open', 'closing');

-- The signed acceptance of one lease, which is also the delegate voucher: {book, epoch, payee, order, cumulative, total}, net of fee.
CREATE TABLE voucher (
  task_id uuid PRIMARY KEY REFERENCES receipt,
  node_id text NOT NULL REFERENCES node,
  book text NOT NULL,
  book_epoch bigint NOT NULL,
  payee text NOT NULL CHECK (payee ~ '^0x[0-9a-f]{40}$'),
  order_index integer NOT NULL,
  -- Net of fee, over this order in this epoch, after this acceptance.
  cumulative numeric(78,0) NOT NULL CHECK (cumulative >= 0),
  -- Net of fee, over all orders in this epoch, after this acceptance.
  total numeric(78,0) NOT NULL CHECK (total >= cumulative),
  -- Gross, for the debit of the order.
  gross numeric(78,0) NOT NULL CHECK (gross >= 0),
  net numeric(78,0) NOT NULL CHECK (net >= 0 AND net <= gross),
  -- sha256 of the receipt's canonical JSON, as signed.
  receipt_hash bytea CHECK (length(receipt_hash) = 32),
  signature bytea CHECK (length(signature) = 65),
  -- The node said that it has stored it.
  delivered_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CHECK ((signature IS NULL) = (receipt_hash IS NULL)),
  FOREIGN KEY (book, order_index) REFERENCES chain_order
);
-- Two vouchers of one total would be one payment for two leases.
CREATE UNIQUE INDEX voucher_total ON voucher (book, book_epoch, payee, total) WHERE net > 0;
-- The last cumulative of a pair, and what an epoch owes.
CREATE INDEX voucher_by_epoch ON voucher (book, book_epoch, order_index, payee, cumulative);
CREATE INDEX voucher_undelivered ON voucher (node_id, total) WHERE delivered_at IS NULL;

-- Work is accepted into the one open epoch of a book; a closed one is posted, and final after the book's window.
CREATE TABLE chain_epoch (
  book text NOT NULL REFERENCES chain_book,
  epoch bigint NOT NULL CHECK (epoch >= 0),
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed', 'posted', 'final')),
  -- Fixed when it closes. {order index: gross}, {payee address: net}; decimal strings.
  debits jsonb,
  credits jsonb,
  fee numeric(78,0) NOT NULL DEFAULT 0 CHECK (fee >= 0),
  opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  closed_at timestamptz,
  PRIMARY KEY (book, epoch),
  CHECK ((state = 'open') = (debits IS NULL) AND (debits IS NULL) = (credits IS NULL))
);
CREATE UNIQUE INDEX chain_epoch_one_open ON chain_epoch (book) WHERE state = 'open';

-- Whom we pay. A posting names indices, which the chain gives out; a voucher names the address and needs no index yet.
CREATE TABLE chain_payee (
  book text NOT NULL REFERENCES chain_book,
  payee text NOT NULL CHECK (payee ~ '^0x[0-9a-f]{40}$'),
  payee_index integer CHECK (payee_index >= 0),
  -- Sum of the net of its vouchers in that epoch: the next voucher's total continues here, one at a time.
  book_epoch bigint NOT NULL DEFAULT 0,
  total numeric(78,0) NOT NULL DEFAULT 0 CHECK (total >= 0),
  PRIMARY KEY (book, payee)
);
CREATE UNIQUE INDEX chain_payee_index ON chain_payee (book, payee_index) WHERE payee_index IS NOT NULL;

-- Signed, then saved, then sent. One row per signed transaction; of all rows of a nonce, at most one is not `replaced`.
CREATE TABLE chain_transaction (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sender text NOT NULL,
  nonce bigint NOT NULL CHECK (nonce >= 0),
  purpose text NOT NULL,
  ref text NOT NULL,
  raw bytea NOT NULL,
  hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
  -- failed: mined and reverted, so that it may be tried again under another nonce.
  state text NOT NULL DEFAULT 'saved' CHECK (state IN ('saved', 'sent', 'confirmed', 'failed', 'replaced')),
  gas_used bigint,
  block_number bigint,
  block_hash bytea,
  sent_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  confirmed_at timestamptz,
  CHECK (state NOT IN ('confirmed', 'failed') OR (block_number IS NOT NULL AND block_hash IS NOT NULL AND gas_used IS NOT NULL))
);
CREATE UNIQUE INDEX chain_transaction_nonce ON chain_transaction (sender, nonce) WHERE state <> 'replaced';
CREATE UNIQUE INDEX chain_transaction_purpose ON chain_transaction (purpose, ref) WHERE state NOT IN ('replaced', 'failed');
CREATE INDEX chain_transaction_open ON chain_transaction (sender, nonce) WHERE state IN ('saved', 'sent');

-- How far we have read, and which chain it was: a stored hash that is no longer the chain's marks a reorganisation.
CREATE TABLE chain_block (
  number bigint PRIMARY KEY,
  hash bytea NOT NULL CHECK (length(hash) = 32)
);

CREATE TABLE chain_event (
  block_hash bytea NOT NULL,
  log_index integer NOT NULL,
  block_number bigint NOT NULL,
  name text NOT NULL,
  args jsonb NOT NULL,
  -- Removed by a reorganisation and undone in the ledger. Counts how often it was applied: a block may come back.
  removed boolean NOT NULL DEFAULT false,
  applied integer NOT NULL DEFAULT 1 CHECK (applied >= 1),
  -- What it posted, for the way back: [{kind, ref, postings}].
  entries jsonb NOT NULL DEFAULT '[]',
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (block_hash, log_index)
);
CREATE INDEX chain_event_by_block ON chain_event (block_number, log_index) WHERE NOT removed;

-- A removed deposit that was already spent: the operator stands in, and the next money for that account pays it back first.
CREATE TABLE chain_shortage (
  kind text NOT NULL,
  owner text NOT NULL,
  amount numeric(78,0) NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (kind, owner)
);
