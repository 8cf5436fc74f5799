-- A statement's opening balance is one sum over an account's lines, out of the index alone; its page reads what it shows.
DROP INDEX posting_by_account;
CREATE INDEX posting_by_account ON posting (account_id, id) INCLUDE (amount);

-- The operator earns its fee with the charge, in `fees`, and takes it out over the chain as every payee does. The escrow's treasury
-- is paid by the escrow itself and was never an account of this ledger.
ALTER TABLE account DROP CONSTRAINT account_kind_check, ADD CONSTRAINT account_kind_check
  CHECK (kind IN ('balance', 'hold', 'provider', 'fees', 'escrow', 'operator', 'payout', 'bond'));
ALTER TABLE ledger_transaction DROP CONSTRAINT ledger_transaction_kind_check, ADD CONSTRAINT ledger_transaction_kind_check
  CHECK (kind IN ('deposit', 'credit', 'hold', 'release', 'charge', 'payout', 'withdrawal', 'refund', 'forfeit', 'reversal', 'audit-fee'));
