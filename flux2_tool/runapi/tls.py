"""The certificate authorities that count, and what to do about a certificate that is not accepted.

The system's trust store counts, where companies put the authority of a proxy that inspects TLS, and so do certifi's
authorities, for systems without any. SSL_CERT_FILE and SSL_CERT_DIR replace both, as everywhere with OpenSSL.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import certifi

from flux2_tool._files import is_file, is_folder
from flux2_tool.exceptions import ConfigurationError

# Where distributions keep all authorities in one file; Python's OpenSSL may have been built for another one.
# Source: the candidates of Go's crypto/x509 and of truststore.
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
# Source: openssl/x509_vfy.h.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_OTHER_NAMES: Final = (62, 63, 64)


def tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return a client's TLS context, which checks certificates and names.

    Not as strict as Python 3.13's default about what a certificate must contain: the authorities of many inspecting
    proxies lack the key identifiers it wants, and worked before.

    Raises:
        ConfigurationError: SSL_CERT_FILE, SSL_CERT_DIR or SSLKEYLOGFILE cannot be used.
    """
    file, folders = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    if file or folders:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load_chosen(context, file, folders)
    else:
        context = _system_context()
        context.load_verify_locations(certifi.where())
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    log = environ.get("SSLKEYLOGFILE")
    if log:
        try:
            # OpenSSL finds out only when it has connected, and would wait for the reader of a pipe.
            keys = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
            try:
                context.keylog_filename = log
                os.write(keys, b"# flux2-tool\n")
            finally:
                os.close(keys)
        except OSError as exc:
            raise _unusable("SSLKEYLOGFILE", log, f"cannot be written ({exc.strerror})") from None
    return context


def _system_context() -> ssl.SSLContext:
    """Return a context that trusts what the system trusts."""
    if sys.platform == "darwin":  # pragma: no cover - macOS alone keeps its authorities in no file
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Not truststore here: it reads the authorities again for each connection, which takes 20 ms on the event loop.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Not set_default_verify_paths, which reads SSL_CERT_FILE and SSL_CERT_DIR of this process where they do not count.
    usual = ssl.get_default_verify_paths()
    if is_folder(Path(usual.openssl_capath)):
        context.load_verify_locations(capath=usual.openssl_capath)
    for bundle in (usual.openssl_cafile, *_BUNDLES):
        if is_file(Path(bundle)):
            try:
                context.load_verify_locations(bundle)
            except (OSError, ssl.SSLError):
                continue  # not readable, or no certificates: the next one, or certifi's alone
            break
    return context


def _load_chosen(context: ssl.SSLContext, file: str | None, folders: str | None) -> None:
    """Load the authorities of SSL_CERT_FILE and of the folders of SSL_CERT_DIR."""
    if file:
        if not is_file(Path(file)):
            what = (
                "is a folder" if is_folder(Path(file)) else "is no file" if os.path.lexists(file) else "does not exist"
            )
            raise _unusable("SSL_CERT_FILE", file, what)
        try:
            context.load_verify_locations(cafile=file)
        except ssl.SSLError:
            raise _unusable("SSL_CERT_FILE", file, "contains no certificate in PEM format") from None
        except OSError as exc:
            raise _unusable("SSL_CERT_FILE", file, f"cannot be read ({exc.strerror})") from None
    found = [folder for folder in (folders or "").split(os.pathsep) if folder and is_folder(Path(folder))]
    for folder in found:
        context.load_verify_locations(capath=folder)
    if not file and not found:
        raise _unusable("SSL_CERT_DIR", folders or "", "is not a folder")


def _unusable(variable: str, path: str, fault: str) -> ConfigurationError:
    return ConfigurationError(f"{variable} names {path}, which {fault}", hint=f"correct or unset {variable}")


def certificate_fault(exc: BaseException) -> ssl.SSLCertVerificationError | None:
    """Return the certificate's fault that caused a failed connection, if one did."""
    cause: BaseException | None = exc
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause


def describe_fault(fault: ssl.SSLCertVerificationError, host: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return what is wrong with a host's certificate, and what to do.

    Args:
        fault: What OpenSSL or macOS found.
        host: The host that was to be reached.
        environ: The environment variables.
    """
    code = getattr(fault, "verify_code", 0)
    reason = (getattr(fault, "verify_message", "") or str(fault)).rstrip(".")
    message = f"the certificate of {host} is not accepted: {reason}"
    if code in (_NOT_YET_VALID, _EXPIRED):
        return message, f"check this machine's clock; if it is right, {host} needs a new certificate"
    if code in _OTHER_NAMES:
        return message, f"another server responds at {host}: check the base URL, the proxy and the DNS"
    chosen = " and ".join(name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environ.get(name))
    if chosen:
        return message, f"{chosen} replaces the system's authorities and has none that signed it: add that one to it"
    return message, (
        "if a proxy here inspects TLS, add its authority to the system's trust store, or set SSL_CERT_FILE to a PEM "
        "file with it"
    )
