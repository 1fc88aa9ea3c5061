"""Certificates for 127.0.0.1 that are made anew for the tests."""

from __future__ import annotations

import functools
import ssl

import trustme


@functools.cache
def _authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def server_certificate() -> trustme.LeafCert:
    """Return a certificate and its key for 127.0.0.1 and localhost."""
    return _authority().issue_cert("127.0.0.1", "localhost")


def server_context() -> ssl.SSLContext:
    """Return what a server needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_certificate().configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    """Return what a client needs that trusts the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _authority().configure_trust(context)
    return context


def authority_pem() -> bytes:
    """Return the certificate of who has signed the server's."""
    return _authority().cert_pem.bytes()
