"""A request and its answer as handlers see them: connections, bodies, strict JSON, problem documents, rendering."""
