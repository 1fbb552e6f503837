-- name: stale
-- Namespaces with registrations of which nobody has said for $1 days that they are used.
select distinct namespace from registrations where used_at < now() - $1 * interval '1 day';

-- name: use
-- The registrations of a namespace that workers carry, or that open runs need, are used; written only where that was last said $6 days ago.
-- The runs are named by place; one that stays on no build may go to any that carries its version.
with stale as (
    select r.pool, r.build, r.workflow, r.version
    from registrations r
    where r.namespace = $1 and r.used_at < now() - $6 * interval '1 day' and (
        exists (
            select from workers w
            where w.namespace = $1 and w.pool = r.pool and coalesce(w.build, '') = r.build and r.workflow || '@' || r.version = any(w.carries)
        )
        or exists (
            select from unnest($2::text[], $3::text[], $4::text[], $5::text[]) as run (pool, workflow, version, build)
            where run.pool = r.pool and run.workflow = r.workflow and run.version = r.version and (run.build is null or run.build = r.build)
        )
    )
    order by r.pool, r.build, r.workflow, r.version
    for update skip locked
)
update registrations r set used_at = now() from stale s
where r.namespace = $1 and r.pool = s.pool and r.build = s.build and r.workflow = s.workflow and r.version = s.version;

-- name: forget_registrations
-- Registrations that nobody has used for $1 days are gone, except in a pool whose settings were confirmed meanwhile. A build goes as a whole or not at all.
with old as (
    select namespace, pool, build, workflow, version
    from registrations r
    where used_at < now() - $1 * interval '1 day'
        and (build = '' or not exists (
            select from registrations s
            where s.namespace = r.namespace and s.pool = r.pool and s.build = r.build and s.used_at >= now() - $1 * interval '1 day'
        ))
        and not exists (
            select from pools p where p.namespace = r.namespace and p.name = r.pool and p.used_at >= now() - $1 * interval '1 day'
        )
    order by namespace, pool, build, workflow, version
    limit 5000
    for update skip locked
), gone as (
    delete from registrations r using old o
    where (r.namespace, r.pool, r.build, r.workflow, r.version) = (o.namespace, o.pool, o.build, o.workflow, o.version)
    returning 1
)
select count(*) from gone;

-- name: lock_builds
-- Builds that carry nothing any more. Whoever registers one holds its row, so that what it carries is seen by the statement that follows.
select namespace, pool, name from builds b
where registered_at < now() - $1 * interval '1 day'
    and not exists (select from registrations r where r.namespace = b.namespace and r.pool = b.pool and r.build = b.name)
order by namespace, pool, name
for update skip locked;

-- name: forget_builds
-- They are gone, where that is still so.
delete from builds b using unnest($1::text[], $2::text[], $3::text[]) as u (namespace, pool, name)
where b.namespace = u.namespace and b.pool = u.pool and b.name = u.name
    and not exists (select from registrations r where r.namespace = b.namespace and r.pool = b.pool and r.build = b.name);

-- name: forget_pools
-- Settings of pools that carry nothing and have no open run, and that nobody has set for $1 days, are gone.
delete from pools p
where used_at < now() - $1 * interval '1 day'
    and not exists (select from registrations r where r.namespace = p.namespace and r.pool = p.name)
    and not exists (
        select from runs r
        where r.namespace = p.namespace and r.pool = p.name and r.status in ('scheduled', 'queued', 'running', 'waiting', 'paused')
    );
