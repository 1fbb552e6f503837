-- name: insert
-- Create runs; one whose id or ref is there already is left out of the answer.
insert into runs (id, namespace, workflow, version, pool, build, status, ref, ref_hash, input, due_at)
select u.id, u.namespace, u.workflow, u.version, u.pool, u.build, u.status, u.ref, u.ref_hash, u.input, u.due_at
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::timestamptz[])
    as u (id, namespace, workflow, version, pool, build, status, ref, ref_hash, input, due_at)
on conflict do nothing
returning id;

-- name: existing
-- The runs that stood in the way of an insert: by ref, or by their own id where a start is repeated after an unknown commit.
select r.id, r.namespace, r.ref, r.ref_hash, r.status, r.version, r.pool
from unnest($1::uuid[], $2::text[], $3::text[]) as u (id, namespace, ref)
join runs r on r.namespace = u.namespace and r.ref = u.ref and r.ref is not null
union
select r.id, r.namespace, r.ref, r.ref_hash, r.status, r.version, r.pool from runs r where r.id = any($1::uuid[]);
