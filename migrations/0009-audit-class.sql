-- Whether an auditor judged inside the lease's engine class, where thresholds are tight enough to hold its word against it.
ALTER TABLE audit ADD COLUMN same_class boolean NOT NULL DEFAULT true;
