-- name: failing
-- Whether Postgres has failed to hand on its log since it last did so; false where it is not asked to.
select coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) from pg_stat_archiver;
