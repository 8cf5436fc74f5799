-- The market's truth. State moves by compare-and-set on (id, epoch, state); amounts are the asset's smallest unit.

CREATE TABLE org (
  id text PRIMARY KEY CHECK (id ~ '^org_[0-9a-z]{4,36}$'),
  name text NOT NULL,
  -- self-custody: the org's own wallet opened the order. operator-credits: the operator is the payer and trusted for this balance.
  trust text NOT NULL DEFAULT 'operator-credits' CHECK (trust IN ('self-custody', 'operator-credits')),
  wallet text CHECK (wallet ~ '^0x[0-9a-f]{40}$'),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE api_key (
  id text PRIMARY KEY,
  org_id text NOT NULL REFERENCES org,
  hash bytea NOT NULL UNIQUE,
  hint text NOT NULL,
  scopes text[] NOT NULL DEFAULT '{all}',
  daily_cap numeric(78,0) CHECK (daily_cap >= 0),
  revoked_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Pools: schema from the first migration, behaviour later.
CREATE TABLE pool (
  id text PRIMARY KEY,
  name text NOT NULL UNIQUE,
  half_life_hours integer NOT NULL DEFAULT 168 CHECK (half_life_hours > 0),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE pool_member (
  pool_id text NOT NULL REFERENCES pool,
  org_id text NOT NULL REFERENCES org,
  shares integer NOT NULL DEFAULT 1 CHECK (shares > 0),
  role text NOT NULL DEFAULT 'member' CHECK (role IN ('member', 'owner')),
  PRIMARY KEY (pool_id, org_id)
);

CREATE TABLE node (
  -- libp2p PeerId; the address is derived from the same secp256k1 key.
  id text PRIMARY KEY,
  address text NOT NULL UNIQUE CHECK (address ~ '^0x[0-9a-f]{40}$'),
  payout text NOT NULL CHECK (payout ~ '^0x[0-9a-f]{40}$'),
  offer jsonb NOT NULL,
  -- EIP-712 over the hash of the offer's canonical JSON, by the node's key.
  offer_signature text,
  offer_seq bigint NOT NULL,
  offer_expires_at timestamptz NOT NULL,
  pool_id text REFERENCES pool,
  -- Rows accepted and rows audited over all time; the first rows of a node are all audited.
  rows_accepted bigint NOT NULL DEFAULT 0 CHECK (rows_accepted >= 0),
  rows_audited bigint NOT NULL DEFAULT 0 CHECK (rows_audited >= 0),
  rows_bad bigint NOT NULL DEFAULT 0 CHECK (rows_bad >= 0),
  leases_lost bigint NOT NULL DEFAULT 0 CHECK (leases_lost >= 0),
  -- Measured: rows per second by model digest, moving average.
  speed jsonb NOT NULL DEFAULT '{}',
  -- No work before this instant, with the reason shown by explain.
  benched_until timestamptz,
  benched_why text,
  last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE pool_node (
  pool_id text NOT NULL REFERENCES pool,
  node_id text NOT NULL REFERENCES node,
  guarantee_percent integer NOT NULL DEFAULT 100 CHECK (guarantee_percent BETWEEN 0 AND 100),
  sell_idle boolean NOT NULL DEFAULT true,
  PRIMARY KEY (pool_id, node_id)
);

CREATE TABLE file (
  id text PRIMARY KEY CHECK (id ~ '^file-[0-9a-z]{8,36}$'),
  org_id text NOT NULL REFERENCES org,
  purpose text NOT NULL CHECK (purpose IN ('batch', 'batch_output', 'fine-tune', 'fine-tune-results', 'assistants', 'vision', 'user_data', 'evals')),
  filename text NOT NULL,
  bytes bigint NOT NULL CHECK (bytes >= 0),
  sha256 bytea NOT NULL CHECK (length(sha256) = 32),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz,
  deleted_at timestamptz
);
CREATE INDEX file_by_org ON file (org_id, created_at DESC, id) WHERE deleted_at IS NULL;
CREATE INDEX file_expiring ON file (expires_at) WHERE deleted_at IS NULL AND expires_at IS NOT NULL;

CREATE TABLE job (
  id text PRIMARY KEY CHECK (length(id) <= 40),
  org_id text NOT NULL REFERENCES org,
  -- The key that asked for it: its daily cap counts it.
  api_key_id text REFERENCES api_key,
  kind text NOT NULL CHECK (kind IN ('batch', 'chat', 'embedding', 'fine-tune')),
  state text NOT NULL CHECK (state IN ('validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled')),
  endpoint text NOT NULL,
  -- Null until validation has read the first row of a batch.
  model text,
  input_file_id text REFERENCES file,
  output_file_id text REFERENCES file,
  error_file_id text REFERENCES file,
  completion_window text NOT NULL DEFAULT '24h',
  metadata jsonb NOT NULL DEFAULT '{}',
  verify text NOT NULL DEFAULT 'spot' CHECK (verify IN ('off', 'spot', 'quorum', 'strict')),
  region text,
  pool_id text REFERENCES pool,
  asset text NOT NULL DEFAULT 'money',
  trust text NOT NULL DEFAULT 'operator-credits' CHECK (trust IN ('self-custody', 'operator-credits')),
  -- What the requester allowed at most; equals the hold. Null until the price is known (a batch still validating).
  cap numeric(78,0) CHECK (cap >= 0),
  charged numeric(78,0) NOT NULL DEFAULT 0 CHECK (charged >= 0 AND charged <= coalesce(cap, 0)),
  -- Highest rates this job admits, by unit kind (decimal strings).
  rate_caps jsonb NOT NULL DEFAULT '{}',
  row_count integer NOT NULL DEFAULT 0 CHECK (row_count >= 0),
  -- Rows below this were cut into tasks.
  next_row integer NOT NULL DEFAULT 0 CHECK (next_row >= 0 AND next_row <= row_count),
  rows_succeeded integer NOT NULL DEFAULT 0,
  rows_failed integer NOT NULL DEFAULT 0,
  -- Rows that ended without an answer: expired or cancelled.
  rows_ended integer NOT NULL DEFAULT 0,
  errors jsonb,
  deadline timestamptz NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  in_progress_at timestamptz,
  finalizing_at timestamptz,
  completed_at timestamptz,
  failed_at timestamptz,
  expired_at timestamptz,
  cancelling_at timestamptz,
  cancelled_at timestamptz,
  CHECK (rows_succeeded + rows_failed + rows_ended <= row_count)
);
CREATE INDEX job_by_org ON job (org_id, kind, created_at DESC, id);
CREATE INDEX job_by_key ON job (api_key_id, created_at) WHERE api_key_id IS NOT NULL;
CREATE INDEX job_by_input ON job (input_file_id) WHERE input_file_id IS NOT NULL;
CREATE INDEX job_open ON job (deadline) WHERE state IN ('validating', 'in_progress', 'finalizing', 'cancelling');

-- One line of a batch (or the one row of a streamed job), named by custom_id. The payload lies in the object store.
CREATE TABLE job_row (
  job_id text NOT NULL REFERENCES job,
  row_no integer NOT NULL CHECK (row_no >= 0),
  custom_id text NOT NULL CHECK (length(custom_id) BETWEEN 1 AND 512),
  input_offset bigint NOT NULL CHECK (input_offset >= 0),
  input_length integer NOT NULL CHECK (input_length >= 0),
  state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'succeeded', 'failed', 'expired', 'cancelled')),
  -- The winning lease, once terminal by an accepted task.
  task_id uuid,
  epoch integer,
  result_offset bigint,
  result_length integer,
  error_code text,
  error_message text,
  PRIMARY KEY (job_id, row_no),
  UNIQUE (job_id, custom_id)
) WITH (fillfactor = 80); -- Each row is updated once, at its end: room on its page keeps the indexes out of it.

CREATE TABLE task (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  job_id text NOT NULL REFERENCES job,
  org_id text NOT NULL REFERENCES org,
  row_from integer NOT NULL CHECK (row_from >= 0),
  row_to integer NOT NULL,
  state text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'leased', 'running', 'delivered', 'accepted', 'failed', 'cancelled', 'expired')),
  epoch integer NOT NULL DEFAULT 1 CHECK (epoch >= 1),
  attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  pool_id text REFERENCES pool,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at timestamptz,
  why text,
  -- Who had it last: the placement prefers another.
  last_node text REFERENCES node,
  CHECK (row_to > row_from)
);
CREATE INDEX task_queued ON task (job_id, row_from) WHERE state = 'queued';
CREATE INDEX task_by_job ON task (job_id, row_from);
-- Poison: came back too often.
CREATE INDEX task_worn ON task (attempts) WHERE state = 'queued' AND attempts > 0;

-- One attempt: task x node x epoch.
CREATE TABLE lease (
  task_id uuid NOT NULL REFERENCES task,
  epoch integer NOT NULL,
  node_id text NOT NULL REFERENCES node,
  job_id text NOT NULL REFERENCES job,
  nonce bytea NOT NULL CHECK (length(nonce) = 16),
  model text NOT NULL,
  model_digest text NOT NULL,
  engine_class text NOT NULL,
  rates jsonb NOT NULL,
  road text NOT NULL CHECK (road IN ('batch', 'stream')),
  granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  lease_until timestamptz NOT NULL,
  started_at timestamptz,
  -- The last checkpoint whose signature and root were checked, with its rows durable in the segment file.
  checkpoint_rows integer NOT NULL DEFAULT 0 CHECK (checkpoint_rows >= 0),
  checkpoint_root bytea,
  checkpoint_signature bytea,
  committed_at timestamptz,
  -- The countersignature names the chain height; the draw uses block height + 1.
  draw_height bigint,
  draw_seed bytea,
  draw_rows integer[],
  ended_at timestamptz,
  outcome text CHECK (outcome IN ('accepted', 'rejected', 'refused', 'yielded', 'lost', 'cancelled', 'expired')),
  why text,
  PRIMARY KEY (task_id, epoch)
);
CREATE INDEX lease_alive ON lease (lease_until) WHERE ended_at IS NULL AND committed_at IS NULL;
CREATE INDEX lease_by_node ON lease (node_id) WHERE ended_at IS NULL;
CREATE INDEX lease_by_job ON lease (job_id);

-- A row as delivered under one lease: written with its checkpoint, read at acceptance. Bytes lie in the lease's segment.
CREATE TABLE delivered_row (
  task_id uuid NOT NULL,
  epoch integer NOT NULL,
  row_no integer NOT NULL,
  segment_offset bigint NOT NULL,
  segment_length integer NOT NULL,
  leaf_hash bytea NOT NULL CHECK (length(leaf_hash) = 32),
  succeeded boolean NOT NULL,
  usage jsonb NOT NULL,
  PRIMARY KEY (task_id, epoch, row_no),
  FOREIGN KEY (task_id, epoch) REFERENCES lease
);

CREATE TABLE audit (
  task_id uuid NOT NULL,
  epoch integer NOT NULL,
  row_no integer NOT NULL,
  auditor text NOT NULL,
  -- node: another operator's machine. coordinator: the coordinator's own engine.
  auditor_kind text NOT NULL CHECK (auditor_kind IN ('node', 'coordinator')),
  verdict text NOT NULL CHECK (verdict IN ('good', 'bad', 'unsure')),
  score jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (task_id, epoch, row_no, auditor),
  FOREIGN KEY (task_id, epoch) REFERENCES lease
);

-- One per accepted lease, and at most one per task for ever: the unique primary key is what "billed once" rests on.
CREATE TABLE receipt (
  task_id uuid PRIMARY KEY,
  epoch integer NOT NULL,
  job_id text NOT NULL REFERENCES job,
  org_id text NOT NULL REFERENCES org,
  node_id text NOT NULL REFERENCES node,
  payout text NOT NULL,
  root bytea NOT NULL,
  rows integer NOT NULL CHECK (rows > 0),
  rows_succeeded integer NOT NULL,
  audited integer NOT NULL CHECK (audited >= 0),
  draw text NOT NULL CHECK (draw IN ('none', 'coordinator', 'requester')),
  usage jsonb NOT NULL,
  rates jsonb NOT NULL,
  charge numeric(78,0) NOT NULL CHECK (charge >= 0),
  fee numeric(78,0) NOT NULL CHECK (fee >= 0 AND fee <= charge),
  -- The whole signed statement, verifiable offline.
  document jsonb NOT NULL,
  accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  FOREIGN KEY (task_id, epoch) REFERENCES lease
);
CREATE INDEX receipt_by_job ON receipt (job_id);
CREATE INDEX receipt_by_node ON receipt (node_id, accepted_at);

-- Double entry, append only. Σ of a transaction's postings is zero per asset, checked when the transaction commits.
CREATE TABLE account (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- balance: spendable by an org. hold: set aside for a job. provider: earned, not yet on chain. fees: the coordinator's.
  -- escrow: the chain's side, negative of what it holds for us. operator: the operator's own money behind credits.
  -- payout: settled to a provider on chain.
  kind text NOT NULL CHECK (kind IN ('balance', 'hold', 'provider', 'fees', 'escrow', 'operator', 'payout', 'bond', 'treasury')),
  owner text NOT NULL,
  asset text NOT NULL DEFAULT 'money',
  balance numeric(78,0) NOT NULL DEFAULT 0,
  UNIQUE (kind, owner, asset),
  CHECK (balance >= 0 OR kind IN ('escrow', 'operator'))
);
CREATE TABLE ledger_transaction (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('deposit', 'credit', 'hold', 'release', 'charge', 'payout', 'withdrawal', 'fee', 'refund', 'forfeit', 'reversal', 'audit-fee')),
  -- What it is about (a job, a task, a chain event). One transaction of a kind per subject, for ever.
  ref text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (kind, ref)
);
CREATE TABLE posting (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  transaction_id bigint NOT NULL REFERENCES ledger_transaction,
  account_id bigint NOT NULL REFERENCES account,
  asset text NOT NULL,
  amount numeric(78,0) NOT NULL CHECK (amount <> 0)
);
CREATE INDEX posting_by_transaction ON posting (transaction_id);
CREATE INDEX posting_by_account ON posting (account_id, id);

CREATE FUNCTION posting_moves_balance() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE account SET balance = balance + NEW.amount WHERE id = NEW.account_id AND asset = NEW.asset;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'posting in asset % to account % of another asset', NEW.asset, NEW.account_id;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER posting_moves_balance AFTER INSERT ON posting FOR EACH ROW EXECUTE FUNCTION posting_moves_balance();

CREATE FUNCTION ledger_is_zero_sum() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE off record;
BEGIN
  SELECT asset, sum(amount) AS total INTO off FROM posting WHERE transaction_id = NEW.transaction_id GROUP BY asset HAVING sum(amount) <> 0 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'ledger transaction % is off by % %', NEW.transaction_id, off.total, off.asset USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ledger_is_zero_sum AFTER INSERT ON posting DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION ledger_is_zero_sum();

CREATE FUNCTION refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append only', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER posting_append_only BEFORE UPDATE OR DELETE ON posting FOR EACH ROW EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER ledger_transaction_append_only BEFORE UPDATE OR DELETE ON ledger_transaction FOR EACH ROW EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER receipt_append_only BEFORE UPDATE OR DELETE ON receipt FOR EACH ROW EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER posting_never_truncated BEFORE TRUNCATE ON posting EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER ledger_transaction_never_truncated BEFORE TRUNCATE ON ledger_transaction EXECUTE FUNCTION refuse_rewrite();
CREATE TRIGGER receipt_never_truncated BEFORE TRUNCATE ON receipt EXECUTE FUNCTION refuse_rewrite();

-- Every move of a task, written by the database itself so that no code path can forget it.
CREATE TABLE task_event (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task_id uuid NOT NULL,
  job_id text NOT NULL,
  epoch integer NOT NULL,
  from_state text,
  to_state text NOT NULL,
  why text,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX task_event_by_job ON task_event (job_id, id);
CREATE FUNCTION task_logs_its_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO task_event (task_id, job_id, epoch, from_state, to_state, why) VALUES (NEW.id, NEW.job_id, NEW.epoch, NULL, NEW.state, NEW.why);
  ELSIF NEW.state <> OLD.state OR NEW.epoch <> OLD.epoch THEN
    INSERT INTO task_event (task_id, job_id, epoch, from_state, to_state, why) VALUES (NEW.id, NEW.job_id, NEW.epoch, OLD.state, NEW.state, NEW.why);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER task_logs_its_moves AFTER INSERT OR UPDATE ON task FOR EACH ROW EXECUTE FUNCTION task_logs_its_moves();

-- Work for the queue, committed with the state that caused it. done_at is set by the handler: a lost queue is refilled from the rest.
CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic text NOT NULL CHECK (topic IN ('validate', 'place', 'verify', 'finalize', 'settle', 'chain')),
  -- Ids only, never state.
  message jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  not_before timestamptz,
  -- A relay is handing it to the queue until then; after that another one may.
  claimed_until timestamptz,
  sent_at timestamptz,
  done_at timestamptz
);
CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL AND done_at IS NULL;
CREATE INDEX outbox_undone ON outbox (id) WHERE done_at IS NULL;

CREATE TABLE idempotency (
  org_id text NOT NULL REFERENCES org,
  key text NOT NULL,
  route text NOT NULL,
  body_hash bytea NOT NULL,
  -- Null while the first request is still running.
  status integer,
  response jsonb,
  subject text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (org_id, key)
);

-- The coordinator's own small facts: secret chain position, queue incarnation, last heartbeat (to measure an outage).
CREATE TABLE coordinator (
  key text PRIMARY KEY,
  value jsonb NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
