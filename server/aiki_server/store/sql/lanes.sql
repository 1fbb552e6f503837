-- A plan is made once and kept, perhaps from when the tables were empty. So nothing here leaves the planner a choice: rows are found by a
-- lateral subquery that cannot be flattened (it locks, or says `offset 0`), which is one index look-up each, and updated at the place
-- (ctid) where they were found, if the same transaction as then has written what lies there (xmin), and if it is the same run in the same
-- epoch with as long a history: a place is no identity. VACUUM FULL and CLUSTER lay other runs of one transaction there, and after a failover
-- numbers of transactions are used again. (`is not distinct from`, because an equation would offer the planner an index.) `limit cardinality(...)` around an array makes it expect one row of it, so that going to
-- a place is always cheaper than looking at all of them. The tests make plans in such states.

-- Numbers and truth values of what is written come as text ('{1,2,3}'): the driver asks of each element of an array whether it is an array.

-- name: lock
-- Lock runs ($1), and the parents of those that may end ($2), in id order; `now` is read after the last lock was taken.
-- One index look-up a row whatever the statistics say: a lateral subquery that locks can be planned in no other way.
select locked.*, clock_timestamp() as now
from (
    select found.*
    from (
        select u.id from unnest($1::uuid[]) as u (id)
        union
        select ending.parent from unnest($2::uuid[]) as u (id) cross join lateral (select parent from runs where id = u.id offset 0) as ending
        order by 1
    ) as wanted
    cross join lateral (
        select {run_columns}, ctid, xmin
        from runs
        where id = wanted.id
        for update
    ) as found
) as locked;

-- name: known_events
-- The numbers of events that came before under the same id.
select u.run_id, u.event_id, i.seq
from unnest($1::uuid[], $2::text[]) as u (run_id, event_id)
cross join lateral (select seq from inbox where run_id = u.run_id and event_id = u.event_id and event_id is not null offset 0) as i;

-- name: open_events
-- How many events of these runs nobody has consumed; asked only for runs with very many.
select run_id, count(*) as open
from inbox
where run_id = any($1::uuid[]) and kind = 'event' and not consumed
group by run_id;

-- name: write
-- Write everything that a batch decided, if every row is as it was when it was decided; otherwise nothing (division by zero).
with progressed as (
    update runs r
    set commit_no = u.commit_no, history_len = u.history_len, steps = u.steps, state = coalesce(u.state, r.state), has_children = u.has_children,
        deliveries = 0, updated_at = now()
    from (select * from unnest($1::tid[], $2::text::xid[], $3::text::uuid[], $4::text::int[], $5::text::int[], $6::text::int[], $7::text::int[], $8::text::int[], $9::text[], $10::text::bool[])
        limit cardinality($1)) as u (place, writer, id, was_epoch, was_len, commit_no, history_len, steps, state, has_children)
    where r.ctid = u.place and r.xmin = u.writer and r.id is not distinct from u.id and r.epoch = u.was_epoch and r.history_len = u.was_len
    returning r.id, r.ctid as place, r.xmin as writer
), changed as (
    update runs r
    set status = u.status, epoch = u.epoch, commit_no = u.commit_no, deliveries = u.deliveries, history_len = u.history_len, steps = u.steps,
        inbox_seq = u.inbox_seq, output = coalesce(u.output, r.output), error = u.error, state = coalesce(u.state, r.state), waits = u.waits,
        waits_events = u.waits_events, waits_children = u.waits_children, waits_retry = u.waits_retry, due_at = u.due_at,
        has_children = u.has_children, closes_children = u.closes_children, cancel_requested = u.cancel_requested,
        pause_requested = u.pause_requested, finished_at = u.finished_at, updated_at = now()
    from (select * from unnest($11::tid[], $12::text::xid[], $13::text::uuid[], $14::text::int[], $15::text::int[], $16::text[], $17::text::int[], $18::text::int[], $19::text::int[], $20::text::int[], $21::text::int[], $22::text::int[], $23::text[], $24::text[],
        $25::text[], $26::text[], $27::text[], $28::text::bool[], $29::text::bool[], $30::timestamptz[], $31::text::bool[], $32::text::bool[], $33::text::bool[], $34::text::bool[],
        $35::timestamptz[]) limit cardinality($11)) as u (place, writer, id, was_epoch, was_len, status, epoch, commit_no, deliveries, history_len, steps, inbox_seq, output, error, state, waits, waits_events, waits_children,
            waits_retry, due_at, has_children, closes_children, cancel_requested, pause_requested, finished_at)
    where r.ctid = u.place and r.xmin = u.writer and r.id is not distinct from u.id and r.epoch = u.was_epoch and r.history_len = u.was_len
    returning r.id, r.ctid as place, r.xmin as writer
), recorded as (
    insert into history (run_id, seq, count, entries, epoch, worker)
    select * from unnest($36::text::uuid[], $37::text::int[], $38::text::int[], $39::text[], $40::text::int[], $41::text[])
), received as (
    -- `clock_timestamp()`, not when the transaction began: what comes in after a claim has a later instant than the claim.
    insert into inbox (run_id, seq, kind, name, payload, child, status, error, event_id, at)
    select u.*, clock_timestamp()
    from unnest($42::text::uuid[], $43::text::int[], $44::text[], $45::text[], $46::text[], $47::uuid[], $48::text[], $49::text[], $50::text[]) as u
), consumed as (
    update inbox i set consumed = true
    from (select * from unnest($51::uuid[], $52::text::int[]) limit cardinality($51)) as u (run_id, seq)
    cross join lateral (select ctid as place from inbox where run_id = u.run_id and seq = u.seq offset 0) as found
    where i.ctid = found.place
), born as (
    insert into runs (id, namespace, workflow, version, pool, build, status, input, parent, on_parent_close)
    select u.id, u.namespace, u.workflow, u.version, u.pool, u.build, 'queued', u.input, u.parent, u.on_parent_close
    from unnest($53::text::uuid[], $54::text[], $55::text[], $56::text[], $57::text[], $58::text[], $59::text[], $60::text::uuid[], $61::text[]) as u (id, namespace, workflow, version, pool, build, input, parent, on_parent_close)
    on conflict do nothing
), written as (
    select * from progressed union all select * from changed
)
select written.*, clock_timestamp() as now, checked.all_of_them
from (select 1 / (count(*) = cardinality($1) + cardinality($11))::int as all_of_them from written) as checked
left join written on true;

-- name: advance
-- The most frequent write: runs that go on where they are, with their history; under the same condition.
with progressed as (
    update runs r
    set commit_no = u.commit_no, history_len = u.history_len, steps = u.steps, state = coalesce(u.state, r.state), has_children = u.has_children,
        deliveries = 0, updated_at = now()
    from (select * from unnest($1::tid[], $2::text::xid[], $3::text::uuid[], $4::text::int[], $5::text::int[], $6::text::int[], $7::text::int[], $8::text::int[], $9::text[], $10::text::bool[])
        limit cardinality($1)) as u (place, writer, id, was_epoch, was_len, commit_no, history_len, steps, state, has_children)
    where r.ctid = u.place and r.xmin = u.writer and r.id is not distinct from u.id and r.epoch = u.was_epoch and r.history_len = u.was_len
    returning r.id, r.ctid as place, r.xmin as writer
), recorded as (
    insert into history (run_id, seq, count, entries, epoch, worker)
    select * from unnest($11::text::uuid[], $12::text::int[], $13::text::int[], $14::text[], $15::text::int[], $16::text[])
)
select progressed.*, clock_timestamp() as now, checked.all_of_them
from (select 1 / (count(*) = cardinality($1))::int as all_of_them from progressed) as checked
left join progressed on true;

-- name: known_orders
-- Those of these orders (runs $1, ids $2) that were carried out before.
select o.*
from unnest($1::uuid[], $2::text[]) as u (run_id, id)
cross join lateral (select run_id, id from orders where run_id = u.run_id and id = u.id offset 0) as o;

-- name: note_orders
-- Remember that these orders (runs $1, ids $2) were carried out.
insert into orders (run_id, id) select * from unnest($1::uuid[], $2::text[]) on conflict do nothing;

-- name: left
-- What runs leave behind that end without their code: the reason of their cancel (number 0), then the chunks of their history, in order.
select run_id, 0 as seq, payload from inbox where run_id = any($1::uuid[]) and kind = 'cancel'
union all
select run_id, seq, entries from history where run_id = any($1::uuid[])
order by run_id, seq;

-- name: note_child_cancellations
-- Note the children ($1) that their parents ($2) cancel, if they are theirs and are to end with them; nothing of them is locked.
insert into child_cancellations (run_id)
select child.id
from unnest($1::uuid[], $2::uuid[]) as u (id, parent)
cross join lateral (select id, parent, on_parent_close, cancel_requested, finished_at from runs where id = u.id offset 0) as child
where child.parent = u.parent and child.on_parent_close = 'cancel' and not child.cancel_requested and child.finished_at is null
on conflict do nothing;

-- name: inbox_after
-- What came in for runs ($1) after the number up to which each was read ($2): of each namespace ($3) the first $4 bytes, but one item at least.
-- `total` counts what there is.
select run_id, seq, kind, name, payload, child, status, error, at, total
from (
    select u.id as run_id, i.seq, i.kind, i.name, i.payload, i.child, i.status, i.error, i.at, count(*) over () as total,
        sum(200 + coalesce(octet_length(i.payload), 0) + coalesce(octet_length(i.error), 0)) over counted as running, row_number() over counted as number
    from unnest($1::uuid[], $2::int[], $3::text[]) as u (id, inbox_seen, namespace)
    cross join lateral (select * from inbox where run_id = u.id and seq > u.inbox_seen order by run_id, seq) as i
    window counted as (partition by u.namespace order by i.run_id, i.seq)
) as found
where running <= $4::bigint or number = 1
order by run_id, seq;
