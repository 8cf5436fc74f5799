-- Tasks that one statement moved alike are one line of the log, still written by the database itself: a thousand tasks that are
-- cut and leased together cost one line, not a thousand with two index entries each (docs/decisions/0044).
ALTER TABLE task_event ALTER COLUMN task_id TYPE uuid[] USING ARRAY[task_id],
  -- Who reads the log as it grows knows by it which lines it could see already.
  ADD COLUMN xact xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE task_event RENAME COLUMN task_id TO task_ids;
ALTER TABLE task_event ADD CHECK (cardinality(task_ids) > 0);
-- Half random: not worth a look at how they could be compressed.
ALTER TABLE task_event ALTER COLUMN task_ids SET STORAGE EXTERNAL;

CREATE OR REPLACE FUNCTION task_logs_its_birth() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO task_event (task_ids, job_id, epoch, from_state, to_state, why)
    SELECT array_agg(id), job_id, epoch, NULL, state, why FROM written GROUP BY job_id, epoch, state, why;
  RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION task_logs_its_moves() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
  INSERT INTO task_event (task_ids, job_id, epoch, from_state, to_state, why)
    SELECT array_agg(written.id), written.job_id, written.epoch, overwritten.state, written.state, written.why
    FROM written JOIN overwritten ON overwritten.id = written.id
    WHERE written.state <> overwritten.state OR written.epoch <> overwritten.epoch
    GROUP BY written.job_id, written.epoch, overwritten.state, written.state, written.why;
  RETURN NULL;
END $$;

-- Validation tells each second use of a custom_id, the start of a batch counts them once more under the job's lock, and the doctor
-- looks again: a wide index, written for every row and never read, adds nothing to that.
ALTER TABLE job_row DROP CONSTRAINT job_row_job_id_custom_id_key;

-- The tasks of all leases of a statement are found by one walk through the index, not by one for each.
CREATE OR REPLACE FUNCTION lease_finds_its_task() RETURNS trigger LANGUAGE plpgsql
  SET enable_seqscan = off SET enable_nestloop = off SET enable_mergejoin = off AS $$
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
END $$;
