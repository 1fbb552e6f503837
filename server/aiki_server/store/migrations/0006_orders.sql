-- Pauses, resumes and retries that were carried out, by the ids that their senders gave them: whatever repeats one later, it has no effect.
create table orders (
    run_id uuid not null,
    id text not null,
    primary key (run_id, id)
);

-- How often the worker has registered: an older registration that arrives late takes nothing from it.
alter table workers add column registered_no integer not null default 0;
