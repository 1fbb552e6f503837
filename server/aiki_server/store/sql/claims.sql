-- part: granted
-- Of what a worker could be given (`found`), the first that have $1 bytes together with what comes with them. A run that brings more than $2 is
-- granted without that (`large`): it is read in pages. What lies outside of the table is not read for its length.
fitting as materialized (
    select id, bytes,
        case when history_len > 0 or inbox_seq > 0 then
            coalesce((select sum(octet_length(entries)) from history where run_id = found.id), 0)
            + coalesce((select sum(200 + coalesce(octet_length(payload), 0) + coalesce(octet_length(error), 0)) from inbox where run_id = found.id and not consumed), 0)
        else 0 end as brought
    from found
), summed as materialized (
    select id, brought > $2 as large, sum(bytes + case when brought > $2 then 0 else brought end) over (rows unbounded preceding) as running
    from fitting
), granted as materialized (
    select * from summed where running <= $1::bigint
)

-- name: claim
-- Give a worker those of the runs it asks for that are queued, if its lease holds and it carries the version.
-- Rows are found as in lanes.sql, but updated by id: one that changed while this waited for its lock is not at its place any more
-- for the snapshot of this statement. Of those that it could grant, it grants the first that have $1 bytes together, with what comes with
-- them; `cut` says that others stay queued. A run that brings more than $2 is granted without that (`large`): it is read in pages.
with locked as materialized (
    select q.*
    from (select id from unnest($3::uuid[]) as asked (id) order by id) as u
    cross join lateral (
        -- Of the worker's namespace: nobody waits for, or holds up, what is another's.
        select id, namespace, pool, build, workflow, version, status, deliveries, history_len, inbox_seq, 200 + octet_length(input) as bytes
        from runs where id = u.id and namespace = $5 for update
    ) as q
), found as materialized (
    select * from locked l
    where l.pool = $6 and (l.build is null or l.build = $7) and l.status = 'queued' and l.deliveries < $9
        and l.workflow || '@' || l.version = any($8::text[])
        and exists (select from workers w where w.namespace = $5 and w.id = $4 and w.heartbeat_at > now() - $10 * interval '1 second')
),
-- with: granted
, claimed as materialized (
    update runs
    set status = 'running', epoch = epoch + 1, worker = $4, commit_no = 0, deliveries = deliveries + 1, inbox_acked_seq = inbox_seq,
        started_at = coalesce(started_at, now()), claimed_at = now(), updated_at = now()
    where id = any(array(select id from granted))
    returning {run_columns}, input, ctid as place, xmin as writer,
        id = any(array(select id from granted where large)) as large, (select max(running) from granted)::bigint as spent,
        (select count(*) from fitting) > (select count(*) from granted) as cut
)
-- What comes with a run is of the snapshot in which this began, and the run's row may be younger: it is all there where the numbers agree.
select claimed.*, coalesce(past.covered, 0) = claimed.history_len and coalesce(came.newest, 0) = claimed.inbox_seq as complete, past.chunks,
    came.seqs, came.kinds, came.names, came.payloads, came.children, came.statuses, came.errors, came.ats
from claimed
left join lateral (
    select sum(count) as covered, array_agg(entries) as chunks
    from (select count, entries from history where run_id = claimed.id and claimed.history_len > 0 and not claimed.large order by seq) as chunk
) as past on true
left join lateral (
    select max(seq) as newest, array_agg(seq) filter (where not consumed) as seqs, array_agg(kind) filter (where not consumed) as kinds,
        array_agg(name) filter (where not consumed) as names, array_agg(payload) filter (where not consumed) as payloads,
        array_agg(child) filter (where not consumed) as children, array_agg(status) filter (where not consumed) as statuses,
        array_agg(error) filter (where not consumed) as errors, array_agg(at) filter (where not consumed) as ats
    from (select * from inbox where run_id = claimed.id and claimed.inbox_seq > 0 and not claimed.large order by seq) as item
) as came on true;

-- name: claim_any
-- Give a worker up to $10 queued runs, oldest first of each version: for workers that no stream reaches. Of a version, it takes the runs
-- that stay on its build, and where $12 says so those that stay on none. Not more than $1 bytes together; see `claim`.
with found as materialized (
    select q.*
    from unnest($7::text[], $8::text[], $12::boolean[]) as u (workflow, version, any_run)
    cross join lateral (
        select id, history_len, inbox_seq, 200 + octet_length(input) as bytes from runs
        where status = 'queued' and namespace = $4 and pool = $5 and workflow = u.workflow and version = u.version
            and (build = $6 or (build is null and u.any_run)) and deliveries < $9
        order by namespace, pool, workflow, version, id
        limit $10
        for update skip locked
    ) as q
    where exists (select from workers w where w.namespace = $4 and w.id = $3 and w.heartbeat_at > now() - $11 * interval '1 second')
    limit $10
),
-- with: granted
update runs
set status = 'running', epoch = epoch + 1, worker = $3, commit_no = 0, deliveries = deliveries + 1, inbox_acked_seq = inbox_seq,
    started_at = coalesce(started_at, now()), claimed_at = now(), updated_at = now()
where id = any(array(select id from granted))
returning {run_columns}, input, ctid, xmin,
    id = any(array(select id from granted where large)) as large, (select max(running) from granted)::bigint as spent,
    (select count(*) from fitting) > (select count(*) from granted) as cut;

-- name: grant_again
-- Give a worker anew, in a new epoch, the runs in its hands that it does not know of: the answer that gave them was lost.
-- Locked in the order of ids, as everywhere. Not more than $1 bytes together; see `claim`.
with found as materialized (
    select id, history_len, inbox_seq, 200 + octet_length(input) as bytes from runs
    where status = 'running' and namespace = $3 and worker = $4 and not (id = any($5::uuid[]))
    order by id
    for update
),
-- with: granted
update runs
set epoch = epoch + 1, commit_no = 0, inbox_acked_seq = inbox_seq, claimed_at = now(), updated_at = now()
where id = any(array(select id from granted))
returning {run_columns}, input, ctid, xmin,
    id = any(array(select id from granted where large)) as large, (select max(running) from granted)::bigint as spent,
    (select count(*) from fitting) > (select count(*) from granted) as cut;

-- name: brought
-- What comes with claimed runs, in order: the chunks of their history ($1), without a kind; what came in and was not consumed ($2).
select run_id, seq, null as kind, null as name, entries as payload, null::uuid as child, null as status, null as error, at
from history
where run_id = any($1::uuid[])
union all
select run_id, seq, kind, name, payload, child, status, error, at
from inbox
where run_id = any($2::uuid[]) and not consumed
order by run_id, seq;

-- name: replay_page
-- A page of what comes with a run ($1): the chunks of its history after $2, then what came in after $3 and up to $4 and was not consumed. It has
-- $5 bytes at most, but one of them at least; `total` counts what there is.
select kind, name, payload, child, status, error, at, seq, total
from (
    select *, sum(bytes) over paged as running, row_number() over paged as number, count(*) over () as total
    from (
        select 0 as part, seq, null as kind, null as name, entries as payload, null::uuid as child, null as status, null as error, at, octet_length(entries) as bytes
        from history
        where run_id = $1 and seq > $2
        union all
        select 1, seq, kind, name, payload, child, status, error, at, 200 + coalesce(octet_length(payload), 0) + coalesce(octet_length(error), 0)
        from inbox
        where run_id = $1 and not consumed and seq > $3 and seq <= $4
    ) as parts
    window paged as (order by part, seq)
) as counted
where running <= $5::bigint or number = 1
order by part, seq;

-- name: missed
-- Of the runs that workers ($2, each of its namespace $1) named and were not given, those that are queued still: whether they were delivered too
-- often without progress, and whether the worker is known.
with asked as materialized (
    select u.worker, q.*
    from unnest($1::text[], $2::text[], $3::uuid[]) as u (namespace, worker, id)
    cross join lateral (
        select namespace, id, pool, build, workflow, version, status, deliveries from runs where id = u.id and namespace = u.namespace offset 0
    ) as q
)
select namespace, worker, id, pool, build, workflow, version, deliveries >= $4,
    exists (select from workers w where w.namespace = asked.namespace and w.id = asked.worker)
from asked where status = 'queued';

-- name: all_poisoned
-- Runs that were delivered too often without progress, wherever they are queued.
select id, namespace from runs where status = 'queued' and deliveries >= $1 limit 1000;

-- name: holding
-- The runs a worker asks after: whether they are still its own, what it was asked to do, and up to which inbox item it is known to have read.
select u.id, coalesce(r.namespace = $3 and r.worker = $4 and r.epoch = u.epoch and r.status = 'running', false) as held, coalesce(r.pause_requested, false) as pause,
    coalesce(r.inbox_acked_seq, 0) as inbox_acked_seq
from unnest($1::uuid[], $2::int[]) as u (id, epoch)
left join lateral (select namespace, worker, epoch, status, pause_requested, inbox_acked_seq from runs where id = u.id offset 0) as r on true;

-- name: ack_inbox
-- Remember up to which inbox item the worker has read. Runs that somebody else is writing are left out: it costs a repetition, a deadlock costs a second.
update runs r
set inbox_acked_seq = greatest(r.inbox_acked_seq, (select max(u.inbox_seen) from unnest($1::uuid[], $2::int[]) as u (id, inbox_seen) where u.id = r.id))
where r.id = any(array(select id from runs where id = any($1::uuid[]) and finished_at is null for update skip locked));
