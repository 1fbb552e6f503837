"""HTTP. `edge/` takes requests in, `public/`, `worker/`, `operator/` and `health/` answer them, `http/` and `fairness/` is what they share."""
