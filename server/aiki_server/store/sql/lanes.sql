-- name: lock
-- Lock runs ($1), and the parents of those that may end ($2), in id order; `now` is read after the last lock was taken.
select locked.*, clock_timestamp() as now
from (
    select id, namespace, workflow, version, pool, build, status, epoch, worker, commit_no, deliveries, history_len, steps, news, told,
        error, waits, waits_events, waits_children, waits_retry, due_at, parent, on_parent_close, has_children, closes_children,
        cancel_requested, pause_requested, created_at, started_at, claimed_at, finished_at, ref
    from runs
    where id = any($1::uuid[] || array(select p.parent from runs p where p.id = any($2::uuid[])))
    order by id
    for update
) as locked;

-- name: known_events
-- The numbers of events that came before under the same id.
select i.run_id, i.event_id, i.seq
from unnest($1::uuid[], $2::text[]) as u (run_id, event_id)
join inbox i on i.run_id = u.run_id and i.event_id = u.event_id and i.event_id is not null;

-- name: open_events
-- How many events of these runs nobody has consumed; asked only for runs with very many.
select run_id, count(*) as open
from inbox
where run_id = any($1::uuid[]) and kind = 'event' and not consumed
group by run_id;

-- name: write
-- Write everything that a batch decided; the rows of runs are locked.
with progressed as (
    update runs r
    set commit_no = u.commit_no, history_len = u.history_len, steps = u.steps, state = coalesce(u.state, r.state), has_children = u.has_children,
        deliveries = 0, updated_at = now()
    from unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::text[], $6::bool[]) as u (id, commit_no, history_len, steps, state, has_children)
    where r.id = u.id and r.finished_at is null
    returning 1
), changed as (
    update runs r
    set status = u.status, epoch = u.epoch, commit_no = u.commit_no, deliveries = u.deliveries, history_len = u.history_len, steps = u.steps,
        news = u.news, output = coalesce(u.output, r.output), error = u.error, state = coalesce(u.state, r.state), waits = u.waits,
        waits_events = u.waits_events, waits_children = u.waits_children, waits_retry = u.waits_retry, due_at = u.due_at,
        has_children = u.has_children, closes_children = u.closes_children, cancel_requested = u.cancel_requested,
        pause_requested = u.pause_requested, finished_at = u.finished_at, updated_at = now()
    from unnest($7::uuid[], $8::text[], $9::int[], $10::int[], $11::int[], $12::int[], $13::int[], $14::int[], $15::text[], $16::text[],
        $17::text[], $18::text[], $19::text[], $20::bool[], $21::bool[], $22::timestamptz[], $23::bool[], $24::bool[], $25::bool[], $26::bool[],
        $27::timestamptz[])
        as u (id, status, epoch, commit_no, deliveries, history_len, steps, news, output, error, state, waits, waits_events, waits_children,
            waits_retry, due_at, has_children, closes_children, cancel_requested, pause_requested, finished_at)
    where r.id = u.id and r.finished_at is null
    returning 1
), recorded as (
    insert into history (run_id, seq, count, entries, epoch, worker)
    select * from unnest($28::uuid[], $29::int[], $30::int[], $31::text[], $32::int[], $33::text[])
), received as (
    insert into inbox (run_id, seq, kind, name, payload, child, status, error, event_id)
    select * from unnest($34::uuid[], $35::int[], $36::text[], $37::text[], $38::text[], $39::uuid[], $40::text[], $41::text[], $42::text[])
), consumed as (
    update inbox i set consumed = true
    from unnest($43::uuid[], $44::int[]) as u (run_id, seq)
    where i.run_id = u.run_id and i.seq = u.seq
), born as (
    insert into runs (id, namespace, workflow, version, pool, build, status, input, parent, on_parent_close)
    select u.id, u.namespace, u.workflow, u.version, u.pool, u.build, 'queued', u.input, u.parent, u.on_parent_close
    from unnest($45::uuid[], $46::text[], $47::text[], $48::text[], $49::text[], $50::text[], $51::text[], $52::uuid[], $53::text[])
        as u (id, namespace, workflow, version, pool, build, input, parent, on_parent_close)
    on conflict do nothing
)
select (select count(*) from progressed) + (select count(*) from changed) as rows;

-- name: news
-- What came in for runs after the number that each has seen.
select i.run_id, i.seq, i.kind, i.name, i.payload, i.child, i.status, i.error, i.at
from unnest($1::uuid[], $2::int[]) as u (run_id, seen)
join inbox i on i.run_id = u.run_id and i.seq > u.seen
order by i.run_id, i.seq;
