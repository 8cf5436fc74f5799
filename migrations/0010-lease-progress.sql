-- When a lease last got further: granted, started, or a checkpoint with rows. A node that heartbeats and delivers nothing keeps
-- its lease no longer than STALL_MS from here.
ALTER TABLE lease ADD COLUMN progressed_at timestamptz NOT NULL DEFAULT clock_timestamp();
