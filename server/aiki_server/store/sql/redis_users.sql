-- name: use
-- These users are needed; one that is there keeps its password. In the order of their names, so that servers do not meet each other's locks.
insert into redis_users (name, namespace, password)
select u.name, u.namespace, u.password from unnest($1::text[], $2::text[], $3::text[]) as u (name, namespace, password)
on conflict (name) do update set used_at = now()
returning name, namespace, password;

-- name: aged
-- Users that no server has needed for $1 seconds.
select name from redis_users where used_at < now() - $1 * interval '1 second' limit 1000;

-- name: forget
-- They are not in Redis any more.
delete from redis_users where name = any($1::text[]) and used_at < now() - $2 * interval '1 second';
