"""A store that speaks S3 over TLS: moto behind a web server that keeps connections, with an authority of its own.

The bucket `kept` is there. What is in it lives as long as the process. /tmp/ca.crt is what clients are to trust.
"""

from __future__ import annotations

import ssl
import threading
import urllib.request

import trustme
from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server
from moto.server import DomainDispatcherApplication, create_backend_app

AUTHORITY, CERTIFICATE, KEY = "/tmp/ca.crt", "/tmp/tls.crt", "/tmp/tls.key"
PORT = 9000

authority = trustme.CA()
identity = authority.issue_cert("store", "localhost")
authority.cert_pem.write_to_path(AUTHORITY)
identity.private_key_pem.write_to_path(KEY)
identity.cert_chain_pems[0].write_to_path(CERTIFICATE)
server = Server(("0.0.0.0", PORT), DomainDispatcherApplication(create_backend_app), numthreads=8)
server.ssl_adapter = BuiltinSSLAdapter(CERTIFICATE, KEY)
server.prepare()
threading.Thread(target=server.serve).start()
trusted = ssl.create_default_context(cafile=AUTHORITY)
urllib.request.urlopen(urllib.request.Request(f"https://localhost:{PORT}/kept", method="PUT"), context=trusted).close()
print("ready", flush=True)
