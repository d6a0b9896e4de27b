-- What is kept of commands, and who tracks them. Names are those of the log and of the outcomes; flags are 0 or 1,
-- times are milliseconds since 1970, the history is JSON. A device's commands outlive it: there is no reference.

-- partition_number and place: where the command lies in the log, null until a tracker has read it there.
-- handed: it is being given to a connection. attempt: how often it was. payload: null once the command is settled.
-- told: a tracker has read in the log of outcomes how it ended.
CREATE TABLE commands (
    id TEXT NOT NULL PRIMARY KEY,
    application TEXT NOT NULL,
    device TEXT NOT NULL,
    name TEXT NOT NULL,
    partition_number BIGINT,
    place BIGINT,
    state TEXT NOT NULL,
    reason TEXT,
    kept BIGINT NOT NULL,
    handed BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    accepted BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    history TEXT NOT NULL,
    idempotency_key TEXT,
    fingerprint TEXT,
    supersede_key TEXT,
    told BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    payload BLOB
);

CREATE INDEX commands_by_device ON commands (application, device, id);

-- The conditions of the following are written in the statements as they are here.
CREATE INDEX commands_open_by_device ON commands (application, device, id) WHERE state IN ('accepted', 'pending');

CREATE INDEX commands_open_by_partition ON commands (partition_number, place) WHERE state IN ('accepted', 'pending');

CREATE INDEX commands_untold ON commands (partition_number, accepted) WHERE told = 0 AND state NOT IN ('accepted', 'pending');

CREATE INDEX commands_unseen ON commands (accepted) WHERE partition_number IS NULL;

CREATE INDEX commands_settled ON commands (updated) WHERE state NOT IN ('accepted', 'pending');

CREATE UNIQUE INDEX commands_by_key ON commands (application, device, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- Who tracks a partition, and until when unless renewed.
CREATE TABLE partitions (
    partition_number BIGINT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    holder TEXT NOT NULL,
    until BIGINT NOT NULL
);

-- What a tracker remembers of the connections of a partition, and up to where it had read. Beside the leases, which are
-- written each second.
CREATE TABLE snapshots (
    partition_number BIGINT NOT NULL PRIMARY KEY,
    commands_place BIGINT,
    outcomes_place BIGINT,
    snapshot BLOB NOT NULL
);

-- The trackers that live, with or without a partition.
CREATE TABLE trackers (
    holder TEXT NOT NULL PRIMARY KEY,
    until BIGINT NOT NULL
);
