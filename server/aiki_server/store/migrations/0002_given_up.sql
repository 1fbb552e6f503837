-- Children that the code of their parents gave up, until they have been told to end. A table of its own: a mark in the child's row
-- would lock it while its parent's batch holds its locks, out of the order of ids in which all batches take theirs.

create table given_up (
    run_id uuid primary key                         -- lanes.give_up, sweeps.given_up: whoever gives a child up again changes nothing
);
