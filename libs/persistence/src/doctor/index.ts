export { sqlCheck, type DoctorCheck, type DoctorFacts } from './check.ts';
export { DOCTOR_CHECKS, examineWith, runDoctor, type DoctorReport } from './doctor.ts';
