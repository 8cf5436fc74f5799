-- What the chain knows, as far as we have seen it, and what we owe it.

CREATE TABLE chain_order (
  -- The order's index in the book, as on chain.
  book bigint NOT NULL,
  order_index integer NOT NULL,
  params_hash bytea NOT NULL,
  org_id text REFERENCES org,
  payer text NOT NULL,
  refund_to text NOT NULL,
  reserved numeric(78,0) NOT NULL CHECK (reserved >= 0),
  free numeric(78,0) NOT NULL DEFAULT 0 CHECK (free >= 0),
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closing', 'refunded')),
  opened_block bigint NOT NULL,
  PRIMARY KEY (book, order_index)
);

-- The signed acceptance of one lease, which is also the delegate voucher: {book, epoch, payee, order, cumulative, total}, net of fee.
CREATE TABLE voucher (
  task_id uuid PRIMARY KEY REFERENCES receipt,
  node_id text NOT NULL REFERENCES node,
  book bigint NOT NULL,
  book_epoch bigint NOT NULL,
  payee text NOT NULL,
  payee_index integer NOT NULL,
  order_index integer NOT NULL,
  -- Net of fee, over this order in this epoch, after this acceptance.
  cumulative numeric(78,0) NOT NULL CHECK (cumulative >= 0),
  -- Net of fee, over all orders in this epoch, after this acceptance.
  total numeric(78,0) NOT NULL CHECK (total >= cumulative),
  -- Gross, for the debit of the order.
  gross numeric(78,0) NOT NULL CHECK (gross >= 0),
  net numeric(78,0) NOT NULL CHECK (net >= 0 AND net <= gross),
  signature bytea,
  delivered_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (book, book_epoch, payee_index, total)
);
-- The last cumulative of a pair, and what an epoch owes.
CREATE INDEX voucher_by_epoch ON voucher (book, book_epoch, order_index, payee_index, cumulative);
CREATE INDEX voucher_undelivered ON voucher (node_id) WHERE delivered_at IS NULL;

CREATE TABLE chain_epoch (
  book bigint NOT NULL,
  epoch bigint NOT NULL,
  state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed', 'posted', 'final')),
  debits jsonb,
  credits jsonb,
  fee numeric(78,0) NOT NULL DEFAULT 0,
  posted_tx text,
  final_tx text,
  opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (book, epoch)
);
CREATE UNIQUE INDEX chain_epoch_one_open ON chain_epoch (book) WHERE state = 'open';

-- Signed, then saved, then sent. The nonce is unique per sender: a replacement updates the row.
CREATE TABLE chain_transaction (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  sender text NOT NULL,
  nonce bigint NOT NULL,
  purpose text NOT NULL,
  ref text NOT NULL,
  raw bytea NOT NULL,
  hash bytea NOT NULL UNIQUE,
  state text NOT NULL DEFAULT 'saved' CHECK (state IN ('saved', 'sent', 'confirmed', 'failed', 'replaced')),
  gas_used bigint,
  block_number bigint,
  block_hash bytea,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  confirmed_at timestamptz
);
CREATE UNIQUE INDEX chain_transaction_nonce ON chain_transaction (sender, nonce) WHERE state <> 'replaced';
CREATE UNIQUE INDEX chain_transaction_purpose ON chain_transaction (purpose, ref) WHERE state <> 'replaced' AND state <> 'failed';

CREATE TABLE chain_event (
  block_hash bytea NOT NULL,
  log_index integer NOT NULL,
  block_number bigint NOT NULL,
  contract text NOT NULL,
  name text NOT NULL,
  args jsonb NOT NULL,
  removed boolean NOT NULL DEFAULT false,
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (block_hash, log_index)
);
CREATE INDEX chain_event_by_block ON chain_event (block_number, log_index);

-- Stable indices of payees in the book: a posting names indices, not addresses.
CREATE TABLE chain_payee (
  book bigint NOT NULL,
  payee_index integer NOT NULL,
  payout text NOT NULL CHECK (payout ~ '^0x[0-9a-f]{40}$'),
  registered_at timestamptz,
  PRIMARY KEY (book, payee_index),
  UNIQUE (book, payout)
);
