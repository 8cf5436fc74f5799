import { UNCOVERED } from '@freehold/domain';
import type { Sql } from '../database.ts';

/**
 * Cancels what no order pays for: jobs of organisations that pay by themselves, oldest first, as far as their holds are beyond
 * what their orders cover in the next epoch (`covered_of`).
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
     )
     UPDATE job SET state = 'cancelling', cancelling_at = clock_timestamp(), errors = $1
     FROM doomed WHERE job.id = doomed.id`,
    [JSON.stringify([{ ...UNCOVERED, param: null, line: null }])],
  );
}
