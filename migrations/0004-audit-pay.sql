-- Auditors are paid, whatever they found, out of the fee: once for each lease and auditor.

-- What an auditor earned with the rows of one lease that it ran again. Written with the verdict; of an accepted lease paid at
-- once out of its own fee, of a rejected one out of what later fees leave.
CREATE TABLE audit_receipt (
  id uuid PRIMARY KEY,
  task_id uuid NOT NULL,
  epoch integer NOT NULL,
  node_id text NOT NULL REFERENCES node,
  payout text NOT NULL CHECK (payout ~ '^0x[0-9a-f]{40}$'),
  rows integer NOT NULL CHECK (rows > 0),
  amount numeric(78,0) NOT NULL CHECK (amount > 0),
  -- The whole statement, as the auditor gets it with its voucher.
  document jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- The accepted task whose fee paid it.
  paid_by uuid REFERENCES receipt,
  UNIQUE (task_id, epoch, node_id),
  FOREIGN KEY (task_id, epoch) REFERENCES lease
);
CREATE INDEX audit_receipt_unpaid ON audit_receipt (created_at, id) WHERE paid_by IS NULL;
CREATE INDEX audit_receipt_by_fee ON audit_receipt (paid_by) WHERE paid_by IS NOT NULL;

-- A voucher of an audit takes nothing more from the order: its net comes out of the fee in the gross of the work beside it.
-- `task_id` is then the audit receipt's own id.
ALTER TABLE voucher DROP CONSTRAINT voucher_task_id_fkey;
ALTER TABLE voucher ADD COLUMN kind text NOT NULL DEFAULT 'work' CHECK (kind IN ('work', 'audit'));
ALTER TABLE voucher DROP CONSTRAINT voucher_check1;
ALTER TABLE voucher ADD CONSTRAINT voucher_net CHECK (net >= 0 AND (net <= gross OR (kind = 'audit' AND gross = 0)));
