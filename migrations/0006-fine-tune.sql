-- Fine-tuning: jobs whose rows are segments of training, and the models that come out of them.

ALTER TABLE job
  -- Set while the requester holds a fine-tune back: no new lease is granted.
  ADD COLUMN paused_at timestamptz,
  -- sha256 of the LoRA adapter that answers this job's rows; null: the base alone.
  ADD COLUMN adapter text CHECK (adapter ~ '^[0-9a-f]{64}$');

CREATE TABLE fine_tune (
  job_id text PRIMARY KEY REFERENCES job,
  base text NOT NULL,
  suffix text CHECK (length(suffix) BETWEEN 1 AND 64),
  seed bigint NOT NULL CHECK (seed BETWEEN 0 AND 4294967295),
  validation_file_id text REFERENCES file,
  evaluation_file_id text REFERENCES file,
  evaluation_min double precision CHECK (evaluation_min BETWEEN 0 AND 1),
  -- Hyperparameters as asked, to be given back; `auto` is decided in the plan.
  asked jsonb NOT NULL,
  -- What validation decided; null until then.
  planned jsonb,
  -- What the hidden evaluation found.
  evaluated jsonb,
  result_file_ids text[] NOT NULL DEFAULT '{}',
  CHECK ((evaluation_file_id IS NULL) = (evaluation_min IS NULL))
);

-- An adapter under a name. The name is the owner's for ever: a deleted one is never given out again.
CREATE TABLE fine_tuned_model (
  name text PRIMARY KEY CHECK (name ~ '^ft:[A-Za-z0-9./:_-]{1,200}$'),
  org_id text NOT NULL REFERENCES org,
  job_id text NOT NULL UNIQUE REFERENCES fine_tune,
  base text NOT NULL,
  -- sha256 of the adapter's GGUF file, which lies in the object store under it.
  adapter text NOT NULL CHECK (adapter ~ '^[0-9a-f]{64}$'),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  deleted_at timestamptz
);
CREATE INDEX fine_tuned_model_by_org ON fine_tuned_model (org_id, created_at) WHERE deleted_at IS NULL;
CREATE INDEX fine_tuned_model_by_adapter ON fine_tuned_model (adapter) WHERE deleted_at IS NULL;

-- What a requester reads about a fine-tune, newest first. Handlers run twice: one event per key.
CREATE TABLE fine_tune_event (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id text NOT NULL REFERENCES fine_tune,
  key text NOT NULL CHECK (length(key) <= 128),
  level text NOT NULL CHECK (level IN ('info', 'warn', 'error')),
  type text NOT NULL CHECK (type IN ('message', 'metrics')),
  message text NOT NULL,
  data jsonb,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (job_id, key)
);
CREATE INDEX fine_tune_event_by_job ON fine_tune_event (job_id, id DESC);
