-- Runs, their history, what came in for them, and who works on them.
--
-- No foreign keys between runs, history and inbox: each row of history would lock and look up its run again, which costs more
-- than the insert; all three are written by statements that hold the run's row lock, and deleted by one statement.

create table runs (
    id uuid primary key,
    namespace text not null,
    workflow text not null,
    version text,                                   -- null until a worker registers the workflow
    pool text,
    build text,                                     -- set where the pool pins runs to builds
    status text not null check (status in ('scheduled', 'queued', 'running', 'waiting', 'paused', 'completed', 'failed', 'cancelled')),
    epoch integer not null default 0 check (epoch >= 0),
    worker text,                                    -- who claimed it last; it holds the run only while status is running
    commit_no integer not null default 0,           -- of this epoch: a repeated commit is recognized by it
    deliveries integer not null default 0,          -- claims since the last progress
    history_len integer not null default 0,
    steps integer not null default 0,
    inbox_seq integer not null default 0,           -- number of the newest inbox item
    inbox_acked_seq integer not null default 0,     -- up to which inbox item the worker that holds the run has said that it has them
    ref text,
    ref_hash text,
    input text not null,                            -- payloads are JSON as text: jsonb would rewrite numbers and refuse NUL escapes
    output text,
    error text,
    state text,
    waits text,                                     -- what a waiting run waits for, as JSON, for people
    waits_events text,                              -- the names of awaited events, separated by commas (names have none)
    waits_children boolean not null default false,
    waits_retry boolean not null default false,
    due_at timestamptz,
    parent uuid,
    on_parent_close text not null default 'abandon' check (on_parent_close in ('cancel', 'abandon')),
    has_children boolean not null default false,
    closes_children boolean not null default false, -- ended, and its children have not all been told yet
    cancel_requested boolean not null default false,
    pause_requested boolean not null default false,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    claimed_at timestamptz,
    updated_at timestamptz not null default now(),
    finished_at timestamptz,
    -- S13, S14: an ended run has an end, and only an ended run has one.
    check ((finished_at is not null) = (status in ('completed', 'failed', 'cancelled'))),
    -- A run is in the hands of a worker only if it could be: it has a version, a pool and an owner.
    check (status <> 'running' or (worker is not null and version is not null and pool is not null and claimed_at is not null)),
    -- A parked run can be woken.
    check (status <> 'waiting' or due_at is not null or waits_events is not null or waits_children),
    check (status <> 'scheduled' or due_at is not null),
    check ((ref is null) = (ref_hash is null))
) with (
    fillfactor = 75,                                -- room for the new version of a row beside the old one (HOT)
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1, autovacuum_analyze_scale_factor = 0.05
);

-- runs.list, runs.count, retention: a page of one status, newest first; the rest of a status is one range.
create index runs_listed on runs (namespace, status, id);
-- starts.insert, runs.by_ref: at most one run has a ref (S2).
create unique index runs_ref on runs (namespace, ref) where ref is not null;
-- claims.any, sweeps.queued: what may be claimed, oldest first.
create index runs_queued on runs (namespace, pool, workflow, version, id) where status = 'queued';
-- timers.fire, timers.next: what is due.
create index runs_due on runs (due_at) where status in ('waiting', 'scheduled');
-- sweeps.orphans, registry.inbox_pending: what a worker holds.
create index runs_held on runs (namespace, worker) where status = 'running';
-- runs.children, sweeps.close_children.
create index runs_children on runs (parent, id) where parent is not null;
-- sweeps.closing: ended parents whose children have not been told.
create index runs_closing on runs (id) where closes_children;
-- sweeps.unheard: runs that are to be cancelled and wait for somebody who tells their code.
create index runs_unheard on runs (id) where status = 'queued' and cancel_requested;
-- registry.assign: runs that nobody could serve when they were started.
create index runs_unassigned on runs (namespace, workflow, version) where (version is null or pool is null) and finished_at is null;

create table history (
    run_id uuid not null,
    seq integer not null check (seq > 0),           -- number of the first entry of this chunk
    count integer not null check (count > 0),
    entries text not null,                          -- a JSON array of `count` entries
    epoch integer not null,
    worker text,                                    -- null where the server wrote it
    at timestamptz not null default now(),
    primary key (run_id, seq)
) with (autovacuum_vacuum_insert_scale_factor = 0.1);

create table inbox (
    run_id uuid not null,
    seq integer not null check (seq > 0),
    kind text not null check (kind in ('event', 'child', 'cancel')),
    name text,
    payload text,
    child uuid,
    status text,
    error text,
    event_id text,
    consumed boolean not null default false,
    at timestamptz not null default now(),
    primary key (run_id, seq)
);

-- lanes.known_events: a run takes an event id once (S24).
create unique index inbox_event_id on inbox (run_id, event_id) where event_id is not null;

-- Children that the code of their parents cancelled, until they have been asked to end. A table of its own: a mark in the child's row
-- would lock it while its parent's batch holds its locks, out of the order of ids in which all batches take theirs.
create table child_cancellations (
    run_id uuid primary key                         -- lanes.note_child_cancellations, sweeps.child_cancellations: who cancels a child again changes nothing
);

-- Pauses, resumes and retries that were carried out, by the ids that their senders gave them: whatever repeats one later, it has no effect.
create table orders (
    run_id uuid not null,
    id text not null,
    primary key (run_id, id)                        -- lanes.known_orders, sweeps.retire
);

create table workers (
    namespace text not null,
    id text not null,
    pool text not null,
    build text,
    pod text,
    carries text[] not null,                        -- workflow@version: without builds, each worker serves what it itself carries
    concurrency integer not null check (concurrency > 0),
    active integer not null default 0,
    draining boolean not null default false,
    registered_at timestamptz not null default now(),
    heartbeat_at timestamptz not null default now(),
    registered_no integer not null default 0,       -- how often it has: an older registration that arrives late takes nothing from it
    primary key (namespace, id)
) with (fillfactor = 50);

create table builds (
    namespace text not null,
    pool text not null,
    name text not null,
    promoted_at timestamptz,
    registered_at timestamptz not null default now(),
    primary key (namespace, pool, name)
);

-- What a pool's builds carry; outlives the workers. `build` is '' outside Kubernetes, so that it can be part of the key.
create table registrations (
    namespace text not null,
    pool text not null,
    build text not null default '',
    workflow text not null,
    version text not null,
    registered_at timestamptz not null default now(),
    used_at timestamptz not null default now(),     -- when somebody carried or needed it, to within some days; what nobody does is forgotten
    primary key (namespace, pool, build, workflow, version)
);

-- What the events of a version take, as the workers of a build have registered it: payloads that fit none of it are refused where they are sent.
create table event_schemas (
    namespace text not null,
    workflow text not null,
    version text not null,
    pool text not null,
    build text not null,
    event text not null,
    digest text not null,                           -- of the schema: workers of one build may have another, outside Kubernetes
    schema text not null,
    primary key (namespace, workflow, version, pool, build, event, digest), -- event_schemas.texts
    foreign key (namespace, pool, build, workflow, version) references registrations (namespace, pool, build, workflow, version) on delete cascade
);

create table pools (
    namespace text not null,
    name text not null,
    versioning text not null default 'ByVersion' check (versioning in ('ByVersion', 'Pinned')),
    ever_pinned boolean not null default false,     -- whether it ever was pinned: there may be runs that stay on their builds
    used_at timestamptz not null default now(),     -- when somebody last set it: until some time after, its builds are kept though nobody uses them
    ramp_build text,                                -- has not taken over, and gets a share of the new runs
    ramp_percent integer check (ramp_percent between 0 and 100),
    primary key (namespace, name),
    check ((ramp_build is null) = (ramp_percent is null))
);

-- The runs that a roll-out has drawn for a build while that has a share. A table of its own: what no roll-out draws costs nothing, neither at a start nor at an end.
create table trials (
    run_id uuid not null,
    namespace text not null,
    pool text not null,
    build text not null,
    versioning text not null check (versioning in ('ByVersion', 'Pinned')), -- how the pool treated builds then: what Pinned promises is kept
    primary key (run_id, namespace)                 -- sweeps.retire, trials.let_go; of the one who names the run, which need not be its own
);

-- trials.figures: the newest runs of a build.
create index trials_of_build on trials (namespace, pool, build, run_id);

-- Users of Redis, one for each namespace, which the servers make there; all servers must name the same password.
create table redis_users (
    name text primary key,                          -- redis_users.use: of the namespace and a digest of its tokens
    namespace text not null,
    password text not null,
    used_at timestamptz not null default now()      -- when a server last needed it; an old one goes
);

-- What the data have gone through: one row for each time that they were restored, and the first. What lies after the point to which they were
-- restored happened for workers and servers, and not for the data: nothing of it may be written any more (S37, decision 25).
create table incarnations (
    number integer primary key check (number > 0),
    token uuid not null unique,                     -- a backup may be restored twice: the numbers are equal then
    place text not null,                            -- where the data were: cluster, database and timeline; elsewhere they are restored ones
    first_epoch integer not null check (first_epoch >= 0), -- of runs that are made from then on: a child may be born again under its id
    beat bigint not null default 0,                 -- raised again and again: data that say a lower one than a server has seen were put back
    begun_at timestamptz not null default now(),
    redis_rebuilt_at timestamptz                    -- when Redis was rebuilt; null while it may hold what is no more
);
