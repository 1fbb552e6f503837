"""What happens to runs: `service.py` puts the engine together, and each folder is one thing that it does.

From the top: `recovery` puts right what went wrong; `start`, `time`, `workers`, `watch` and `access` serve those who ask; `dispatch` decides
which worker gets which run; `redis` tells and hears; `commit` decides and writes; `runtime` has loops, clocks and batches.
"""
