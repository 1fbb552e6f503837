-- What a run was promised when it started is kept: the builds of a pool that once was pinned go on reading the streams of their own.
-- Runs on a build are there wherever a pool has builds and was pinned before this; where it was not, a build reads some streams in vain.

alter table pools add column promised boolean not null default false;

update pools set promised = true;
