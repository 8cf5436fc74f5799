-- The sum of migrations/, read back from the catalogue. Generated: node scripts/schema.mjs

-- tables

CREATE TABLE account (
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  kind text NOT NULL,
  owner text NOT NULL,
  asset text NOT NULL DEFAULT 'money'::text,
  balance numeric(78,0) NOT NULL DEFAULT 0,
  CONSTRAINT account_check CHECK (((balance >= (0)::numeric) OR (kind = ANY (ARRAY['escrow'::text, 'operator'::text])))),
  CONSTRAINT account_kind_check CHECK ((kind = ANY (ARRAY['balance'::text, 'hold'::text, 'provider'::text, 'fees'::text, 'escrow'::text, 'operator'::text, 'payout'::text, 'bond'::text]))),
  CONSTRAINT account_kind_owner_asset_key UNIQUE (kind, owner, asset),
  CONSTRAINT account_pkey PRIMARY KEY (id)
);

CREATE TABLE api_key (
  id text NOT NULL,
  org_id text NOT NULL,
  hash bytea NOT NULL,
  hint text NOT NULL,
  scopes text[] NOT NULL DEFAULT '{all}'::text[],
  daily_cap numeric(78,0),
  revoked_at timestamp with time zone,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT api_key_daily_cap_check CHECK ((daily_cap >= (0)::numeric)),
  CONSTRAINT api_key_hash_key UNIQUE (hash),
  CONSTRAINT api_key_org_id_fkey FOREIGN KEY (org_id) REFERENCES org(id),
  CONSTRAINT api_key_pkey PRIMARY KEY (id)
);

CREATE TABLE audit (
  task_id uuid NOT NULL,
  epoch integer NOT NULL,
  row_no integer NOT NULL,
  auditor text NOT NULL,
  auditor_kind text NOT NULL,
  verdict text NOT NULL,
  score jsonb NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  same_class boolean NOT NULL DEFAULT true,
  CONSTRAINT audit_auditor_kind_check CHECK ((auditor_kind = ANY (ARRAY['node'::text, 'coordinator'::text]))),
  CONSTRAINT audit_pkey PRIMARY KEY (task_id, epoch, row_no, auditor),
  CONSTRAINT audit_task_id_epoch_fkey FOREIGN KEY (task_id, epoch) REFERENCES lease(task_id, epoch),
  CONSTRAINT audit_verdict_check CHECK ((verdict = ANY (ARRAY['good'::text, 'bad'::text, 'unsure'::text])))
);

CREATE TABLE audit_receipt (
  id uuid NOT NULL,
  task_id uuid NOT NULL,
  epoch integer NOT NULL,
  node_id text NOT NULL,
  payout text NOT NULL,
  rows integer NOT NULL,
  amount numeric(78,0) NOT NULL,
  document jsonb NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  paid_by uuid,
  CONSTRAINT audit_receipt_amount_check CHECK ((amount > (0)::numeric)),
  CONSTRAINT audit_receipt_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(id),
  CONSTRAINT audit_receipt_paid_by_fkey FOREIGN KEY (paid_by) REFERENCES receipt(task_id),
  CONSTRAINT audit_receipt_payout_check CHECK ((payout ~ '^0x[0-9a-f]{40}$'::text)),
  CONSTRAINT audit_receipt_pkey PRIMARY KEY (id),
  CONSTRAINT audit_receipt_rows_check CHECK ((rows > 0)),
  CONSTRAINT audit_receipt_task_id_epoch_fkey FOREIGN KEY (task_id, epoch) REFERENCES lease(task_id, epoch),
  CONSTRAINT audit_receipt_task_id_epoch_node_id_key UNIQUE (task_id, epoch, node_id)
);

CREATE TABLE blob_use (
  sha256 text NOT NULL,
  job_id text NOT NULL,
  CONSTRAINT blob_use_job_id_fkey FOREIGN KEY (job_id) REFERENCES job(id),
  CONSTRAINT blob_use_pkey PRIMARY KEY (sha256, job_id),
  CONSTRAINT blob_use_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text))
);

CREATE TABLE chain_block (
  number bigint NOT NULL,
  hash bytea NOT NULL,
  CONSTRAINT chain_block_hash_check CHECK ((length(hash) = 32)),
  CONSTRAINT chain_block_pkey PRIMARY KEY (number)
);

CREATE TABLE chain_book (
  book text NOT NULL,
  escrow text NOT NULL,
  delegate text NOT NULL,
  fee_bps integer NOT NULL,
  starts_at bigint NOT NULL,
  epoch_seconds integer NOT NULL,
  window_seconds integer NOT NULL,
  grace_seconds integer NOT NULL,
  state text NOT NULL DEFAULT 'alive'::text,
  opened_block bigint NOT NULL,
  CONSTRAINT chain_book_book_check CHECK ((book ~ '^0x[0-9a-f]{64}$'::text)),
  CONSTRAINT chain_book_escrow_check CHECK ((escrow ~ '^0x[0-9a-f]{40}$'::text)),
  CONSTRAINT chain_book_pkey PRIMARY KEY (book),
  CONSTRAINT chain_book_state_check CHECK ((state = ANY (ARRAY['alive'::text, 'dead'::text])))
);

CREATE TABLE chain_epoch (
  book text NOT NULL,
  epoch bigint NOT NULL,
  state text NOT NULL DEFAULT 'open'::text,
  debits jsonb,
  credits jsonb,
  fee numeric(78,0) NOT NULL DEFAULT 0,
  opened_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  closed_at timestamp with time zone,
  CONSTRAINT chain_epoch_book_fkey FOREIGN KEY (book) REFERENCES chain_book(book),
  CONSTRAINT chain_epoch_check CHECK ((((state = 'open'::text) = (debits IS NULL)) AND ((debits IS NULL) = (credits IS NULL)))),
  CONSTRAINT chain_epoch_epoch_check CHECK ((epoch >= 0)),
  CONSTRAINT chain_epoch_fee_check CHECK ((fee >= (0)::numeric)),
  CONSTRAINT chain_epoch_pkey PRIMARY KEY (book, epoch),
  CONSTRAINT chain_epoch_state_check CHECK ((state = ANY (ARRAY['open'::text, 'closed'::text, 'posted'::text, 'final'::text])))
);

CREATE TABLE chain_event (
  block_hash bytea NOT NULL,
  log_index integer NOT NULL,
  block_number bigint NOT NULL,
  name text NOT NULL,
  args jsonb NOT NULL,
  removed boolean NOT NULL DEFAULT false,
  applied integer NOT NULL DEFAULT 1,
  entries jsonb NOT NULL DEFAULT '[]'::jsonb,
  seen_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT chain_event_applied_check CHECK ((applied >= 1)),
  CONSTRAINT chain_event_pkey PRIMARY KEY (block_hash, log_index)
);

CREATE TABLE chain_order (
  book text NOT NULL,
  order_index integer NOT NULL,
  params bytea NOT NULL,
  org_id text,
  is_operator boolean NOT NULL DEFAULT false,
  payer text NOT NULL,
  refund_to text NOT NULL,
  reserved numeric(78,0) NOT NULL,
  free numeric(78,0) NOT NULL DEFAULT 0,
  spent numeric(78,0) NOT NULL DEFAULT 0,
  state text NOT NULL DEFAULT 'open'::text,
  close_epoch bigint,
  opened_block bigint NOT NULL,
  CONSTRAINT chain_order_book_fkey FOREIGN KEY (book) REFERENCES chain_book(book),
  CONSTRAINT chain_order_check CHECK (((spent <= reserved) OR (state = 'gone'::text))),
  CONSTRAINT chain_order_free_check CHECK ((free >= (0)::numeric)),
  CONSTRAINT chain_order_org_id_fkey FOREIGN KEY (org_id) REFERENCES org(id),
  CONSTRAINT chain_order_params_check CHECK ((length(params) = 8)),
  CONSTRAINT chain_order_pkey PRIMARY KEY (book, order_index),
  CONSTRAINT chain_order_reserved_check CHECK ((reserved >= (0)::numeric)),
  CONSTRAINT chain_order_spent_check CHECK ((spent >= (0)::numeric)),
  CONSTRAINT chain_order_state_check CHECK ((state = ANY (ARRAY['open'::text, 'closing'::text, 'refunded'::text, 'gone'::text])))
);

CREATE TABLE chain_payee (
  book text NOT NULL,
  payee text NOT NULL,
  payee_index integer,
  book_epoch bigint NOT NULL DEFAULT 0,
  total numeric(78,0) NOT NULL DEFAULT 0,
  CONSTRAINT chain_payee_book_fkey FOREIGN KEY (book) REFERENCES chain_book(book),
  CONSTRAINT chain_payee_payee_check CHECK ((payee ~ '^0x[0-9a-f]{40}$'::text)),
  CONSTRAINT chain_payee_payee_index_check CHECK ((payee_index >= 0)),
  CONSTRAINT chain_payee_pkey PRIMARY KEY (book, payee),
  CONSTRAINT chain_payee_total_check CHECK ((total >= (0)::numeric))
);

CREATE TABLE chain_shortage (
  kind text NOT NULL,
  owner text NOT NULL,
  amount numeric(78,0) NOT NULL,
  CONSTRAINT chain_shortage_amount_check CHECK ((amount >= (0)::numeric)),
  CONSTRAINT chain_shortage_pkey PRIMARY KEY (kind, owner)
);

CREATE TABLE chain_transaction (
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  sender text NOT NULL,
  nonce bigint NOT NULL,
  purpose text NOT NULL,
  ref text NOT NULL,
  raw bytea NOT NULL,
  hash bytea NOT NULL,
  state text NOT NULL DEFAULT 'saved'::text,
  gas_used bigint,
  block_number bigint,
  block_hash bytea,
  sent_at timestamp with time zone,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  confirmed_at timestamp with time zone,
  CONSTRAINT chain_transaction_check CHECK (((state <> ALL (ARRAY['confirmed'::text, 'failed'::text])) OR ((block_number IS NOT NULL) AND (block_hash IS NOT NULL) AND (gas_used IS NOT NULL)))),
  CONSTRAINT chain_transaction_hash_check CHECK ((length(hash) = 32)),
  CONSTRAINT chain_transaction_hash_key UNIQUE (hash),
  CONSTRAINT chain_transaction_nonce_check CHECK ((nonce >= 0)),
  CONSTRAINT chain_transaction_pkey PRIMARY KEY (id),
  CONSTRAINT chain_transaction_state_check CHECK ((state = ANY (ARRAY['saved'::text, 'sent'::text, 'confirmed'::text, 'failed'::text, 'replaced'::text])))
);

CREATE TABLE coordinator (
  key text NOT NULL,
  value jsonb NOT NULL,
  updated_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT coordinator_pkey PRIMARY KEY (key)
);

CREATE TABLE delivered_row (
  task_id uuid NOT NULL,
  epoch integer NOT NULL,
  row_no integer NOT NULL,
  segment_offset bigint NOT NULL,
  segment_length integer NOT NULL,
  leaf_hash bytea NOT NULL,
  succeeded boolean NOT NULL,
  usage jsonb NOT NULL,
  CONSTRAINT delivered_row_leaf_hash_check CHECK ((length(leaf_hash) = 32)),
  CONSTRAINT delivered_row_pkey PRIMARY KEY (task_id, epoch, row_no),
  CONSTRAINT delivered_row_task_id_epoch_fkey FOREIGN KEY (task_id, epoch) REFERENCES lease(task_id, epoch)
);

CREATE TABLE file (
  id text NOT NULL,
  org_id text NOT NULL,
  purpose text NOT NULL,
  filename text NOT NULL,
  bytes bigint NOT NULL,
  sha256 bytea NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamp with time zone,
  deleted_at timestamp with time zone,
  CONSTRAINT file_bytes_check CHECK ((bytes >= 0)),
  CONSTRAINT file_id_check CHECK ((id ~ '^file-[0-9a-z]{8,36}$'::text)),
  CONSTRAINT file_org_id_fkey FOREIGN KEY (org_id) REFERENCES org(id),
  CONSTRAINT file_pkey PRIMARY KEY (id),
  CONSTRAINT file_purpose_check CHECK ((purpose = ANY (ARRAY['batch'::text, 'batch_output'::text, 'fine-tune'::text, 'fine-tune-results'::text, 'assistants'::text, 'vision'::text, 'user_data'::text, 'evals'::text]))),
  CONSTRAINT file_sha256_check CHECK ((length(sha256) = 32))
);

CREATE TABLE fine_tune (
  job_id text NOT NULL,
  base text NOT NULL,
  suffix text,
  seed bigint NOT NULL,
  validation_file_id text,
  evaluation_file_id text,
  evaluation_min double precision,
  asked jsonb NOT NULL,
  planned jsonb,
  evaluated jsonb,
  result_file_ids text[] NOT NULL DEFAULT '{}'::text[],
  CONSTRAINT fine_tune_check CHECK (((evaluation_file_id IS NULL) = (evaluation_min IS NULL))),
  CONSTRAINT fine_tune_evaluation_file_id_fkey FOREIGN KEY (evaluation_file_id) REFERENCES file(id),
  CONSTRAINT fine_tune_evaluation_min_check CHECK (((evaluation_min >= (0)::double precision) AND (evaluation_min <= (1)::double precision))),
  CONSTRAINT fine_tune_job_id_fkey FOREIGN KEY (job_id) REFERENCES job(id),
  CONSTRAINT fine_tune_pkey PRIMARY KEY (job_id),
  CONSTRAINT fine_tune_seed_check CHECK (((seed >= 0) AND (seed <= '4294967295'::bigint))),
  CONSTRAINT fine_tune_suffix_check CHECK (((length(suffix) >= 1) AND (length(suffix) <= 64))),
  CONSTRAINT fine_tune_validation_file_id_fkey FOREIGN KEY (validation_file_id) REFERENCES file(id)
);

CREATE TABLE fine_tune_event (
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  job_id text NOT NULL,
  key text NOT NULL,
  level text NOT NULL,
  type text NOT NULL,
  message text NOT NULL,
  data jsonb,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT fine_tune_event_job_id_fkey FOREIGN KEY (job_id) REFERENCES fine_tune(job_id),
  CONSTRAINT fine_tune_event_job_id_key_key UNIQUE (job_id, key),
  CONSTRAINT fine_tune_event_key_check CHECK ((length(key) <= 128)),
  CONSTRAINT fine_tune_event_level_check CHECK ((level = ANY (ARRAY['info'::text, 'warn'::text, 'error'::text]))),
  CONSTRAINT fine_tune_event_pkey PRIMARY KEY (id),
  CONSTRAINT fine_tune_event_type_check CHECK ((type = ANY (ARRAY['message'::text, 'metrics'::text])))
);

CREATE TABLE fine_tuned_model (
  name text NOT NULL,
  org_id text NOT NULL,
  job_id text NOT NULL,
  base text NOT NULL,
  adapter text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  deleted_at timestamp with time zone,
  CONSTRAINT fine_tuned_model_adapter_check CHECK ((adapter ~ '^[0-9a-f]{64}$'::text)),
  CONSTRAINT fine_tuned_model_job_id_fkey FOREIGN KEY (job_id) REFERENCES fine_tune(job_id),
  CONSTRAINT fine_tuned_model_job_id_key UNIQUE (job_id),
  CONSTRAINT fine_tuned_model_name_check CHECK ((name ~ '^ft:[A-Za-z0-9./:_-]{1,200}$'::text)),
  CONSTRAINT fine_tuned_model_org_id_fkey FOREIGN KEY (org_id) REFERENCES org(id),
  CONSTRAINT fine_tuned_model_pkey PRIMARY KEY (name)
);

CREATE TABLE idempotency (
  org_id text NOT NULL,
  key text NOT NULL,
  route text NOT NULL,
  body_hash bytea NOT NULL,
  status integer,
  response jsonb,
  subject text,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT idempotency_org_id_fkey FOREIGN KEY (org_id) REFERENCES org(id),
  CONSTRAINT idempotency_pkey PRIMARY KEY (org_id, key)
);

CREATE TABLE job (
  id text NOT NULL,
  org_id text NOT NULL,
  api_key_id text,
  kind text NOT NULL,
  state text NOT NULL,
  endpoint text NOT NULL,
  model text,
  input_file_id text,
  output_file_id text,
  error_file_id text,
  completion_window text NOT NULL DEFAULT '24h'::text,
  metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
  verify text NOT NULL DEFAULT 'spot'::text,
  region text,
  pool_id text,
  asset text NOT NULL DEFAULT 'money'::text,
  trust text NOT NULL DEFAULT 'operator-credits'::text,
  cap numeric(78,0),
  charged numeric(78,0) NOT NULL DEFAULT 0,
  rate_caps jsonb NOT NULL DEFAULT '{}'::jsonb,
  row_count integer NOT NULL DEFAULT 0,
  next_row integer NOT NULL DEFAULT 0,
  rows_succeeded integer NOT NULL DEFAULT 0,
  rows_failed integer NOT NULL DEFAULT 0,
  rows_ended integer NOT NULL DEFAULT 0,
  errors jsonb,
  deadline timestamp with time zone NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  in_progress_at timestamp with time zone,
  finalizing_at timestamp with time zone,
  completed_at timestamp with time zone,
  failed_at timestamp with time zone,
  expired_at timestamp with time zone,
  cancelling_at timestamp with time zone,
  cancelled_at timestamp with time zone,
  paused_at timestamp with time zone,
  adapter text,
  tuned_model text,
  priority smallint NOT NULL DEFAULT 0,
  expected_s double precision,
  counted numeric(78,0),
  prompt_blocks text[] NOT NULL DEFAULT '{}'::text[],
  gang smallint GENERATED ALWAYS AS (
CASE
    WHEN ((kind = 'batch'::text) AND ((metadata ->> 'nodes'::text) ~ '^([2-9]|[1-5][0-9]|6[0-4])$'::text)) THEN ((metadata ->> 'nodes'::text))::smallint
    ELSE NULL::smallint
END) STORED,
  worst jsonb,
  CONSTRAINT job_adapter_check CHECK ((adapter ~ '^[0-9a-f]{64}$'::text)),
  CONSTRAINT job_api_key_id_fkey FOREIGN KEY (api_key_id) REFERENCES api_key(id),
  CONSTRAINT job_cap_check CHECK ((cap >= (0)::numeric)),
  CONSTRAINT job_check CHECK (((charged >= (0)::numeric) AND (charged <= COALESCE(cap, (0)::numeric)))),
  CONSTRAINT job_check1 CHECK (((next_row >= 0) AND (next_row <= row_count))),
  CONSTRAINT job_check2 CHECK ((((rows_succeeded + rows_failed) + rows_ended) <= row_count)),
  CONSTRAINT job_check3 CHECK (((tuned_model IS NULL) OR (adapter IS NOT NULL))),
  CONSTRAINT job_counted_check CHECK ((counted >= (0)::numeric)),
  CONSTRAINT job_error_file_id_fkey FOREIGN KEY (error_file_id) REFERENCES file(id),
  CONSTRAINT job_expected_s_check CHECK ((expected_s > (0)::double precision)),
  CONSTRAINT job_id_check CHECK ((length(id) <= 40)),
  CONSTRAINT job_input_file_id_fkey FOREIGN KEY (input_file_id) REFERENCES file(id),
  CONSTRAINT job_kind_check CHECK ((kind = ANY (ARRAY['batch'::text, 'chat'::text, 'embedding'::text, 'fine-tune'::text]))),
  CONSTRAINT job_org_id_fkey FOREIGN KEY (org_id) REFERENCES org(id),
  CONSTRAINT job_output_file_id_fkey FOREIGN KEY (output_file_id) REFERENCES file(id),
  CONSTRAINT job_pkey PRIMARY KEY (id),
  CONSTRAINT job_pool_id_fkey FOREIGN KEY (pool_id) REFERENCES pool(id),
  CONSTRAINT job_priority_check CHECK (((priority >= 0) AND (priority <= 3))),
  CONSTRAINT job_prompt_blocks_check CHECK ((cardinality(prompt_blocks) <= 16)),
  CONSTRAINT job_row_count_check CHECK ((row_count >= 0)),
  CONSTRAINT job_state_check CHECK ((state = ANY (ARRAY['validating'::text, 'failed'::text, 'in_progress'::text, 'finalizing'::text, 'completed'::text, 'expired'::text, 'cancelling'::text, 'cancelled'::text]))),
  CONSTRAINT job_trust_check CHECK ((trust = ANY (ARRAY['self-custody'::text, 'operator-credits'::text]))),
  CONSTRAINT job_tuned_model_fkey FOREIGN KEY (tuned_model) REFERENCES fine_tuned_model(name),
  CONSTRAINT job_verify_check CHECK ((verify = ANY (ARRAY['off'::text, 'spot'::text, 'quorum'::text, 'strict'::text]))),
  CONSTRAINT job_worst_check CHECK ((jsonb_typeof(worst) = 'object'::text))
);

CREATE TABLE lease (
  task_id uuid NOT NULL,
  epoch integer NOT NULL,
  node_id text NOT NULL,
  job_id text NOT NULL,
  nonce bytea NOT NULL,
  model text NOT NULL,
  model_digest text NOT NULL,
  engine_class text NOT NULL,
  rates jsonb NOT NULL,
  road text NOT NULL,
  granted_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  lease_until timestamp with time zone NOT NULL,
  started_at timestamp with time zone,
  checkpoint_rows integer NOT NULL DEFAULT 0,
  checkpoint_root bytea,
  checkpoint_signature bytea,
  committed_at timestamp with time zone,
  draw_height bigint,
  draw_seed bytea,
  draw_rows integer[],
  ended_at timestamp with time zone,
  outcome text,
  why text,
  swept_at timestamp with time zone,
  progressed_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  yield_by timestamp with time zone,
  asked_rows integer,
  CONSTRAINT lease_checkpoint_rows_check CHECK ((checkpoint_rows >= 0)),
  CONSTRAINT lease_nonce_check CHECK ((length(nonce) = 16)),
  CONSTRAINT lease_outcome_check CHECK ((outcome = ANY (ARRAY['accepted'::text, 'rejected'::text, 'refused'::text, 'yielded'::text, 'lost'::text, 'cancelled'::text, 'expired'::text]))),
  CONSTRAINT lease_pkey PRIMARY KEY (task_id, epoch),
  CONSTRAINT lease_road_check CHECK ((road = ANY (ARRAY['batch'::text, 'stream'::text])))
);

CREATE TABLE ledger_transaction (
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  kind text NOT NULL,
  ref text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT ledger_transaction_kind_check CHECK ((kind = ANY (ARRAY['deposit'::text, 'credit'::text, 'hold'::text, 'release'::text, 'charge'::text, 'payout'::text, 'withdrawal'::text, 'refund'::text, 'forfeit'::text, 'reversal'::text, 'audit-fee'::text]))),
  CONSTRAINT ledger_transaction_kind_ref_key UNIQUE (kind, ref),
  CONSTRAINT ledger_transaction_pkey PRIMARY KEY (id)
);

CREATE TABLE node (
  id text NOT NULL,
  address text NOT NULL,
  payout text NOT NULL,
  offer jsonb NOT NULL,
  offer_signature text,
  offer_seq bigint NOT NULL,
  offer_expires_at timestamp with time zone NOT NULL,
  pool_id text,
  rows_accepted bigint NOT NULL DEFAULT 0,
  rows_audited bigint NOT NULL DEFAULT 0,
  rows_bad bigint NOT NULL DEFAULT 0,
  leases_lost bigint NOT NULL DEFAULT 0,
  speed jsonb NOT NULL DEFAULT '{}'::jsonb,
  benched_until timestamp with time zone,
  benched_why text,
  last_seen_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  first_seen_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT node_address_check CHECK ((address ~ '^0x[0-9a-f]{40}$'::text)),
  CONSTRAINT node_address_key UNIQUE (address),
  CONSTRAINT node_leases_lost_check CHECK ((leases_lost >= 0)),
  CONSTRAINT node_payout_check CHECK ((payout ~ '^0x[0-9a-f]{40}$'::text)),
  CONSTRAINT node_pkey PRIMARY KEY (id),
  CONSTRAINT node_pool_id_fkey FOREIGN KEY (pool_id) REFERENCES pool(id),
  CONSTRAINT node_rows_accepted_check CHECK ((rows_accepted >= 0)),
  CONSTRAINT node_rows_audited_check CHECK ((rows_audited >= 0)),
  CONSTRAINT node_rows_bad_check CHECK ((rows_bad >= 0))
);

CREATE TABLE org (
  id text NOT NULL,
  name text NOT NULL,
  trust text NOT NULL DEFAULT 'operator-credits'::text,
  wallet text,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT org_id_check CHECK ((id ~ '^org_[0-9a-z]{4,36}$'::text)),
  CONSTRAINT org_pkey PRIMARY KEY (id),
  CONSTRAINT org_trust_check CHECK ((trust = ANY (ARRAY['self-custody'::text, 'operator-credits'::text]))),
  CONSTRAINT org_wallet_check CHECK ((wallet ~ '^0x[0-9a-f]{40}$'::text))
);

CREATE TABLE outbox (
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  topic text NOT NULL,
  message jsonb NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  not_before timestamp with time zone,
  claimed_until timestamp with time zone,
  sent_at timestamp with time zone,
  done_at timestamp with time zone,
  CONSTRAINT outbox_pkey PRIMARY KEY (id),
  CONSTRAINT outbox_topic_check CHECK ((topic = ANY (ARRAY['validate'::text, 'place'::text, 'verify'::text, 'finalize'::text, 'settle'::text, 'chain'::text])))
);

CREATE TABLE pool (
  id text NOT NULL,
  name text NOT NULL,
  half_life_hours integer NOT NULL DEFAULT 168,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT pool_half_life_hours_check CHECK ((half_life_hours > 0)),
  CONSTRAINT pool_name_key UNIQUE (name),
  CONSTRAINT pool_pkey PRIMARY KEY (id)
);

CREATE TABLE pool_member (
  pool_id text NOT NULL,
  org_id text NOT NULL,
  shares integer NOT NULL DEFAULT 1,
  role text NOT NULL DEFAULT 'member'::text,
  CONSTRAINT pool_member_org_id_fkey FOREIGN KEY (org_id) REFERENCES org(id),
  CONSTRAINT pool_member_pkey PRIMARY KEY (pool_id, org_id),
  CONSTRAINT pool_member_pool_id_fkey FOREIGN KEY (pool_id) REFERENCES pool(id),
  CONSTRAINT pool_member_role_check CHECK ((role = ANY (ARRAY['member'::text, 'owner'::text]))),
  CONSTRAINT pool_member_shares_check CHECK ((shares > 0))
);

CREATE TABLE pool_node (
  pool_id text NOT NULL,
  node_id text NOT NULL,
  guarantee_percent integer NOT NULL DEFAULT 100,
  sell_idle boolean NOT NULL DEFAULT true,
  CONSTRAINT pool_node_guarantee_percent_check CHECK (((guarantee_percent >= 0) AND (guarantee_percent <= 100))),
  CONSTRAINT pool_node_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(id),
  CONSTRAINT pool_node_pkey PRIMARY KEY (pool_id, node_id),
  CONSTRAINT pool_node_pool_id_fkey FOREIGN KEY (pool_id) REFERENCES pool(id)
);

CREATE TABLE posting (
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  transaction_id bigint NOT NULL,
  account_id bigint NOT NULL,
  asset text NOT NULL,
  amount numeric(78,0) NOT NULL,
  CONSTRAINT ledger_is_zero_sum TRIGGER DEFERRABLE INITIALLY DEFERRED,
  CONSTRAINT posting_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(id),
  CONSTRAINT posting_amount_check CHECK ((amount <> (0)::numeric)),
  CONSTRAINT posting_pkey PRIMARY KEY (id),
  CONSTRAINT posting_transaction_id_fkey FOREIGN KEY (transaction_id) REFERENCES ledger_transaction(id)
);

CREATE TABLE receipt (
  task_id uuid NOT NULL,
  epoch integer NOT NULL,
  job_id text NOT NULL,
  org_id text NOT NULL,
  node_id text NOT NULL,
  payout text NOT NULL,
  root bytea NOT NULL,
  rows integer NOT NULL,
  rows_succeeded integer NOT NULL,
  audited integer NOT NULL,
  draw text NOT NULL,
  usage jsonb NOT NULL,
  rates jsonb NOT NULL,
  charge numeric(78,0) NOT NULL,
  fee numeric(78,0) NOT NULL,
  document jsonb NOT NULL,
  accepted_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT receipt_audited_check CHECK ((audited >= 0)),
  CONSTRAINT receipt_charge_check CHECK ((charge >= (0)::numeric)),
  CONSTRAINT receipt_check CHECK (((fee >= (0)::numeric) AND (fee <= charge))),
  CONSTRAINT receipt_draw_check CHECK ((draw = ANY (ARRAY['none'::text, 'coordinator'::text, 'requester'::text]))),
  CONSTRAINT receipt_job_id_fkey FOREIGN KEY (job_id) REFERENCES job(id),
  CONSTRAINT receipt_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(id),
  CONSTRAINT receipt_org_id_fkey FOREIGN KEY (org_id) REFERENCES org(id),
  CONSTRAINT receipt_pkey PRIMARY KEY (task_id),
  CONSTRAINT receipt_rows_check CHECK ((rows > 0)),
  CONSTRAINT receipt_task_id_epoch_fkey FOREIGN KEY (task_id, epoch) REFERENCES lease(task_id, epoch)
);

CREATE TABLE row_block (
  job_id text NOT NULL,
  row_from integer NOT NULL,
  custom_ids text[] NOT NULL,
  input_offsets bigint[] NOT NULL,
  input_lengths integer[] NOT NULL,
  CONSTRAINT row_block_check CHECK ((cardinality(input_offsets) = cardinality(custom_ids))),
  CONSTRAINT row_block_check1 CHECK ((cardinality(input_lengths) = cardinality(custom_ids))),
  CONSTRAINT row_block_custom_ids_are_bounded CHECK ((length(array_to_string(custom_ids, ''::text)) <= (512 * cardinality(custom_ids)))),
  CONSTRAINT row_block_custom_ids_check CHECK ((((cardinality(custom_ids) >= 1) AND (cardinality(custom_ids) <= 64)) AND (array_position(custom_ids, NULL::text) IS NULL) AND (array_position(custom_ids, ''::text) IS NULL))),
  CONSTRAINT row_block_input_lengths_are_some CHECK (((0 <= ALL (input_lengths)) AND (array_position(input_lengths, NULL::integer) IS NULL))),
  CONSTRAINT row_block_input_offsets_are_some CHECK (((0 <= ALL (input_offsets)) AND (array_position(input_offsets, NULL::bigint) IS NULL))),
  CONSTRAINT row_block_pkey PRIMARY KEY (job_id, row_from),
  CONSTRAINT row_block_row_from_check CHECK ((row_from >= 0))
);

CREATE TABLE row_end (
  job_id text NOT NULL,
  row_no integer NOT NULL,
  state text NOT NULL,
  task_id uuid,
  epoch integer,
  result_offset bigint,
  result_length integer,
  error_code text,
  error_message text,
  CONSTRAINT row_end_pkey PRIMARY KEY (job_id, row_no),
  CONSTRAINT row_end_row_no_check CHECK ((row_no >= 0)),
  CONSTRAINT row_end_state_check CHECK ((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'expired'::text, 'cancelled'::text])))
);

CREATE TABLE shard (
  no integer NOT NULL,
  epoch bigint NOT NULL DEFAULT 1,
  session integer NOT NULL,
  held_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  alive_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT shard_epoch_check CHECK ((epoch >= 1)),
  CONSTRAINT shard_no_check CHECK ((no >= 0)),
  CONSTRAINT shard_pkey PRIMARY KEY (no)
);

CREATE TABLE task (
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  job_id text NOT NULL,
  org_id text NOT NULL,
  row_from integer NOT NULL,
  row_to integer NOT NULL,
  state text NOT NULL DEFAULT 'queued'::text,
  epoch integer NOT NULL DEFAULT 1,
  attempts integer NOT NULL DEFAULT 0,
  pool_id text,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  queued_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  ended_at timestamp with time zone,
  why text,
  last_node text,
  CONSTRAINT task_attempts_check CHECK ((attempts >= 0)),
  CONSTRAINT task_check CHECK ((row_to > row_from)),
  CONSTRAINT task_epoch_check CHECK ((epoch >= 1)),
  CONSTRAINT task_pkey PRIMARY KEY (id),
  CONSTRAINT task_row_from_check CHECK ((row_from >= 0)),
  CONSTRAINT task_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'leased'::text, 'running'::text, 'delivered'::text, 'accepted'::text, 'failed'::text, 'cancelled'::text, 'expired'::text])))
);

CREATE TABLE task_event (
  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  task_ids uuid[] NOT NULL,
  job_id text NOT NULL,
  epoch integer NOT NULL,
  from_state text,
  to_state text NOT NULL,
  why text,
  at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
  CONSTRAINT task_event_pkey PRIMARY KEY (id),
  CONSTRAINT task_event_task_ids_check CHECK ((cardinality(task_ids) > 0))
);

CREATE TABLE voucher (
  task_id uuid NOT NULL,
  node_id text NOT NULL,
  book text NOT NULL,
  book_epoch bigint NOT NULL,
  payee text NOT NULL,
  order_index integer NOT NULL,
  cumulative numeric(78,0) NOT NULL,
  total numeric(78,0) NOT NULL,
  gross numeric(78,0) NOT NULL,
  net numeric(78,0) NOT NULL,
  receipt_hash bytea,
  signature bytea,
  delivered_at timestamp with time zone,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  kind text NOT NULL DEFAULT 'work'::text,
  CONSTRAINT voucher_book_order_index_fkey FOREIGN KEY (book, order_index) REFERENCES chain_order(book, order_index),
  CONSTRAINT voucher_check CHECK ((total >= cumulative)),
  CONSTRAINT voucher_check2 CHECK (((signature IS NULL) = (receipt_hash IS NULL))),
  CONSTRAINT voucher_cumulative_check CHECK ((cumulative >= (0)::numeric)),
  CONSTRAINT voucher_gross_check CHECK ((gross >= (0)::numeric)),
  CONSTRAINT voucher_kind_check CHECK ((kind = ANY (ARRAY['work'::text, 'audit'::text]))),
  CONSTRAINT voucher_net CHECK (((net >= (0)::numeric) AND ((net <= gross) OR ((kind = 'audit'::text) AND (gross = (0)::numeric))))),
  CONSTRAINT voucher_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(id),
  CONSTRAINT voucher_payee_check CHECK ((payee ~ '^0x[0-9a-f]{40}$'::text)),
  CONSTRAINT voucher_pkey PRIMARY KEY (task_id),
  CONSTRAINT voucher_receipt_hash_check CHECK ((length(receipt_hash) = 32)),
  CONSTRAINT voucher_signature_check CHECK ((length(signature) = 65))
);

-- indexes

CREATE INDEX audit_receipt_by_fee ON public.audit_receipt USING btree (paid_by) WHERE (paid_by IS NOT NULL);

CREATE INDEX audit_receipt_unpaid ON public.audit_receipt USING btree (created_at, id) WHERE (paid_by IS NULL);

CREATE INDEX blob_use_by_job ON public.blob_use USING btree (job_id);

CREATE UNIQUE INDEX chain_epoch_one_open ON public.chain_epoch USING btree (book) WHERE (state = 'open'::text);

CREATE INDEX chain_event_by_block ON public.chain_event USING btree (block_number, log_index) WHERE (NOT removed);

CREATE INDEX chain_order_by_org ON public.chain_order USING btree (org_id) WHERE (org_id IS NOT NULL);

CREATE UNIQUE INDEX chain_payee_index ON public.chain_payee USING btree (book, payee_index) WHERE (payee_index IS NOT NULL);

CREATE UNIQUE INDEX chain_transaction_nonce ON public.chain_transaction USING btree (sender, nonce) WHERE (state <> 'replaced'::text);

CREATE INDEX chain_transaction_open ON public.chain_transaction USING btree (sender, nonce) WHERE (state = ANY (ARRAY['saved'::text, 'sent'::text]));

CREATE UNIQUE INDEX chain_transaction_purpose ON public.chain_transaction USING btree (purpose, ref) WHERE (state <> ALL (ARRAY['replaced'::text, 'failed'::text]));

CREATE INDEX file_by_org ON public.file USING btree (org_id, created_at DESC, id) WHERE (deleted_at IS NULL);

CREATE INDEX file_expiring ON public.file USING btree (expires_at) WHERE ((deleted_at IS NULL) AND (expires_at IS NOT NULL));

CREATE INDEX fine_tune_event_by_job ON public.fine_tune_event USING btree (job_id, id DESC);

CREATE INDEX fine_tuned_model_by_adapter ON public.fine_tuned_model USING btree (adapter) WHERE (deleted_at IS NULL);

CREATE INDEX fine_tuned_model_by_org ON public.fine_tuned_model USING btree (org_id, created_at) WHERE (deleted_at IS NULL);

CREATE INDEX job_by_adapter ON public.job USING btree (adapter) WHERE (adapter IS NOT NULL);

CREATE INDEX job_by_input ON public.job USING btree (input_file_id) WHERE (input_file_id IS NOT NULL);

CREATE INDEX job_by_key ON public.job USING btree (api_key_id, created_at) WHERE (api_key_id IS NOT NULL);

CREATE INDEX job_by_org ON public.job USING btree (org_id, kind, created_at DESC, id);

CREATE INDEX job_open ON public.job USING btree (deadline) WHERE (state = ANY (ARRAY['validating'::text, 'in_progress'::text, 'finalizing'::text, 'cancelling'::text]));

CREATE INDEX job_over ON public.job USING btree (model, finalizing_at DESC) WHERE ((kind = 'batch'::text) AND (state = ANY (ARRAY['completed'::text, 'expired'::text])));

CREATE INDEX lease_by_node ON public.lease USING btree (node_id) WHERE (ended_at IS NULL);

CREATE INDEX lease_unswept ON public.lease USING btree (ended_at) WHERE ((swept_at IS NULL) AND (ended_at IS NOT NULL));

CREATE INDEX outbox_undone ON public.outbox USING btree (id) WHERE (done_at IS NULL);

CREATE INDEX outbox_unsent ON public.outbox USING btree (id) WHERE ((sent_at IS NULL) AND (done_at IS NULL));

CREATE INDEX posting_by_account ON public.posting USING btree (account_id, id) INCLUDE (amount);

CREATE INDEX posting_by_transaction ON public.posting USING btree (transaction_id);

CREATE INDEX receipt_by_job ON public.receipt USING btree (job_id);

CREATE INDEX receipt_by_node ON public.receipt USING btree (node_id, accepted_at);

CREATE INDEX task_by_job ON public.task USING btree (job_id, row_from);

CREATE INDEX task_queued ON public.task USING btree (job_id, row_from) WHERE (state = 'queued'::text);

CREATE INDEX task_worn ON public.task USING btree (attempts) WHERE ((state = 'queued'::text) AND (attempts > 0));

CREATE INDEX task_event_by_job ON public.task_event USING btree (job_id, id);

CREATE INDEX voucher_by_epoch ON public.voucher USING btree (book, book_epoch, order_index, payee, cumulative);

CREATE UNIQUE INDEX voucher_total ON public.voucher USING btree (book, book_epoch, payee, total) WHERE (net > (0)::numeric);

CREATE INDEX voucher_undelivered ON public.voucher USING btree (node_id, total) WHERE (delivered_at IS NULL);

-- views

CREATE VIEW job_row AS
 SELECT block.job_id,
    block.row_from AS block_from,
    block.row_from + line.no::integer - 1 AS row_no,
    line.custom_id,
    line.input_offset,
    line.input_length,
    COALESCE(ended.state, 'pending'::text) AS state,
    ended.task_id,
    ended.epoch,
    ended.result_offset,
    ended.result_length,
    ended.error_code,
    ended.error_message
   FROM row_block block
     CROSS JOIN LATERAL UNNEST(block.custom_ids, block.input_offsets, block.input_lengths) WITH ORDINALITY line(custom_id, input_offset, input_length, no)
     LEFT JOIN row_end ended ON ended.job_id = block.job_id AND ended.row_no = (block.row_from + line.no::integer - 1);

-- functions

CREATE OR REPLACE FUNCTION public.begin_batch(of_job text, of_org text, of_key text, of_endpoint text, of_file text, of_window text, of_metadata jsonb, of_verify text, of_region text, deadline_in_ms double precision, of_priority integer, of_model text, of_tuned text, of_adapter text, of_cap numeric, of_rate_caps jsonb, of_expected_s double precision, of_counted numeric, of_prompt_blocks text[], of_worst jsonb, custom_ids text[], input_offsets bigint[], input_lengths integer[], identity_key text, identity_route text, identity_hash bytea, replay_within_ms double precision, OUT outcome text, OUT earlier text, OUT made job)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
BEGIN
  IF (SELECT count(DISTINCT id) FROM unnest(custom_ids) AS id) <> cardinality(custom_ids) THEN
    outcome := 'refused';
    RETURN;
  END IF;
  PERFORM 1 FROM file WHERE id = of_file AND org_id = of_org AND purpose = 'batch' AND deleted_at IS NULL
    AND (expires_at IS NULL OR expires_at > clock_timestamp());
  IF NOT FOUND THEN
    outcome := 'refused';
    RETURN;
  END IF;
  -- A first try may take over the claim of an equal request before it. Where the money for it is not there, that claim is left as it
  -- was: who asks for the answer to the earlier request again gets it, and no second batch.
  BEGIN
    IF identity_key IS NOT NULL THEN
      SELECT claim.outcome, claim.earlier INTO outcome, earlier
        FROM claim_request(of_org, identity_key, identity_route, identity_hash, replay_within_ms, of_job) AS claim;
      IF outcome <> 'claimed' THEN
        RETURN;
      END IF;
    END IF;
    PERFORM 1 FROM hold_funds(of_org, of_key, of_job, of_cap) AS held WHERE held.refusal IS NULL;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'no money' USING ERRCODE = 'FH001';
    END IF;
  EXCEPTION WHEN SQLSTATE 'FH001' THEN
    outcome := 'refused';
    earlier := NULL;
    RETURN;
  END;
  INSERT INTO job (id, org_id, api_key_id, kind, state, endpoint, model, tuned_model, adapter, input_file_id, completion_window,
    metadata, verify, region, trust, cap, rate_caps, row_count, deadline, priority, expected_s, counted, prompt_blocks, worst,
    in_progress_at)
  SELECT of_job, org.id, of_key, 'batch', 'in_progress', of_endpoint, of_model, of_tuned, of_adapter, of_file, of_window,
    of_metadata, of_verify, of_region, org.trust, of_cap, of_rate_caps, cardinality(custom_ids),
    clock_timestamp() + deadline_in_ms * interval '1 millisecond', of_priority, of_expected_s, of_counted, of_prompt_blocks, of_worst,
    clock_timestamp()
  FROM org WHERE org.id = of_org
  RETURNING * INTO STRICT made;
  INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths)
  SELECT of_job, n, custom_ids[n + 1:n + 64], input_offsets[n + 1:n + 64], input_lengths[n + 1:n + 64]
  FROM generate_series(0, cardinality(custom_ids) - 1, 64) AS n;
  INSERT INTO outbox (topic, message) VALUES ('place', jsonb_build_object('job', of_job));
  -- An accepted batch is not lost, whatever the server does by default.
  PERFORM set_config('synchronous_commit', 'on', true);
  outcome := 'made';
END $function$
;

CREATE OR REPLACE FUNCTION public.came_to_nothing(of_org text, of_subject text)
 RETURNS boolean
 LANGUAGE sql
AS $function$
  SELECT NOT EXISTS (SELECT 1 FROM job WHERE id = of_subject AND org_id = of_org
      AND (kind NOT IN ('chat', 'embedding') OR state NOT IN ('failed', 'expired', 'cancelled')))
    AND NOT EXISTS (SELECT 1 FROM file WHERE id = of_subject AND org_id = of_org AND deleted_at IS NULL
      AND (expires_at IS NULL OR expires_at > clock_timestamp()))
$function$
;

CREATE OR REPLACE FUNCTION public.claim_request(of_org text, of_key text, of_route text, of_body_hash bytea, replay_within_ms double precision, of_subject text, OUT outcome text, OUT earlier text)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
DECLARE
  known idempotency;
BEGIN
  outcome := 'claimed';
  INSERT INTO idempotency (org_id, key, route, body_hash, status, subject)
    VALUES (of_org, of_key, of_route, of_body_hash, 200, of_subject) ON CONFLICT (org_id, key) DO NOTHING;
  IF FOUND THEN
    RETURN;
  END IF;
  SELECT * INTO known FROM idempotency WHERE org_id = of_org AND key = of_key FOR UPDATE;
  IF known.created_at > clock_timestamp() - replay_within_ms * interval '1 millisecond' THEN
    IF known.route <> of_route OR known.body_hash <> of_body_hash THEN
      outcome := 'key-reused';
      RETURN;
    END IF;
    IF NOT came_to_nothing(of_org, known.subject) THEN
      outcome := 'repeated';
      earlier := known.subject;
      RETURN;
    END IF;
  END IF;
  -- Inserted again when it was forgotten between the two looks.
  INSERT INTO idempotency (org_id, key, route, body_hash, status, subject)
    VALUES (of_org, of_key, of_route, of_body_hash, 200, of_subject)
    ON CONFLICT (org_id, key) DO UPDATE SET route = excluded.route, body_hash = excluded.body_hash,
      subject = excluded.subject, created_at = clock_timestamp();
END $function$
;

CREATE OR REPLACE FUNCTION public.covered_of(of_org text)
 RETURNS numeric
 LANGUAGE sql
 STABLE
AS $function$
  SELECT CASE WHEN bool_or(o.state IN ('closing', 'refunded')) THEN
    coalesce(sum(o.reserved - o.spent) FILTER (WHERE o.state = 'open'
      OR (o.state = 'closing' AND coalesce(o.close_epoch > e.epoch, true))), 0) END
  FROM chain_order o JOIN chain_book b ON b.book = o.book AND b.state = 'alive'
  LEFT JOIN chain_epoch e ON e.book = o.book AND e.state = 'open'
  WHERE o.org_id = of_org AND NOT o.is_operator
$function$
;

CREATE OR REPLACE FUNCTION public.hold_funds(of_org text, of_key text, of_job text, of_amount numeric, OUT refusal text, OUT available numeric)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
DECLARE
  of_cap numeric;
  from_account bigint;
  to_account bigint;
  entry bigint;
  covered numeric;
BEGIN
  SELECT daily_cap INTO of_cap FROM api_key WHERE id = of_key AND daily_cap IS NOT NULL FOR UPDATE;
  IF of_cap IS NOT NULL THEN
    SELECT greatest(0, of_cap - coalesce(sum(
        CASE WHEN state IN ('validating', 'in_progress', 'finalizing', 'cancelling') THEN coalesce(cap, 0) ELSE charged END), 0))
      INTO available FROM job
      WHERE api_key_id = of_key AND id <> of_job AND created_at >= date_trunc('day', clock_timestamp(), 'UTC');
    IF available < of_amount THEN
      refusal := 'daily-cap';
      RETURN;
    END IF;
  END IF;
  SELECT id, balance INTO from_account, available FROM account
    WHERE kind = 'balance' AND owner = of_org AND asset = 'money' FOR UPDATE;
  available := coalesce(available, 0);
  -- Credits are the operator's to pay for, whatever becomes of orders.
  SELECT covered_of(of_org) INTO covered FROM org WHERE id = of_org AND trust = 'self-custody';
  IF covered IS NOT NULL THEN
    SELECT least(available, greatest(0, covered - coalesce(sum(account.balance), 0))) INTO available
      FROM job JOIN account ON account.kind = 'hold' AND account.owner = job.id AND account.asset = 'money'
      WHERE job.org_id = of_org AND job.id <> of_job AND job.state IN ('in_progress', 'cancelling');
  END IF;
  IF available < of_amount THEN
    refusal := 'insufficient-balance';
    RETURN;
  END IF;
  IF of_amount = 0 THEN
    RETURN;
  END IF;
  INSERT INTO ledger_transaction (kind, ref) VALUES ('hold', of_job) ON CONFLICT (kind, ref) DO NOTHING RETURNING id INTO entry;
  IF entry IS NULL THEN
    RETURN;
  END IF;
  INSERT INTO account (kind, owner, asset) VALUES ('hold', of_job, 'money') ON CONFLICT DO NOTHING;
  SELECT id INTO STRICT to_account FROM account WHERE kind = 'hold' AND owner = of_job AND asset = 'money';
  INSERT INTO posting (transaction_id, account_id, asset, amount)
    VALUES (entry, from_account, 'money', -of_amount), (entry, to_account, 'money', of_amount);
END $function$
;

CREATE OR REPLACE FUNCTION public.job_leaves_no_orphans()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  IF EXISTS (SELECT 1 FROM row_block WHERE job_id = OLD.id) OR EXISTS (SELECT 1 FROM row_end WHERE job_id = OLD.id)
    OR EXISTS (SELECT 1 FROM task WHERE job_id = OLD.id) THEN
    RAISE EXCEPTION 'job % has rows or tasks: it stays', OLD.id USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.lease_finds_its_task()
 RETURNS trigger
 LANGUAGE plpgsql
 SET enable_seqscan TO 'off'
 SET enable_nestloop TO 'off'
 SET enable_mergejoin TO 'off'
AS $function$
DECLARE orphan record;
BEGIN
  SELECT written.task_id, written.job_id INTO orphan FROM written
    LEFT JOIN (SELECT id, job_id FROM task WHERE id = ANY (ARRAY(SELECT task_id FROM written))) AS found ON found.id = written.task_id
    WHERE found.job_id IS DISTINCT FROM written.job_id LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'a lease refers to task % of job %, which is not there', orphan.task_id, orphan.job_id
      USING ERRCODE = 'foreign_key_violation';
  END IF;
  SELECT holder.node_id INTO orphan FROM (SELECT DISTINCT node_id FROM written) AS holder
    WHERE (SELECT node.id FROM node WHERE node.id = holder.node_id) IS NULL LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'a lease refers to node %, which is not there', orphan.node_id USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.ledger_is_zero_sum()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE off record;
BEGIN
  SELECT asset, sum(amount) AS total INTO off FROM posting WHERE transaction_id = NEW.transaction_id GROUP BY asset HAVING sum(amount) <> 0 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'ledger transaction % is off by % %', NEW.transaction_id, off.total, off.asset USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.open_stream(of_job text, of_org text, of_key text, of_kind text, of_endpoint text, of_model text, of_metadata jsonb, of_verify text, of_region text, of_cap numeric, of_rate_caps jsonb, lease_ms double precision, of_input_length integer, of_task uuid, of_node text, of_nonce bytea, of_digest text, of_engine_class text, of_rates jsonb, identity_key text, identity_route text, identity_hash bytea, replay_within_ms double precision, OUT outcome text, OUT available numeric, OUT earlier text)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
BEGIN
  IF identity_key IS NOT NULL THEN
    SELECT * INTO outcome, earlier
      FROM claim_request(of_org, identity_key, identity_route, identity_hash, replay_within_ms, of_job);
    IF outcome <> 'claimed' THEN
      RETURN;
    END IF;
  END IF;
  SELECT * INTO outcome, available FROM hold_funds(of_org, of_key, of_job, of_cap);
  IF outcome IS NOT NULL THEN
    DELETE FROM idempotency WHERE org_id = of_org AND key = identity_key;
    RETURN;
  END IF;
  INSERT INTO job (id, org_id, api_key_id, kind, state, endpoint, model, metadata, verify, region, trust, cap, rate_caps,
    row_count, next_row, deadline, in_progress_at)
  SELECT of_job, org.id, of_key, of_kind, 'in_progress', of_endpoint, of_model, of_metadata, of_verify, of_region, org.trust,
    of_cap, of_rate_caps, 1, 1, clock_timestamp() + 2 * lease_ms * interval '1 millisecond', clock_timestamp()
  FROM org WHERE org.id = of_org;
  INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths)
    VALUES (of_job, 0, ARRAY[of_job], ARRAY[0], ARRAY[of_input_length]);
  INSERT INTO task (id, job_id, org_id, row_from, row_to, state, epoch) VALUES (of_task, of_job, of_org, 0, 1, 'leased', 1);
  INSERT INTO lease (task_id, epoch, node_id, job_id, nonce, model, model_digest, engine_class, rates, road, lease_until)
    VALUES (of_task, 1, of_node, of_job, of_nonce, of_model, of_digest, of_engine_class, of_rates, 'stream',
      clock_timestamp() + lease_ms * interval '1 millisecond');
  PERFORM set_config('synchronous_commit', 'off', true);
  outcome := 'opened';
END $function$
;

CREATE OR REPLACE FUNCTION public.posting_moves_balance()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  UPDATE account SET balance = balance + NEW.amount WHERE id = NEW.account_id AND asset = NEW.asset;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'posting in asset % to account % of another asset', NEW.asset, NEW.account_id;
  END IF;
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.refuse_other_owner()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  RAISE EXCEPTION 'a % stays with what it was written for', TG_TABLE_NAME USING ERRCODE = 'foreign_key_violation';
END $function$
;

CREATE OR REPLACE FUNCTION public.refuse_removal()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  RAISE EXCEPTION 'a % stays, under its id: others refer to it', TG_TABLE_NAME USING ERRCODE = 'foreign_key_violation';
END $function$
;

CREATE OR REPLACE FUNCTION public.refuse_rewrite()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  RAISE EXCEPTION '% is append only', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $function$
;

CREATE OR REPLACE FUNCTION public.row_finds_its_job()
 RETURNS trigger
 LANGUAGE plpgsql
 SET enable_seqscan TO 'off'
AS $function$
DECLARE orphan text;
BEGIN
  SELECT line.job_id INTO orphan FROM (SELECT DISTINCT job_id FROM written) AS line
    WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.id = line.job_id FOR KEY SHARE) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'a row refers to job %, which is not there', orphan USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.task_finds_its_job()
 RETURNS trigger
 LANGUAGE plpgsql
 SET enable_seqscan TO 'off'
AS $function$
DECLARE orphan record;
BEGIN
  SELECT cut.job_id, cut.org_id, cut.pool_id INTO orphan FROM (SELECT DISTINCT job_id, org_id, pool_id FROM written) AS cut
    WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.id = cut.job_id AND job.org_id = cut.org_id
      AND (cut.pool_id IS NULL OR job.pool_id = cut.pool_id) FOR KEY SHARE) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'a task refers to job % of organisation % and pool %, which is not there', orphan.job_id, orphan.org_id, orphan.pool_id
      USING ERRCODE = 'foreign_key_violation';
  END IF;
  SELECT last_node AS node INTO orphan FROM written
    WHERE last_node IS NOT NULL AND (SELECT node.id FROM node WHERE node.id = last_node) IS NULL LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'a task refers to node %, which is not there', orphan.node USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.task_finds_its_last_node()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM node WHERE id = NEW.last_node) THEN
    RAISE EXCEPTION 'a task refers to node %, which is not there', NEW.last_node USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.task_logs_its_birth()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  INSERT INTO task_event (task_ids, job_id, epoch, from_state, to_state, why)
    SELECT array_agg(id), job_id, epoch, NULL, state, why FROM written GROUP BY job_id, epoch, state, why;
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.task_logs_its_moves()
 RETURNS trigger
 LANGUAGE plpgsql
 SET enable_nestloop TO 'off'
AS $function$
BEGIN
  INSERT INTO task_event (task_ids, job_id, epoch, from_state, to_state, why)
    SELECT array_agg(written.id), written.job_id, written.epoch, overwritten.state, written.state, written.why
    FROM written JOIN overwritten ON overwritten.id = written.id
    WHERE written.state <> overwritten.state OR written.epoch <> overwritten.epoch
    GROUP BY written.job_id, written.epoch, overwritten.state, written.state, written.why;
  RETURN NULL;
END $function$
;

-- triggers

CREATE TRIGGER job_keeps_its_id AFTER UPDATE OF id, org_id, pool_id ON public.job FOR EACH ROW WHEN ((((new.id IS DISTINCT FROM old.id) OR (new.org_id IS DISTINCT FROM old.org_id)) OR (new.pool_id IS DISTINCT FROM old.pool_id))) EXECUTE FUNCTION refuse_removal();

CREATE TRIGGER job_leaves_no_orphans AFTER DELETE ON public.job FOR EACH ROW EXECUTE FUNCTION job_leaves_no_orphans();

CREATE TRIGGER lease_finds_its_task AFTER INSERT ON public.lease REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION lease_finds_its_task();

CREATE TRIGGER lease_keeps_its_task AFTER UPDATE OF task_id, job_id, node_id ON public.lease FOR EACH ROW WHEN ((((new.task_id IS DISTINCT FROM old.task_id) OR (new.job_id IS DISTINCT FROM old.job_id)) OR (new.node_id IS DISTINCT FROM old.node_id))) EXECUTE FUNCTION refuse_other_owner();

CREATE TRIGGER ledger_transaction_append_only BEFORE DELETE OR UPDATE ON public.ledger_transaction FOR EACH ROW EXECUTE FUNCTION refuse_rewrite();

CREATE TRIGGER ledger_transaction_never_truncated BEFORE TRUNCATE ON public.ledger_transaction FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

CREATE TRIGGER node_keeps_its_id AFTER UPDATE OF id ON public.node FOR EACH ROW WHEN ((new.id IS DISTINCT FROM old.id)) EXECUTE FUNCTION refuse_removal();

CREATE TRIGGER node_stays AFTER DELETE ON public.node FOR EACH ROW EXECUTE FUNCTION refuse_removal();

CREATE CONSTRAINT TRIGGER ledger_is_zero_sum AFTER INSERT ON public.posting DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_is_zero_sum();

CREATE TRIGGER posting_append_only BEFORE DELETE OR UPDATE ON public.posting FOR EACH ROW EXECUTE FUNCTION refuse_rewrite();

CREATE TRIGGER posting_moves_balance AFTER INSERT ON public.posting FOR EACH ROW EXECUTE FUNCTION posting_moves_balance();

CREATE TRIGGER posting_never_truncated BEFORE TRUNCATE ON public.posting FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

CREATE TRIGGER receipt_append_only BEFORE DELETE OR UPDATE ON public.receipt FOR EACH ROW EXECUTE FUNCTION refuse_rewrite();

CREATE TRIGGER receipt_never_truncated BEFORE TRUNCATE ON public.receipt FOR EACH STATEMENT EXECUTE FUNCTION refuse_rewrite();

CREATE TRIGGER row_block_finds_its_job AFTER INSERT ON public.row_block REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION row_finds_its_job();

CREATE TRIGGER row_block_keeps_its_job AFTER UPDATE OF job_id ON public.row_block FOR EACH ROW WHEN ((new.job_id IS DISTINCT FROM old.job_id)) EXECUTE FUNCTION refuse_other_owner();

CREATE TRIGGER row_end_finds_its_job AFTER INSERT ON public.row_end REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION row_finds_its_job();

CREATE TRIGGER row_end_keeps_its_job AFTER UPDATE OF job_id ON public.row_end FOR EACH ROW WHEN ((new.job_id IS DISTINCT FROM old.job_id)) EXECUTE FUNCTION refuse_other_owner();

CREATE TRIGGER task_finds_its_job AFTER INSERT ON public.task REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION task_finds_its_job();

CREATE TRIGGER task_finds_its_last_node AFTER UPDATE OF last_node ON public.task FOR EACH ROW WHEN (((new.last_node IS NOT NULL) AND (new.last_node IS DISTINCT FROM old.last_node))) EXECUTE FUNCTION task_finds_its_last_node();

CREATE TRIGGER task_keeps_its_id AFTER UPDATE OF id ON public.task FOR EACH ROW WHEN ((new.id IS DISTINCT FROM old.id)) EXECUTE FUNCTION refuse_removal();

CREATE TRIGGER task_keeps_its_job AFTER UPDATE OF job_id, org_id, pool_id ON public.task FOR EACH ROW WHEN ((((new.job_id IS DISTINCT FROM old.job_id) OR (new.org_id IS DISTINCT FROM old.org_id)) OR (new.pool_id IS DISTINCT FROM old.pool_id))) EXECUTE FUNCTION refuse_other_owner();

CREATE TRIGGER task_logs_its_birth AFTER INSERT ON public.task REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION task_logs_its_birth();

CREATE TRIGGER task_logs_its_moves AFTER UPDATE ON public.task REFERENCING OLD TABLE AS overwritten NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION task_logs_its_moves();

CREATE TRIGGER task_never_truncated BEFORE TRUNCATE ON public.task FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal();

CREATE TRIGGER task_stays AFTER DELETE ON public.task FOR EACH ROW EXECUTE FUNCTION refuse_removal();
