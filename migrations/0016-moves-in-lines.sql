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

-- Who reads a batch tells each second use of a custom_id, its start counts them once more in the commit that starts it, and the doctor
-- looks again: a wide index, written for every row and never read, adds nothing to that.
ALTER TABLE job_row DROP CONSTRAINT job_row_job_id_custom_id_key;
CREATE OR REPLACE FUNCTION begin_batch(of_job text, of_org text, of_key text, of_endpoint text, of_file text, of_window text, of_metadata jsonb,
  of_verify text, of_region text, deadline_in_ms float8, of_priority int, of_model text, of_tuned text, of_adapter text,
  of_cap numeric, of_rate_caps jsonb, of_expected_s float8, custom_ids text[], input_offsets bigint[], input_lengths int[],
  identity_key text, identity_route text, identity_hash bytea, replay_within_ms float8,
  OUT outcome text, OUT earlier text, OUT made job) LANGUAGE plpgsql AS $$
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
  IF identity_key IS NOT NULL THEN
    SELECT claim.outcome, claim.earlier INTO outcome, earlier
      FROM claim_request(of_org, identity_key, identity_route, identity_hash, replay_within_ms, of_job) AS claim;
    IF outcome <> 'claimed' THEN
      RETURN;
    END IF;
  END IF;
  PERFORM 1 FROM hold_funds(of_org, of_key, of_job, of_cap) AS held WHERE held.refusal IS NULL;
  IF NOT FOUND THEN
    DELETE FROM idempotency WHERE org_id = of_org AND key = identity_key;
    outcome := 'refused';
    RETURN;
  END IF;
  INSERT INTO job (id, org_id, api_key_id, kind, state, endpoint, model, tuned_model, adapter, input_file_id, completion_window,
    metadata, verify, region, trust, cap, rate_caps, row_count, deadline, priority, expected_s, in_progress_at)
  SELECT of_job, org.id, of_key, 'batch', 'in_progress', of_endpoint, of_model, of_tuned, of_adapter, of_file, of_window,
    of_metadata, of_verify, of_region, org.trust, of_cap, of_rate_caps, cardinality(custom_ids),
    clock_timestamp() + deadline_in_ms * interval '1 millisecond', of_priority, of_expected_s, clock_timestamp()
  FROM org WHERE org.id = of_org
  RETURNING * INTO STRICT made;
  INSERT INTO job_row (job_id, row_no, custom_id, input_offset, input_length)
  SELECT of_job, (line.no - 1)::int, custom_id, input_offset, input_length
  FROM unnest(custom_ids, input_offsets, input_lengths) WITH ORDINALITY AS line (custom_id, input_offset, input_length, no);
  INSERT INTO outbox (topic, message) VALUES ('place', jsonb_build_object('job', of_job));
  -- An accepted batch is not lost, whatever the server does by default.
  PERFORM set_config('synchronous_commit', 'on', true);
  outcome := 'made';
END $$;

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
