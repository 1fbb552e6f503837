-- name: results
-- How runs ended, if they did; each is looked for in one namespace.
select r.*
from unnest($1::text[], $2::uuid[]) as u (namespace, id)
cross join lateral (select id, namespace, status, output, error from runs where id = u.id and namespace = u.namespace offset 0) as r;

-- name: get
-- Everything about one run.
select * from runs where id = $1 and namespace = $2;

-- name: by_ref
-- The run that has a ref.
select * from runs where namespace = $1 and ref = $2;

-- name: reach
-- How far a page of a listing that is narrowed looks: it looks at $4 runs before $3 of each wanted status, and no further in any of them than in
-- the others. Null where that is all there is. Read from the index alone.
select stop.id
from unnest($2::text[]) as wanted (status)
cross join lateral (
    select id from runs
    where (namespace, status, id) < ($1, wanted.status, $3) and (namespace, status, id) >= ($1, wanted.status, '00000000-0000-0000-0000-000000000000')
    order by namespace desc, status desc, id desc
    offset $4
    limit 1
) as stop
order by stop.id desc
limit 1;

-- name: children_reach
-- The same among the children of a run. All of them are of its namespace, so it is enough to ask for that of the last one.
select stop.id
from (select id from runs where parent = $2 and id < $3 order by id desc offset $4 limit 1) as stop
cross join lateral (select namespace from runs where id = stop.id offset 0) as found
where found.namespace = $1;

-- name: list
-- A page of runs, newest first, over the wanted statuses, before $3 and not before $8; $4 to $6 filter where they are not null.
-- Written as a range of runs_listed, which no other index can walk: of the states of most runs the planner knows nothing.
select page.*
from unnest($2::text[]) as wanted (status)
cross join lateral (
    select id, workflow, version, pool, status, ref, parent, steps, created_at, updated_at, finished_at, due_at
    from runs
    where (namespace, status, id) < ($1, wanted.status, $3) and (namespace, status, id) >= ($1, wanted.status, $8)
        and ($4::text is null or workflow = $4) and ($5::text is null or version = $5) and ($6::text is null or pool = $6)
    order by namespace desc, status desc, id desc
    limit $7
) as page
order by page.id desc
limit $7;

-- name: children
-- A page of the children of a run, newest first, before $4 and not before $10.
select id, workflow, version, pool, status, ref, parent, steps, created_at, updated_at, finished_at, due_at
from runs
where parent = $2 and namespace = $1 and status = any($3::text[]) and id < $4 and id >= $10
    and ($5::text is null or workflow = $5) and ($6::text is null or version = $6) and ($7::text is null or pool = $7)
    and ($8::text is null or ref = $8)
order by id desc
limit $9;

-- name: of_ref
-- The run that has a ref, where it is of the wanted statuses; $5 to $7 filter where they are not null. No listing is walked for it.
select id, workflow, version, pool, status, ref, parent, steps, created_at, updated_at, finished_at, due_at
from runs
where namespace = $1 and ref = $2 and status = any($3::text[]) and id < $4
    and ($5::text is null or workflow = $5) and ($6::text is null or version = $6) and ($7::text is null or pool = $7)
limit 1;

-- name: history
-- The chunks of a run from the one that holds entry $2, up to the one that holds entry $3; no further one when they have $4 bytes.
select seq, count, entries, epoch, worker, at
from (
    select h.*, sum(octet_length(h.entries)) over (order by h.seq) - octet_length(h.entries) as before
    from history h
    where h.run_id = $1 and h.seq + h.count > $2 and h.seq <= $3
) as chunk
where before < $4
order by seq;

-- name: undelivered
-- The events of a run that no code has consumed; no further one when they have $2 bytes.
select seq, name, payload, at
from (
    select i.*, sum(octet_length(i.payload)) over (order by i.seq) - octet_length(i.payload) as before
    from inbox i
    where i.run_id = $1 and i.kind = 'event' and not i.consumed
) as event
where before < $2
order by seq;

-- name: open_event_bytes
-- How much the events of a run are that no code has consumed, if the run is of the namespace.
select coalesce(sum(octet_length(i.payload)), 0)
from runs r
cross join lateral (select payload from inbox where run_id = r.id and kind = 'event' and not consumed offset 0) as i
where r.id = $1 and r.namespace = $2;

-- name: count_open
-- How many runs of a namespace are in a state that is not final; no further than $2.
select count(*)
from (
    select from unnest(array['scheduled', 'queued', 'running', 'waiting', 'paused']) as wanted (status)
    cross join lateral (select from runs where namespace = $1 and status = wanted.status limit $2) as run
    limit $2
) as counted;

-- name: counts
-- How many runs are in each state that is not final.
select namespace, status, count(*) as runs from runs
where status in ('scheduled', 'queued', 'running', 'waiting', 'paused') group by namespace, status;
