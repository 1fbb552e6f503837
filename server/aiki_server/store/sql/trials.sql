-- name: share
-- A build that has not taken over gets $4 percent of its pool's new runs. Whoever promotes it holds its row.
with candidate as materialized (
    select name from builds where namespace = $1 and pool = $2 and name = $3 and promoted_at is null for update
)
insert into pools (namespace, name, ramp_build, ramp_percent) select $1, $2, name, $4::int from candidate
on conflict (namespace, name) do update set ramp_build = excluded.ramp_build, ramp_percent = excluded.ramp_percent
returning name;

-- name: unshare
-- A build gets no share any more.
update pools set ramp_build = null, ramp_percent = null where namespace = $1 and name = $2 and ramp_build = $3;

-- name: note
-- Runs that are drawn for a build, in the transaction that makes them: $1 to $5 are of each run.
insert into trials (run_id, namespace, pool, build, versioning) select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) on conflict do nothing;

-- name: let_go
-- Runs that were drawn for a build which gets no share any more, $1 at most: in a pool that pins none, they are the pool's again.
-- A worker may name the id of another namespace's run as that of a child, so whose run it is is looked at.
-- Locked in the order of ids, as everywhere.
with over as materialized (
    select run_id, namespace, pool, build, versioning from trials t
    where not exists (select from pools p where p.namespace = t.namespace and p.name = t.pool and p.ramp_build = t.build)
    order by run_id
    limit $1
    for update skip locked
), locked as materialized (
    select id from runs r
    where id = any(array(select run_id from over where versioning = 'ByVersion')) and finished_at is null
        and exists (select from over o where o.run_id = r.id and o.namespace = r.namespace and o.pool = r.pool and o.build = r.build)
    order by id
    for update
), freed as (
    update runs set build = null where id = any(array(select id from locked))
    returning namespace, pool, workflow, version, build, id, status
), gone as (
    delete from trials t using over o where t.run_id = o.run_id and t.namespace = o.namespace returning 1
)
select (select count(*) from gone) as looked_at, freed.* from (select 1) as once left join freed on true;

-- name: figures
-- How the newest $4 runs fare that were drawn for a build: how many there are, those that have completed, and those that have failed, have stopped
-- with an error, wait for a retry, or have taken their workers with them three times.
select count(*), count(*) filter (where r.status = 'completed'), count(*) filter (
    where r.status = 'failed' or (r.status = 'paused' and r.error is not null) or r.waits_retry
        or (r.deliveries >= 3 and r.status in ('queued', 'running'))
)
from (select run_id from trials where namespace = $1 and pool = $2 and build = $3 order by run_id desc limit $4) as t
cross join lateral (
    select status, error, waits_retry, deliveries from runs where id = t.run_id and namespace = $1 and pool = $2 and build = $3 offset 0
) as r;
