-- Thousands of rows are written by one statement: what they refer to is asked, and their moves are logged, once per statement.
-- Per row, these triggers were most of what a placement cost (docs/decisions/0040).

-- Every move of a task, still written by the database itself so that no code path can forget it.
DROP TRIGGER task_logs_its_moves ON task;
DROP FUNCTION task_logs_its_moves();
CREATE FUNCTION task_logs_its_birth() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO task_event (task_id, job_id, epoch, from_state, to_state, why)
    SELECT id, job_id, epoch, NULL, state, why FROM written;
  RETURN NULL;
END $$;
CREATE TRIGGER task_logs_its_birth AFTER INSERT ON task REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION task_logs_its_birth();
-- The plan is made once, perhaps for one row: it must not compare a thousand with a thousand later.
CREATE FUNCTION task_logs_its_moves() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
  INSERT INTO task_event (task_id, job_id, epoch, from_state, to_state, why)
    SELECT written.id, written.job_id, written.epoch, overwritten.state, written.state, written.why
    FROM written JOIN overwritten ON overwritten.id = written.id
    WHERE written.state <> overwritten.state OR written.epoch <> overwritten.epoch;
  RETURN NULL;
END $$;
CREATE TRIGGER task_logs_its_moves AFTER UPDATE ON task REFERENCING OLD TABLE AS overwritten NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION task_logs_its_moves();

-- Foreign keys of the three tables that a placement writes. The others stay as they are.
ALTER TABLE job_row DROP CONSTRAINT job_row_job_id_fkey;
ALTER TABLE task DROP CONSTRAINT task_job_id_fkey, DROP CONSTRAINT task_org_id_fkey, DROP CONSTRAINT task_pool_id_fkey,
  DROP CONSTRAINT task_last_node_fkey;
ALTER TABLE lease DROP CONSTRAINT lease_task_id_fkey, DROP CONSTRAINT lease_node_id_fkey, DROP CONSTRAINT lease_job_id_fkey;

-- A new row finds what it refers to. Jobs are locked as a foreign key locks them, against their deletion; the other rows
-- are never deleted. Always by the key: these plans outlive the times when the tables were small.
CREATE FUNCTION job_row_finds_its_job() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE orphan text;
BEGIN
  SELECT line.job_id INTO orphan FROM (SELECT DISTINCT job_id FROM written) AS line
    WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.id = line.job_id FOR KEY SHARE) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'a row refers to job %, which is not there', orphan USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER job_row_finds_its_job AFTER INSERT ON job_row REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION job_row_finds_its_job();

-- The job's own foreign keys say that its organisation and its pool are there.
CREATE FUNCTION task_finds_its_job() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
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
END $$;
CREATE TRIGGER task_finds_its_job AFTER INSERT ON task REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION task_finds_its_job();

-- The task has found its job; the lease names the same.
CREATE FUNCTION lease_finds_its_task() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE orphan record;
BEGIN
  SELECT task_id, job_id INTO orphan FROM written
    WHERE (SELECT task.job_id FROM task WHERE task.id = written.task_id) IS DISTINCT FROM job_id LIMIT 1;
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
CREATE TRIGGER lease_finds_its_task AFTER INSERT ON lease REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION lease_finds_its_task();

-- What is found once stays found: nothing goes over to another, and nothing that is referred to goes away. Only a job may, when
-- it has neither rows nor tasks. All of these fire only when a key is written; that is never.
CREATE FUNCTION refuse_other_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'a % stays with what it was written for', TG_TABLE_NAME USING ERRCODE = 'foreign_key_violation';
END $$;
CREATE TRIGGER job_row_keeps_its_job AFTER UPDATE OF job_id ON job_row
  FOR EACH ROW WHEN (NEW.job_id IS DISTINCT FROM OLD.job_id) EXECUTE FUNCTION refuse_other_owner();
CREATE TRIGGER task_keeps_its_job AFTER UPDATE OF job_id, org_id, pool_id ON task
  FOR EACH ROW WHEN ((NEW.job_id, NEW.org_id, NEW.pool_id) IS DISTINCT FROM (OLD.job_id, OLD.org_id, OLD.pool_id))
  EXECUTE FUNCTION refuse_other_owner();
CREATE TRIGGER lease_keeps_its_task AFTER UPDATE OF task_id, job_id, node_id ON lease
  FOR EACH ROW WHEN ((NEW.task_id, NEW.job_id, NEW.node_id) IS DISTINCT FROM (OLD.task_id, OLD.job_id, OLD.node_id))
  EXECUTE FUNCTION refuse_other_owner();

-- Written with each return to the queue, a few at a time.
CREATE FUNCTION task_finds_its_last_node() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM node WHERE id = NEW.last_node) THEN
    RAISE EXCEPTION 'a task refers to node %, which is not there', NEW.last_node USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER task_finds_its_last_node AFTER UPDATE OF last_node ON task
  FOR EACH ROW WHEN (NEW.last_node IS NOT NULL AND NEW.last_node IS DISTINCT FROM OLD.last_node)
  EXECUTE FUNCTION task_finds_its_last_node();

CREATE FUNCTION refuse_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'a % stays, under its id: others refer to it', TG_TABLE_NAME USING ERRCODE = 'foreign_key_violation';
END $$;
CREATE TRIGGER node_stays AFTER DELETE ON node FOR EACH ROW EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER node_keeps_its_id AFTER UPDATE OF id ON node
  FOR EACH ROW WHEN (NEW.id IS DISTINCT FROM OLD.id) EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER task_stays AFTER DELETE ON task FOR EACH ROW EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER task_keeps_its_id AFTER UPDATE OF id ON task
  FOR EACH ROW WHEN (NEW.id IS DISTINCT FROM OLD.id) EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER task_never_truncated BEFORE TRUNCATE ON task EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER job_keeps_its_id AFTER UPDATE OF id, org_id, pool_id ON job
  FOR EACH ROW WHEN ((NEW.id, NEW.org_id, NEW.pool_id) IS DISTINCT FROM (OLD.id, OLD.org_id, OLD.pool_id))
  EXECUTE FUNCTION refuse_removal();
CREATE FUNCTION job_leaves_no_orphans() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM job_row WHERE job_id = OLD.id) OR EXISTS (SELECT 1 FROM task WHERE job_id = OLD.id) THEN
    RAISE EXCEPTION 'job % has rows or tasks: it stays', OLD.id USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER job_leaves_no_orphans AFTER DELETE ON job FOR EACH ROW EXECUTE FUNCTION job_leaves_no_orphans();

-- A job's leases are found by its tasks.
DROP INDEX lease_by_job;
