-- When registrations and settings of pools were last needed, to within some days; what nobody needs for long is forgotten (sql/unused.sql).
alter table registrations add column used_at timestamptz not null default now();
alter table pools add column used_at timestamptz not null default now();
