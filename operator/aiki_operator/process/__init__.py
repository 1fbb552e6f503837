"""One replica of the operator from start to end: watches, leader election, probes; and `install`, which `helm install` waits for."""
