-- sweeps.unheard: runs that are to be cancelled and wait for somebody who tells their code.
create index runs_unheard on runs (id) where status = 'queued' and cancel_requested;
