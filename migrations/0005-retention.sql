-- Payloads (delivered rows of a lease, the input of a streamed request) are removed from the store when nobody needs them any more.
ALTER TABLE lease ADD COLUMN swept_at timestamptz;
-- The sweeper's question: what ended long ago and still has its payloads.
CREATE INDEX lease_unswept ON lease (ended_at) WHERE swept_at IS NULL AND ended_at IS NOT NULL;
