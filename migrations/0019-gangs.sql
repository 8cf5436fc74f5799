-- On how many nodes at once a batch begins; null: on any. Read from what its requester asked, so that nothing can say otherwise; no
-- lease of its first rows is granted for fewer.
ALTER TABLE job ADD COLUMN gang smallint GENERATED ALWAYS AS (
  CASE WHEN kind = 'batch' AND metadata ->> 'nodes' ~ '^([2-9]|[1-5][0-9]|6[0-4])$' THEN (metadata ->> 'nodes')::smallint END
) STORED;
