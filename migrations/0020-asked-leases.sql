-- Until when a lease whose node was asked to hand back its last rows is extended: asked by one scheduler, ended by any.
ALTER TABLE lease ADD COLUMN yield_by timestamptz;
