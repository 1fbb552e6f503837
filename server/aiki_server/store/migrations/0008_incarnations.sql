-- What the data have gone through: one row for each time that they were restored, and the first.
create table incarnations (
    number integer primary key check (number > 0),
    token uuid not null unique,
    place text not null,
    first_epoch integer not null check (first_epoch >= 0),
    beat bigint not null default 0,
    begun_at timestamptz not null default now(),
    rung_at timestamptz
);
