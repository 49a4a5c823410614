"""confluent-kafka (librdkafka) against secured listeners:
usage: confluent_security.py DIRECTORY SSL SASL_SSL

Comes in over TLS, with a certificate, and by every mechanism of SASL; then tries what must be
refused, and that it is told so. DIRECTORY holds ca.pem, client.crt, client.key, expired.*, jwks.key and
other.key. A certificate of a root that the broker does not name is never shown by librdkafka. Prints "ok" at the end.
"""

import base64
import json
import subprocess
import sys
import time
import uuid

from confluent_kafka import Consumer, KafkaError, Producer

DIRECTORY, SSL, SASL_SSL = sys.argv[1:]
DEADLINE = 60


def path(name):
    return f"{DIRECTORY}/{name}"


def tls(own=None):
    settings = {
        "bootstrap.servers": SSL,
        "security.protocol": "SSL",
        "ssl.ca.location": path("ca.pem"),
    }
    if own:
        settings["ssl.certificate.location"] = path(f"{own}.crt")
        settings["ssl.key.location"] = path(f"{own}.key")
    return settings


def sasl(mechanism, username="alice", password="alice-secret"):
    return {
        "bootstrap.servers": SASL_SSL,
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": path("ca.pem"),
        "sasl.mechanism": mechanism,
        "sasl.username": username,
        "sasl.password": password,
    }


def coded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(key="jwks.key", algorithm="RS256", **changes):
    claims = {"iss": "https://id.example", "aud": "kafka", "sub": "alice", "exp": time.time() + 600}
    parts = [{"alg": algorithm, "kid": "1"}, {**claims, **changes}]
    signed = ".".join(coded(json.dumps(part).encode()) for part in parts)
    if algorithm == "none":
        return signed + "."
    sign = ["openssl", "dgst", "-sha256", "-sign", path(key)]
    made = subprocess.run(sign, input=signed.encode(), stdout=subprocess.PIPE, check=True)
    return f"{signed}.{coded(made.stdout)}"


def bearer(text):
    settings = {
        "bootstrap.servers": SASL_SSL,
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": path("ca.pem"),
        "sasl.mechanism": "OAUTHBEARER",
        "oauth_cb": lambda _: (text, time.time() + 600),
    }
    return settings


def comes_in(name, settings):
    topic, value = f"secured-{uuid.uuid4().hex[:8]}", name.encode()
    producer = Producer(settings)
    producer.poll(0)
    producer.produce(topic, value)
    assert producer.flush(DEADLINE) == 0, f"{name}: not delivered"
    consumer = Consumer({**settings, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    end = time.monotonic() + DEADLINE
    got = None
    while got is None and time.monotonic() < end:
        got = consumer.poll(1)
        if got is not None and got.error():
            got = None
    assert got is not None and got.value() == value, f"{name}: not consumed"
    consumer.close()
    print(name, "came in")


def is_refused(name, settings, codes):
    seen = []
    producer = Producer({**settings, "error_cb": lambda error: seen.append(error)})
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and not any(error.code() in codes for error in seen):
        producer.poll(0.2)
    assert any(error.code() in codes for error in seen), f"{name}: {seen}"
    print(name, "was refused:", next(error for error in seen if error.code() in codes).str())


comes_in("TLS", tls())
comes_in("mTLS", tls("client"))
comes_in("PLAIN", sasl("PLAIN"))
comes_in("SCRAM-SHA-256", sasl("SCRAM-SHA-256"))
comes_in("SCRAM-SHA-512", sasl("SCRAM-SHA-512"))
comes_in("OAUTHBEARER", bearer(token()))

DENIED = {KafkaError._AUTHENTICATION}
BROKEN = {KafkaError._SSL, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}
for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]:
    is_refused(f"{mechanism}, wrong password", sasl(mechanism, password="wrong"), DENIED)
    is_refused(f"{mechanism}, nobody", sasl(mechanism, username="nobody"), DENIED)
is_refused("unsigned token", bearer(token(algorithm="none")), DENIED)
is_refused("foreign token", bearer(token(key="other.key")), DENIED)
is_refused("expired token", bearer(token(exp=time.time() - 600)), DENIED)
is_refused("token for others", bearer(token(aud="elsewhere")), DENIED)
is_refused("expired certificate", tls("expired"), BROKEN)
print("ok")
