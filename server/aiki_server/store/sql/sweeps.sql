-- name: now
-- What time it is.
select clock_timestamp();

-- name: forget_silent
-- Workers that were not heard of for $1 seconds are gone; what each of them held.
delete from workers w where heartbeat_at < now() - $1 * interval '1 second'
returning namespace, id, (select count(*) from runs r where r.status = 'running' and r.namespace = w.namespace and r.worker = w.id);

-- name: orphans
-- Runs in the hands of workers that are gone.
select r.id, r.namespace, r.epoch, r.worker
from runs r
where r.status = 'running' and not exists (select from workers w where w.namespace = r.namespace and w.id = r.worker)
limit 5000;

-- name: held
-- Runs in the hands of these workers.
select r.id, r.namespace, r.epoch, r.worker from runs r where r.status = 'running' and r.namespace = $1 and r.worker = any($2::text[]);

-- name: queued
-- How many runs have been queued for longer than $1 seconds, by stream, and for how many seconds the oldest has.
-- Of what nobody has registered there may be as many streams as runs: of each namespace the $2 that have waited longest.
-- What is registered is put among the streams and found by a sort, because it has no index that begins with pool and workflow.
with places as (
    select namespace, pool, workflow, version, build, count(*) as runs, extract(epoch from now() - min(updated_at))::float8 as oldest,
        false as registered
    from runs
    where status = 'queued' and updated_at < now() - $1 * interval '1 second'
    group by namespace, pool, workflow, version, build
    union all
    select distinct namespace, pool, workflow, version, null, 0, 0.0::float8, true from registrations
), known as (
    select *, bool_or(registered) over (partition by namespace, pool, workflow, version) as served from places
), ranked as (
    select *, row_number() over (partition by namespace, served order by oldest desc) as rank from known where not registered
)
select namespace, pool, workflow, version, build, runs, oldest from ranked where served or rank <= $2;

-- name: queued_ids
-- Runs of one stream that have been queued for longer than $6 seconds, oldest first.
select id
from runs
where status = 'queued' and namespace = $1 and pool = $2 and workflow = $3 and version = $4 and build is not distinct from $5
    and updated_at < now() - $6 * interval '1 second'
order by namespace, pool, workflow, version, id
limit $7;

-- name: still_queued
-- Those of these runs that wait for a claim, with their streams.
select namespace, pool, workflow, version, build, id
from runs
where id = any($1::uuid[]) and status = 'queued' and pool is not null and version is not null;

-- name: closing
-- Ended parents whose children have not all been told, and whether that is so for longer than telling them takes.
select id, finished_at < now() - interval '2 seconds' as late from runs where closes_children order by id limit 100;

-- name: open_children
-- Children that are to end with their parent and have not been told.
select id, namespace from runs
where parent = $1 and on_parent_close = 'cancel' and finished_at is null and not cancel_requested
order by id
limit 1000;

-- name: closed
-- All children of a parent were told; nothing where another server has noted that before.
update runs set closes_children = false where id = $1 and closes_children returning true;

-- name: child_cancellations
-- Children that are to be cancelled and have not been asked to end; without a namespace where they are not there any more.
select g.run_id, child.namespace
from (select run_id from child_cancellations order by run_id limit $1) as g
left join lateral (select namespace from runs where id = g.run_id offset 0) as child on true;

-- name: forget_child_cancellations
-- These children were asked to end.
delete from child_cancellations where run_id = any($1::uuid[]);

-- name: unheard
-- Runs that are to be cancelled and have been queued for longer than $1 seconds.
select id, namespace, workflow, version, pool, build, epoch, extract(epoch from now() - updated_at)::float8
from runs
where status = 'queued' and cancel_requested and updated_at < now() - $1 * interval '1 second' and version is not null and pool is not null
order by id
limit 1000;

-- name: retire
-- Delete ended runs of one status whose end lies more than $2 days back, with all that belongs to them; a parent goes once its children need no telling.
with old as (
    select id from runs
    where namespace = $1 and status = $3 and finished_at < now() - $2 * interval '1 day' and not closes_children
    order by namespace, status, id
    limit $4
    for update skip locked
), gone_history as (
    delete from history where run_id in (select id from old)
), gone_inbox as (
    delete from inbox where run_id in (select id from old)
), gone_orders as (
    delete from orders where run_id in (select id from old)
), gone_trials as (
    delete from trials where run_id in (select id from old)
), gone as (
    delete from runs where id in (select id from old) returning 1
)
select count(*) from gone;

-- name: namespaces
-- The namespaces that have runs: a walk from one to the next in the index.
with recursive walk as (
    (select namespace from runs order by namespace limit 1)
    union all
    select (select namespace from runs where namespace > walk.namespace order by namespace limit 1) from walk where walk.namespace is not null
)
select namespace from walk where namespace is not null;
