-- name: current
-- The incarnation that the data say they are in, and where they are now: cluster, database and timeline; null on a replica, which has none of its own.
select last.number, last.token, last.place, last.first_epoch, last.beat, last.begun_at, last.redis_rebuilt_at is not null as rung,
    case when not pg_is_in_recovery() then
        (select system_identifier from pg_control_system()) || '/' || (select oid from pg_database where datname = current_database())
            || '/' || ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint
    end as here
from (values (1)) as one
left join (select * from incarnations order by number desc limit 1) as last on true;

-- name: patiently
-- Let the statements of this transaction take as long as they need.
select set_config('statement_timeout', '0', true);

-- name: alone
-- One server at a time begins an incarnation.
select pg_advisory_xact_lock($1);

-- name: hold
-- Let nobody write runs until the transaction has ended.
lock table runs in access exclusive mode;

-- name: begin
-- A new incarnation; the first one has nothing in Redis that is older.
insert into incarnations (number, token, place, first_epoch, redis_rebuilt_at)
values ($1, gen_random_uuid(), $2, $3, case when $1 = 1 then now() end);

-- name: raise_epochs
-- No epoch that was given out before may ever be current again.
update runs set epoch = epoch + $1 where finished_at is null;

-- name: raise_first_epoch
-- Nor one of a run that is made again under the id that it had: children are.
do $$ begin
    execute format('alter table runs alter column epoch set default %s', (select first_epoch from incarnations order by number desc limit 1));
end $$;

-- name: forget_workers
-- Whoever works has to register again.
delete from workers;

-- name: beat
-- Raise the beat of the incarnation ($1); nothing where the data are in another one.
update incarnations set beat = beat + 1 where token = $1;

-- name: rung
-- Redis holds what these data say.
update incarnations set redis_rebuilt_at = now() where token = $1;
