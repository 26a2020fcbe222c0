CREATE TABLE projects (
    id       TEXT NOT NULL PRIMARY KEY,
    name     TEXT NOT NULL,
    owner_id TEXT NOT NULL
);
CREATE TABLE contracts (
    id         TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id),
    title      TEXT NOT NULL
);
INSERT INTO projects (id, name, owner_id) VALUES
    ('project-1', 'Company site', 'demo'),
    ('project-2', 'Spring campaign', 'demo');
INSERT INTO contracts (id, project_id, title) VALUES
    ('contract-1', 'project-1', 'Design and build'),
    ('contract-2', 'project-2', 'Copy writing');
