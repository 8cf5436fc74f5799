-- What decides a job's turn, and what was expected of it when it started: the next expectation learns from the difference.

ALTER TABLE job
  -- 0 is usual; a level is worth ten minutes of another job's slack.
  ADD COLUMN priority smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN 0 AND 3),
  -- Seconds from its start to its last row, by the queue ahead of it and the speeds measured then; null where none were known.
  ADD COLUMN expected_s double precision CHECK (expected_s > 0);
CREATE INDEX job_finished ON job (model, completed_at DESC) WHERE state = 'completed' AND expected_s IS NOT NULL;
