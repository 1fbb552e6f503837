-- name: state
-- Of each namespace and table, what changes whenever its rows do: each row that is written carries its transaction's number. The numbers
-- are scrambled before they are added up, because commits do not come in the order of the numbers, so that sums of the numbers could be equal by chance.
select namespace, 'registrations' as part, count(*) as count, sum(hashint8(xmin::text::bigint)::bigint) as written from registrations group by namespace
union all
select namespace, 'builds', count(*), sum(hashint8(xmin::text::bigint)::bigint) from builds group by namespace
union all
select namespace, 'pools', count(*), sum(hashint8(xmin::text::bigint)::bigint) from pools group by namespace
union all
select namespace, 'event_schemas', count(*), sum(hashint8(xmin::text::bigint)::bigint) from event_schemas group by namespace;

-- name: registrations
-- What every build of every pool of these namespaces carries.
select namespace, pool, build, workflow, version, registered_at from registrations where namespace = any($1::text[]);

-- name: builds
-- The builds of all pools of these namespaces.
select namespace, pool, name, promoted_at, registered_at from builds where namespace = any($1::text[]);

-- name: pools
-- The pools of these namespaces with settings of their own.
select namespace, name, versioning, ever_pinned, ramp_build, ramp_percent from pools where namespace = any($1::text[]);

-- name: workers
-- All workers, with the seconds since each was heard.
select namespace, id, pool, build, pod, carries, concurrency, active, draining, registered_at, heartbeat_at,
    extract(epoch from clock_timestamp() - heartbeat_at)::float8 as silent
from workers;

-- name: register_worker
-- A worker is here, or is back.
insert into workers (namespace, id, pool, build, pod, concurrency, carries, registered_no) values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (namespace, id) do update
set pool = excluded.pool, build = excluded.build, pod = excluded.pod, concurrency = excluded.concurrency, carries = excluded.carries, active = 0, draining = false,
    registered_at = now(), heartbeat_at = now(), registered_no = excluded.registered_no;

-- name: registered_no
-- The number of a worker's last registration.
select registered_no from workers where namespace = $1 and id = $2;

-- name: register_build
-- A build is here.
insert into builds (namespace, pool, name) values ($1, $2, $3)
on conflict (namespace, pool, name) do update set name = excluded.name where false;  -- locks the row of one that is there: see unused.lock_builds

-- name: register_versions
-- What it carries.
insert into registrations (namespace, pool, build, workflow, version)
select $1, $2, $3, u.workflow, u.version from unnest($4::text[], $5::text[]) as u (workflow, version)
on conflict (namespace, pool, build, workflow, version) do update set used_at = now() where registrations.used_at < now() - interval '1 day';

-- name: heartbeat
-- A worker lives; nothing where it is not known (any more).
update workers set heartbeat_at = now(), active = $3 where namespace = $1 and id = $2 returning draining;

-- name: inbox_pending
-- The runs in a worker's hands whose inbox or pause it has not acknowledged.
select id from runs where status = 'running' and namespace = $1 and worker = $2 and (inbox_seq > inbox_acked_seq or pause_requested) limit 1000;

-- name: drain
-- Let a worker claim no more, or again.
update workers set draining = $3 where namespace = $1 and id = $2 returning id;

-- name: remove_worker
-- A worker is gone; with $3, if it has not registered with a larger number.
delete from workers where namespace = $1 and id = $2 and ($3::int is null or registered_no <= $3) returning id;

-- name: remove_pod
-- All workers of a pod are gone.
delete from workers where namespace = $1 and pod = $2 returning id;

-- name: unassigned
-- Registered workflows that runs wait for which could not be assigned when they were started; with $1, of these workflows ($2) of that namespace.
-- Looked for from what is registered, of which there is a bounded number: of runs that nobody will ever serve there may be any.
select known.*
from (select distinct namespace, workflow from registrations where $1::text is null or (namespace = $1 and workflow = any($2::text[]))) as known
cross join lateral (
    select from runs
    where namespace = known.namespace and workflow = known.workflow and version is null and (version is null or pool is null) and finished_at is null
    limit 1
) as waiting;

-- name: just_registered
-- Workflows of which a version was registered in the last $1 seconds, at whichever server.
select distinct namespace, workflow from registrations where registered_at > now() - $1 * interval '1 second';

-- name: assign
-- Give such runs, $6 at most, the version and pool that serve them; the version is chosen before, here it is only written. Found along the
-- index, and only then locked, in the order of ids as everywhere. Where $7 is not null, only those that a roll-out with this share draws (engine/dispatch/ramps.py),
-- which is remembered, with how the pool treats builds ($8).
with found as materialized (
    select id from runs
    where version is null and namespace = $1 and workflow = $2 and (pool is null or pool = $4) and (version is null or pool is null) and finished_at is null
        and ($7::int is null or (('x' || right(id::text, 4))::bit(16)::int * 100) >> 16 < $7)
    limit $6
), locked as materialized (
    select id from runs where id = any(array(select id from found)) and version is null and finished_at is null order by id for update
), noted as (
    insert into trials (run_id, namespace, pool, build, versioning) select id, $1, $4, $5, $8 from locked where $8::text is not null on conflict do nothing
)
update runs
set version = $3, pool = $4, build = $5, updated_at = now()
where id = any(array(select id from locked))
returning namespace, pool, workflow, version, build, id, status;

-- name: poolless
-- Registered versions that runs name which nobody had registered, and which name no pool; $1 and $2 as in `unassigned`.
select known.*
from (select distinct namespace, workflow, version from registrations where $1::text is null or (namespace = $1 and workflow = any($2::text[]))) as known
cross join lateral (
    select from runs
    where namespace = known.namespace and workflow = known.workflow and version = known.version and pool is null and (version is null or pool is null)
        and finished_at is null
    limit 1
) as waiting;

-- name: assign_pool
-- Give such runs, $6 at most, the pool that carries their version; as in `assign`.
with found as materialized (
    select id from runs
    where pool is null and namespace = $1 and workflow = $2 and version = $3 and (version is null or pool is null) and finished_at is null
        and ($7::int is null or (('x' || right(id::text, 4))::bit(16)::int * 100) >> 16 < $7)
    limit $6
), locked as materialized (
    select id from runs where id = any(array(select id from found)) and pool is null and finished_at is null order by id for update
), noted as (
    insert into trials (run_id, namespace, pool, build, versioning) select id, $1, $4, $5, $8 from locked where $8::text is not null on conflict do nothing
)
update runs
set pool = $4, build = $5, updated_at = now()
where id = any(array(select id from locked))
returning namespace, pool, workflow, version, build, id, status;
