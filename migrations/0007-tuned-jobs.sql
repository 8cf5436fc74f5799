-- Batches answered by a fine-tune of their owner's, and the objects of fine-tunes that are still needed.

ALTER TABLE job
  -- The owner's name for what answers its rows; `model` is the base, which nodes serve. A name once given stays known.
  ADD COLUMN tuned_model text REFERENCES fine_tuned_model,
  ADD CHECK (tuned_model IS NULL OR adapter IS NOT NULL);
CREATE INDEX job_by_adapter ON job (adapter) WHERE adapter IS NOT NULL;

-- Training files, checkpoints and adapters lie in the object store under their sha256, and one object may serve many jobs. Noted
-- before the bytes come, so that nothing lies there that nobody knows of; the rows go with the object.
CREATE TABLE blob_use (
  sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
  job_id text NOT NULL REFERENCES job,
  PRIMARY KEY (sha256, job_id)
);
CREATE INDEX blob_use_by_job ON blob_use (job_id);
