-- How many rows were signed when a node was asked to hand back the rest: with more of them since, it works on it, and is not blamed.
ALTER TABLE lease ADD COLUMN asked_rows integer;
