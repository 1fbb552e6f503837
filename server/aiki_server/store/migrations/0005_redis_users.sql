-- One user of Redis for each namespace: whoever has a token of one reads nothing of another.

create table redis_users (
    name text primary key,                          -- redis_users.use: of the namespace and a digest of its tokens
    namespace text not null,
    password text not null,
    used_at timestamptz not null default now()      -- when a server last needed it; an old one goes
);
