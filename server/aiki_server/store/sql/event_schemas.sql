-- name: of
-- What every build of every pool of these namespaces has said of its events.
select namespace, workflow, version, pool, build, event, digest from event_schemas where namespace = any($1::text[]);

-- name: texts
-- The texts of these schemas.
select s.digest, s.schema
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
    as u (namespace, workflow, version, pool, build, event, digest)
join event_schemas s using (namespace, workflow, version, pool, build, event, digest);

-- name: replace
-- A worker registers these versions ($5, $6): what it does not say any more ($7 to $10) is forgotten, unless another worker of the build carries the
-- version, whose code may be another one outside Kubernetes.
delete from event_schemas s using unnest($5::text[], $6::text[]) as c (workflow, version)
where s.namespace = $1 and s.pool = $2 and s.build = $3 and s.workflow = c.workflow and s.version = c.version
    and (s.workflow, s.version, s.event, s.digest) not in (
        select g.workflow, g.version, g.event, g.digest from unnest($7::text[], $8::text[], $9::text[], $10::text[]) as g (workflow, version, event, digest)
    )
    and not exists (
        select from workers w
        where w.namespace = $1 and w.pool = $2 and coalesce(w.build, '') = $3 and w.id <> $4 and c.workflow || '@' || c.version = any(w.carries)
    );

-- name: register
-- What it says of their events, where there is room for it ($9 rows, and $10 bytes, of a namespace).
insert into event_schemas (namespace, pool, build, workflow, version, event, digest, schema)
select $1, $2, $3, u.workflow, u.version, u.event, u.digest, u.schema
from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[]) as u (workflow, version, event, digest, schema)
where (select count(*) < $9 and coalesce(sum(octet_length(schema)), 0) < $10 from event_schemas where namespace = $1)
on conflict (namespace, workflow, version, pool, build, event, digest) do nothing;
