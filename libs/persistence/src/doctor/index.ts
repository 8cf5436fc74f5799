export { PgBooksWatch } from './pg-books-watch.ts';
export { sqlCheck, type DoctorCheck, type DoctorFacts } from './check.ts';
export { DOCTOR_CHECKS, examineWith, pendingTransactions, runDoctor, type DoctorReport } from './doctor.ts';
