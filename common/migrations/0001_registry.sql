-- Applications, devices and tokens. This SQL is for SQLite and PostgreSQL alike; flags are 0 or 1, times are
-- milliseconds since 1970, labels and credentials are JSON.

CREATE TABLE applications (
    name TEXT NOT NULL PRIMARY KEY,
    labels TEXT NOT NULL
);

-- A login reads one row by its primary key.
CREATE TABLE devices (
    application TEXT NOT NULL REFERENCES applications (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    labels TEXT NOT NULL,
    credentials TEXT NOT NULL,
    PRIMARY KEY (application, name)
);

-- Tokens of applications, as the base64url of their SHA-256.
CREATE TABLE tokens (
    id TEXT NOT NULL PRIMARY KEY,
    application TEXT NOT NULL REFERENCES applications (name) ON DELETE CASCADE,
    digest TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    description TEXT NOT NULL,
    created BIGINT NOT NULL
);

CREATE INDEX tokens_by_application ON tokens (application, id);

-- The number of the last write. Each write counts it up first, and so waits for the one before.
CREATE TABLE writes (
    last BIGINT NOT NULL
);

INSERT INTO writes (last) VALUES (0);

-- In which write a device was last changed or deleted, or (device '') an application was deleted, and by whom.
CREATE TABLE changes (
    application TEXT NOT NULL,
    device TEXT NOT NULL,
    write_number BIGINT NOT NULL,
    origin TEXT NOT NULL,
    PRIMARY KEY (application, device)
);

CREATE INDEX changes_by_write ON changes (write_number);
