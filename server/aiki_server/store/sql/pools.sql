-- name: queued
-- How many runs are queued, by place, for how many seconds the oldest has been, and since when; $2 narrows it to one pool. Of places that nobody has
-- registered there may be as many as runs: the oldest thousand of those.
with places as materialized (
    select
        pool, workflow, version, build, count(*) as runs, extract(epoch from now() - min(updated_at))::float8 as oldest,
        min(updated_at) as since
    from runs
    where status = 'queued' and namespace = $1 and ($2::text is null or pool = $2) and pool is not null
    group by pool, workflow, version, build
), known as materialized (
    select p.*, exists (
        select from registrations g where g.namespace = $1 and g.pool = p.pool and g.workflow = p.workflow and g.version = p.version
    ) as registered
    from places p
)
select pool, workflow, version, build, runs, oldest, since from known where registered
union all
(select pool, workflow, version, build, runs, oldest, since from known where not registered order by oldest desc limit 1000);

-- name: running
-- How many runs are in workers' hands, by worker.
select w.pool, w.build, w.id, count(*) as runs
from runs r
join workers w on w.namespace = r.namespace and w.id = r.worker
where r.status = 'running' and r.namespace = $1 and ($2::text is null or w.pool = $2)
group by w.pool, w.build, w.id;

-- name: due_soon
-- When runs of these pools are due within the next $3 seconds, at most $4 of each. One walk along the index of due times, not one
-- for each pool, and no further than twenty times the limit: beyond that the pools are busy anyway.
select pool, due_at
from (
    select pool, due_at, row_number() over (partition by pool order by due_at) as place
    from (
        select pool, due_at from runs
        where status in ('waiting', 'scheduled') and due_at < now() + $3 * interval '1 second' and namespace = $1 and pool = any($2::text[])
        order by due_at
        limit 20 * $4
    ) as nearest
) as placed
where place <= $4
order by pool, due_at;

-- name: open
-- How many runs have not ended, by place, and when the next of them is due. Looks at all of them: asked rarely. Only of places that somebody has
-- registered, of which there is a bounded number: no build serves the others.
select pool, workflow, version, build, count(*) as runs, min(due_at) filter (where status in ('waiting', 'scheduled')) as next_due_at
from runs
where namespace = $1 and status in ('scheduled', 'queued', 'running', 'waiting', 'paused') and pool is not null and version is not null
    and (build is not null or exists (
        select from registrations g where g.namespace = $1 and g.pool = runs.pool and g.workflow = runs.workflow and g.version = runs.version
    ))
group by pool, workflow, version, build;

-- name: configure
-- Set how a pool treats builds.
insert into pools (namespace, name, versioning, ever_pinned) values ($1, $2, $3, $3 = 'Pinned')
on conflict (namespace, name) do update set versioning = excluded.versioning, used_at = now(), ever_pinned = pools.ever_pinned or excluded.ever_pinned or pools.versioning = 'Pinned';

-- name: kept
-- The pools of a namespace that somebody has set within $2 days.
select name from pools where namespace = $1 and used_at > now() - $2 * interval '1 day';

-- name: promote
-- A build takes over what it carries.
update builds set promoted_at = clock_timestamp() where namespace = $1 and pool = $2 and name = $3 returning name;

-- name: delete_build
-- A build is gone for good.
delete from builds where namespace = $1 and pool = $2 and name = $3 returning name;

-- name: delete_registrations
-- And with it what it carried.
delete from registrations where namespace = $1 and pool = $2 and build = $3;
