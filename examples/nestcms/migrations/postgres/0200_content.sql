-- A user whose hash is '!' has no password and cannot log in.
CREATE TABLE users (
    id            TEXT   NOT NULL PRIMARY KEY,
    email         TEXT   NOT NULL UNIQUE,
    password_hash TEXT   NOT NULL,
    role          TEXT   NOT NULL,
    name          TEXT   NOT NULL DEFAULT '',
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL DEFAULT 0,
    version       BIGINT NOT NULL DEFAULT 1
);

CREATE TABLE projects (
    id          TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    owner_id    TEXT   NOT NULL,
    description TEXT   NOT NULL,
    status      TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    version     BIGINT NOT NULL
);
CREATE INDEX projects_by_owner ON projects (owner_id);

CREATE TABLE contracts (
    id          TEXT   NOT NULL PRIMARY KEY,
    project_id  TEXT   NOT NULL REFERENCES projects (id),
    employee_id TEXT   NOT NULL,
    title       TEXT   NOT NULL,
    value_minor BIGINT NOT NULL,
    currency    TEXT   NOT NULL,
    status      TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    version     BIGINT NOT NULL
);
CREATE INDEX contracts_by_project ON contracts (project_id);
CREATE INDEX contracts_by_employee ON contracts (employee_id);

CREATE TABLE earnings (
    id          TEXT   NOT NULL PRIMARY KEY,
    contract_id TEXT   NOT NULL REFERENCES contracts (id),
    user_id     TEXT   NOT NULL,
    value_minor BIGINT NOT NULL,
    currency    TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    version     BIGINT NOT NULL
);
CREATE INDEX earnings_by_contract ON earnings (contract_id);
CREATE INDEX earnings_by_user ON earnings (user_id);

CREATE TABLE articles (
    id         TEXT   NOT NULL PRIMARY KEY,
    project_id TEXT   NOT NULL REFERENCES projects (id),
    author_id  TEXT   NOT NULL,
    title      TEXT   NOT NULL,
    body       TEXT   NOT NULL,
    status     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version    BIGINT NOT NULL
);
CREATE INDEX articles_by_project ON articles (project_id);
CREATE INDEX articles_by_author ON articles (author_id);

INSERT INTO projects VALUES
    ('project-1', 'Company site', 'demo', '', 'active', 0, 0, 1),
    ('project-2', 'Spring campaign', 'demo', '', 'active', 0, 0, 1);
INSERT INTO contracts VALUES
    ('contract-1', 'project-1', 'demo', 'Design and build', 0, 'SAR', 'active', 0, 0, 1),
    ('contract-2', 'project-2', 'demo', 'Copy writing', 0, 'SAR', 'active', 0, 0, 1);
