"""Certificates for the fakes, from an authority made for the occasion."""

import ssl
from collections.abc import Iterable
from pathlib import Path

__all__ = ["context"]


def context(names: Iterable[str], ca: Path | None = None) -> ssl.SSLContext:
    """Make an authority and a certificate, and return what a TLS server needs.

    Parameters
    ----------
    names : iterable of str
        Host names and addresses that the certificate is for; one that begins with a dot, with any label before it.
    ca : Path, optional
        Where to write the authority's certificate, in PEM, for clients to trust.

    Returns
    -------
    SSLContext
        With a fresh key, for servers; clients trust it by the authority in `ca`.

    Raises
    ------
    OSError
        If `ca` can't be written.
    """
    import trustme  # 0.1 s, and only here

    authority = trustme.CA(organization_name="sendlab")
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    patterns = (f"*{name}" if name.startswith(".") else name for name in names)
    authority.issue_cert(*dict.fromkeys(patterns)).configure_cert(found)
    if ca is not None:
        ca.write_bytes(authority.cert_pem.bytes())
    return found
