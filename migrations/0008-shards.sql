-- Who places on which part of the nodes. The epoch rises with every holder, and no lease is granted under an older one.
CREATE TABLE shard (
  no integer PRIMARY KEY CHECK (no >= 0),
  epoch bigint NOT NULL DEFAULT 1 CHECK (epoch >= 1),
  -- The holder's session, which has the advisory lock: a holder that stands still is disconnected by who wants to follow.
  session integer NOT NULL,
  held_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  alive_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
