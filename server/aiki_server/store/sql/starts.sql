-- name: insert
-- Create runs; one whose id or ref is there already is left out of the answer.
insert into runs (id, namespace, workflow, version, pool, build, status, ref, ref_hash, input, due_at)
select u.id, u.namespace, u.workflow, u.version, u.pool, u.build, u.status, u.ref, u.ref_hash, u.input, u.due_at
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::timestamptz[]) as u (id, namespace, workflow, version, pool, build, status, ref, ref_hash, input, due_at)
on conflict do nothing
returning id;

-- name: existing
-- The runs that stood in the way of an insert: by ref, or by their own id where a start is repeated after an unknown commit.
select r.*
from unnest($1::uuid[], $2::text[], $3::text[]) as u (id, namespace, ref)
cross join lateral (
    select id, namespace, ref, ref_hash, status, version, pool from runs where namespace = u.namespace and ref = u.ref and ref is not null offset 0
) as r
union
select r.*
from unnest($1::uuid[]) as u (id)
cross join lateral (select id, namespace, ref, ref_hash, status, version, pool from runs where id = u.id offset 0) as r;
