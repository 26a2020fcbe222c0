-- Tasks of the workers, where no message broker keeps them. `body` is the task as JSON. `lease` goes
-- up with each take: only who has the newest may change the task. `due_at` is when it may be taken;
-- of a running one the end of its lease, of a finished one when it ended.
CREATE TABLE tasks (
    id       TEXT   NOT NULL PRIMARY KEY,
    priority TEXT   NOT NULL,
    state    TEXT   NOT NULL,
    due_at   BIGINT NOT NULL,
    lease    BIGINT NOT NULL,
    body     TEXT   NOT NULL
);
CREATE INDEX tasks_due ON tasks (priority, due_at) WHERE state IN ('queued', 'running');
CREATE INDEX tasks_ended ON tasks (state, due_at) WHERE state IN ('done', 'dead');
