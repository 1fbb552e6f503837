-- name: fire
-- Queue up to $1 runs that are due, noting it in their history: an entry whose text stands before ($2) and behind ($3) its instant.
-- `now()`, not `clock_timestamp()`: only a stable instant can be a bound of the index scan.
with due as (
    select id, history_len, epoch
    from runs
    where status in ('waiting', 'scheduled') and due_at <= now()
    order by due_at
    limit $1
    for update skip locked
), recorded as (
    insert into history (run_id, seq, count, entries, epoch, worker)
    select id, history_len + 1, 1,
        $2::text || (extract(epoch from clock_timestamp()) * 1000000)::bigint || $3::text, epoch, null
    from due
)
update runs
set status = 'queued', history_len = history_len + 1, waits = null, waits_events = null,
    waits_children = false, waits_retry = false, due_at = null, updated_at = now()
where id = any(array(select id from due))
returning namespace, pool, workflow, version, build, id;

-- name: next
-- Seconds until the next run is due; null when none waits for a time.
select extract(epoch from due_at - clock_timestamp())::float8
from runs
where status in ('waiting', 'scheduled') and due_at is not null
order by due_at
limit 1;
