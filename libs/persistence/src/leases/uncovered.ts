import { UNCOVERED } from '@freehold/domain';
import type { Sql } from '../database.ts';

/**
 * Cancels what no order pays for: jobs of organisations that pay by themselves, oldest first, as far as their holds are beyond
 * what their orders cover in the next epoch (`covered_of`). The reason stands in the job's errors, and in a fine-tune's events.
 */
export async function cancelUncovered(sql: Sql): Promise<void> {
  await sql.query(
    `WITH payer AS (
       SELECT org_id, covered_of(org_id) AS covered FROM (
         SELECT DISTINCT org_id FROM job
         WHERE state = 'in_progress' AND trust = 'self-custody' AND kind IN ('batch', 'fine-tune')) AS of
     ), live AS (
       SELECT job.id, payer.covered, sum(account.balance) OVER (PARTITION BY job.org_id ORDER BY job.created_at, job.id) AS held
       FROM payer JOIN job ON job.org_id = payer.org_id AND job.state IN ('in_progress', 'cancelling')
       JOIN account ON account.kind = 'hold' AND account.owner = job.id AND account.asset = 'money'
       WHERE payer.covered IS NOT NULL
     ), doomed AS (
       SELECT id FROM job WHERE id IN (SELECT id FROM live WHERE held > covered) AND state = 'in_progress'
         AND kind IN ('batch', 'fine-tune') ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
     ), ended AS (
       UPDATE job SET state = 'cancelling', cancelling_at = clock_timestamp(), errors = $1
       FROM doomed WHERE job.id = doomed.id RETURNING job.id
     )
     INSERT INTO fine_tune_event (job_id, key, level, type, message)
     SELECT ended.id, $2, 'warn', 'message', $3 FROM ended JOIN fine_tune ON fine_tune.job_id = ended.id
     ON CONFLICT (job_id, key) DO NOTHING`,
    [JSON.stringify([{ ...UNCOVERED, param: null, line: null }]), UNCOVERED.code, UNCOVERED.message],
  );
}
