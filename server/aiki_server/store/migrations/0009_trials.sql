-- The share of a pool's new runs that a roll-out gives to a build which has not taken over yet.
alter table pools add column ramp_build text;
alter table pools add column ramp_percent integer check (ramp_percent between 0 and 100);
alter table pools add check ((ramp_build is null) = (ramp_percent is null));

-- The runs that were drawn for it. A table of its own: what no roll-out draws costs nothing, neither at a start nor at an end.
create table trials (
    run_id uuid not null,
    namespace text not null,
    pool text not null,
    build text not null,
    versioning text not null check (versioning in ('ByVersion', 'Pinned')),
    primary key (run_id, namespace)
);

create index trials_of_build on trials (namespace, pool, build, run_id);
