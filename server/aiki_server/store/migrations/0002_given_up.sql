-- Children that the code of their parents cancelled, until they have been asked to end. A table of its own: a mark in the child's row
-- would lock it while its parent's batch holds its locks, out of the order of ids in which all batches take theirs.

create table child_cancellations (
    run_id uuid primary key                         -- lanes.note_child_cancellations, sweeps.child_cancellations: who cancels a child again changes nothing
);
