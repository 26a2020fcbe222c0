-- A user whose hash is '!' has no password and cannot log in.
ALTER TABLE users ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

ALTER TABLE projects ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE projects ADD COLUMN status TEXT NOT NULL DEFAULT 'active';
ALTER TABLE projects ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
CREATE INDEX projects_by_owner ON projects (owner_id);

ALTER TABLE contracts ADD COLUMN employee_id TEXT NOT NULL DEFAULT 'demo';
ALTER TABLE contracts ADD COLUMN value_minor BIGINT NOT NULL DEFAULT 0;
ALTER TABLE contracts ADD COLUMN currency TEXT NOT NULL DEFAULT 'SAR';
ALTER TABLE contracts ADD COLUMN status TEXT NOT NULL DEFAULT 'active';
ALTER TABLE contracts ADD COLUMN created_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE contracts ADD COLUMN updated_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE contracts ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
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
