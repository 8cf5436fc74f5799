-- A row is written once: when it ends. Until then it stands in a block of up to 64 rows, as they were read from the file. A record and
-- an index entry for each row that waits, and another version of it for its end, were a third of what a placement of one row cost,
-- and nearly all of it for tasks of many (docs/decisions/0057).
CREATE TABLE row_block (
  job_id text NOT NULL,
  row_from integer NOT NULL CHECK (row_from >= 0),
  custom_ids text[] NOT NULL CHECK (cardinality(custom_ids) BETWEEN 1 AND 64 AND array_position(custom_ids, NULL) IS NULL
    AND array_position(custom_ids, '') IS NULL),
  input_offsets bigint[] NOT NULL CHECK (cardinality(input_offsets) = cardinality(custom_ids)),
  input_lengths integer[] NOT NULL CHECK (cardinality(input_lengths) = cardinality(custom_ids)),
  PRIMARY KEY (job_id, row_from)
) WITH (toast_tuple_target = 8160); -- Read again with every lease: on its page, as it is, unless its names are long.
DO $$ DECLARE odd text; BEGIN
  SELECT job_id INTO odd FROM job_row GROUP BY job_id HAVING count(*) <> max(row_no) + 1 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the rows of job % have gaps: records of it were lost. docs/operating/upgrading.md says under "Rows that were lost" what to do', odd;
  END IF;
END $$;
INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths)
  SELECT job_id, min(row_no), array_agg(custom_id ORDER BY row_no), array_agg(input_offset ORDER BY row_no),
    array_agg(input_length ORDER BY row_no)
  FROM job_row GROUP BY job_id, row_no / 64;

-- The terminal record of a row: the winning lease and where its result lies, or why there is none.
DROP TRIGGER job_row_finds_its_job ON job_row;
DROP TRIGGER job_row_keeps_its_job ON job_row;
DELETE FROM job_row WHERE state = 'pending';
ALTER TABLE job_row DROP COLUMN custom_id, DROP COLUMN input_offset, DROP COLUMN input_length, ALTER COLUMN state DROP DEFAULT,
  DROP CONSTRAINT job_row_state_check, ADD CONSTRAINT row_end_state_check CHECK (state IN ('succeeded', 'failed', 'expired', 'cancelled')),
  RESET (fillfactor);
ALTER TABLE job_row RENAME CONSTRAINT job_row_pkey TO row_end_pkey;
ALTER TABLE job_row RENAME CONSTRAINT job_row_row_no_check TO row_end_row_no_check;
ALTER TABLE job_row RENAME TO row_end;

ALTER FUNCTION job_row_finds_its_job() RENAME TO row_finds_its_job;
CREATE TRIGGER row_block_finds_its_job AFTER INSERT ON row_block REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION row_finds_its_job();
CREATE TRIGGER row_end_finds_its_job AFTER INSERT ON row_end REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION row_finds_its_job();
CREATE TRIGGER row_block_keeps_its_job AFTER UPDATE OF job_id ON row_block
  FOR EACH ROW WHEN (NEW.job_id IS DISTINCT FROM OLD.job_id) EXECUTE FUNCTION refuse_other_owner();
CREATE TRIGGER row_end_keeps_its_job AFTER UPDATE OF job_id ON row_end
  FOR EACH ROW WHEN (NEW.job_id IS DISTINCT FROM OLD.job_id) EXECUTE FUNCTION refuse_other_owner();
CREATE OR REPLACE FUNCTION job_leaves_no_orphans() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM row_block WHERE job_id = OLD.id) OR EXISTS (SELECT 1 FROM row_end WHERE job_id = OLD.id)
    OR EXISTS (SELECT 1 FROM task WHERE job_id = OLD.id) THEN
    RAISE EXCEPTION 'job % has rows or tasks: it stays', OLD.id USING ERRCODE = 'foreign_key_violation';
  END IF;
  RETURN NULL;
END $$;

-- Each row of a job as it was asked for, and what came of it. Who wants a few of many says by block_from (less than 64 below the
-- first) in which blocks they are.
CREATE VIEW job_row AS
  SELECT block.job_id, block.row_from AS block_from, block.row_from + line.no::integer - 1 AS row_no,
    line.custom_id, line.input_offset, line.input_length, coalesce(ended.state, 'pending') AS state,
    ended.task_id, ended.epoch, ended.result_offset, ended.result_length, ended.error_code, ended.error_message
  FROM row_block AS block
  CROSS JOIN LATERAL unnest(block.custom_ids, block.input_offsets, block.input_lengths) WITH ORDINALITY
    AS line (custom_id, input_offset, input_length, no)
  LEFT JOIN row_end AS ended ON ended.job_id = block.job_id AND ended.row_no = block.row_from + line.no::integer - 1;

-- The leases whose clock ran out are looked for among those that have not ended. An index by the clock was an entry for each lease, and
-- another one (with one in each of its other indexes) for every time that it was extended.
DROP INDEX lease_alive;
-- Ended leases leave that index at each vacuum: not only when a fifth of all leases that ever were has ended since the last.
ALTER TABLE lease SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01);

-- Both as they were, but for their rows.
CREATE OR REPLACE FUNCTION begin_batch(of_job text, of_org text, of_key text, of_endpoint text, of_file text, of_window text, of_metadata jsonb,
  of_verify text, of_region text, deadline_in_ms float8, of_priority int, of_model text, of_tuned text, of_adapter text,
  of_cap numeric, of_rate_caps jsonb, of_expected_s float8, of_counted numeric, of_prompt_blocks text[],
  custom_ids text[], input_offsets bigint[], input_lengths int[],
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
  -- A first try may take over the claim of an equal request before it. Where the money for it is not there, that claim is left as it
  -- was: who asks for the answer to the earlier request again gets it, and no second batch.
  BEGIN
    IF identity_key IS NOT NULL THEN
      SELECT claim.outcome, claim.earlier INTO outcome, earlier
        FROM claim_request(of_org, identity_key, identity_route, identity_hash, replay_within_ms, of_job) AS claim;
      IF outcome <> 'claimed' THEN
        RETURN;
      END IF;
    END IF;
    PERFORM 1 FROM hold_funds(of_org, of_key, of_job, of_cap) AS held WHERE held.refusal IS NULL;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'no money' USING ERRCODE = 'FH001';
    END IF;
  EXCEPTION WHEN SQLSTATE 'FH001' THEN
    outcome := 'refused';
    earlier := NULL;
    RETURN;
  END;
  INSERT INTO job (id, org_id, api_key_id, kind, state, endpoint, model, tuned_model, adapter, input_file_id, completion_window,
    metadata, verify, region, trust, cap, rate_caps, row_count, deadline, priority, expected_s, counted, prompt_blocks,
    in_progress_at)
  SELECT of_job, org.id, of_key, 'batch', 'in_progress', of_endpoint, of_model, of_tuned, of_adapter, of_file, of_window,
    of_metadata, of_verify, of_region, org.trust, of_cap, of_rate_caps, cardinality(custom_ids),
    clock_timestamp() + deadline_in_ms * interval '1 millisecond', of_priority, of_expected_s, of_counted, of_prompt_blocks,
    clock_timestamp()
  FROM org WHERE org.id = of_org
  RETURNING * INTO STRICT made;
  INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths)
  SELECT of_job, n, custom_ids[n + 1:n + 64], input_offsets[n + 1:n + 64], input_lengths[n + 1:n + 64]
  FROM generate_series(0, cardinality(custom_ids) - 1, 64) AS n;
  INSERT INTO outbox (topic, message) VALUES ('place', jsonb_build_object('job', of_job));
  -- An accepted batch is not lost, whatever the server does by default.
  PERFORM set_config('synchronous_commit', 'on', true);
  outcome := 'made';
END $$;
CREATE OR REPLACE FUNCTION open_stream(of_job text, of_org text, of_key text, of_kind text, of_endpoint text, of_model text, of_metadata jsonb,
  of_verify text, of_region text, of_cap numeric, of_rate_caps jsonb, lease_ms float8, of_input_length integer, of_task uuid,
  of_node text, of_nonce bytea, of_digest text, of_engine_class text, of_rates jsonb,
  identity_key text, identity_route text, identity_hash bytea, replay_within_ms float8,
  OUT outcome text, OUT available numeric, OUT earlier text) LANGUAGE plpgsql AS $$
BEGIN
  IF identity_key IS NOT NULL THEN
    SELECT * INTO outcome, earlier
      FROM claim_request(of_org, identity_key, identity_route, identity_hash, replay_within_ms, of_job);
    IF outcome <> 'claimed' THEN
      RETURN;
    END IF;
  END IF;
  SELECT * INTO outcome, available FROM hold_funds(of_org, of_key, of_job, of_cap);
  IF outcome IS NOT NULL THEN
    DELETE FROM idempotency WHERE org_id = of_org AND key = identity_key;
    RETURN;
  END IF;
  INSERT INTO job (id, org_id, api_key_id, kind, state, endpoint, model, metadata, verify, region, trust, cap, rate_caps,
    row_count, next_row, deadline, in_progress_at)
  SELECT of_job, org.id, of_key, of_kind, 'in_progress', of_endpoint, of_model, of_metadata, of_verify, of_region, org.trust,
    of_cap, of_rate_caps, 1, 1, clock_timestamp() + 2 * lease_ms * interval '1 millisecond', clock_timestamp()
  FROM org WHERE org.id = of_org;
  INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths)
    VALUES (of_job, 0, ARRAY[of_job], ARRAY[0], ARRAY[of_input_length]);
  INSERT INTO task (id, job_id, org_id, row_from, row_to, state, epoch) VALUES (of_task, of_job, of_org, 0, 1, 'leased', 1);
  INSERT INTO lease (task_id, epoch, node_id, job_id, nonce, model, model_digest, engine_class, rates, road, lease_until)
    VALUES (of_task, 1, of_node, of_job, of_nonce, of_model, of_digest, of_engine_class, of_rates, 'stream',
      clock_timestamp() + lease_ms * interval '1 millisecond');
  PERFORM set_config('synchronous_commit', 'off', true);
  outcome := 'opened';
END $$;
